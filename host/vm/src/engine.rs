//! The wasmtime engine that all guests share: its settings and the host functions of the world.

use std::sync::{Arc, OnceLock};

use wasmop_package::Tier;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, OptLevel};

use crate::address_space::{AddressSpace, AddressSpaceError};
use crate::epoch_ticker::{EpochTicker, Ticking};
use crate::memory::GUARD;
use crate::memory_creator::HostMemoryCreator;
use crate::memory_pool::MemoryPool;
use crate::step_context::StepContext;
use crate::{wasi_linker, world};

/// Settings, compiler and host functions. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    linker: Arc<Linker<StepContext>>,
    /// With WASI. Made for the first package of the soft tier.
    linker_with_wasi: Arc<OnceLock<Linker<StepContext>>>,
    ticker: Arc<EpochTicker>,
    memory_pool: Arc<MemoryPool>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused a setting, or the system a thread.
    #[error("cannot start the WebAssembly engine: {0}")]
    Start(String),
    /// No instance fits into the limit of the address space.
    #[error(transparent)]
    AddressSpace(#[from] AddressSpaceError),
}

impl Engine {
    /// An engine that compiles for speed of the code.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new() -> Result<Engine, EngineError> {
        Engine::with_opt_level(OptLevel::Speed)
    }

    /// An engine that compiles fast to slow code, for guests that run once.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn for_one_run() -> Result<Engine, EngineError> {
        Engine::with_opt_level(OptLevel::None)
    }

    fn with_opt_level(opt_level: OptLevel) -> Result<Engine, EngineError> {
        let fail = |e: wasmtime::Error| EngineError::Start(format!("{e:#}"));
        let address_space = AddressSpace::limited();
        if let Some(limited) = address_space.filter(|limited| limited.instances() == 0) {
            return Err(AddressSpaceError(limited).into());
        }
        let mut config = Config::new();
        config.wasm_component_model(true);
        config.epoch_interruption(true);
        // Every setting is part of the fingerprint in the names of compiled code: see `compiled_package`.
        config.cranelift_opt_level(opt_level);
        config.memory_init_cow(false);
        config.with_host_memory(Arc::new(HostMemoryCreator::new().map_err(EngineError::Start)?));
        config.memory_guard_size(GUARD as u64);
        // A memory grows in place: its owner holds its address.
        config.memory_may_move(false);
        let inner = wasmtime::Engine::new(&config).map_err(fail)?;
        let mut linker = Linker::new(&inner);
        world::Controller::add_to_linker::<_, HasSelf<StepContext>>(&mut linker, |context| context).map_err(fail)?;
        let ticker = EpochTicker::start(inner.clone()).map_err(|e| EngineError::Start(e.to_string()))?;
        // A pooled memory takes as much address space as an instance.
        let memory_pool = if address_space.is_some() { MemoryPool::none() } else { MemoryPool::default() };
        Ok(Engine {
            inner,
            linker: Arc::new(linker),
            linker_with_wasi: Arc::default(),
            ticker: Arc::new(ticker),
            memory_pool: Arc::new(memory_pool),
        })
    }

    /// Memories of suspended instances.
    pub fn memory_pool(&self) -> &MemoryPool {
        &self.memory_pool
    }

    /// The engine that compiles and runs.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// The host functions for guests of `tier`.
    pub(crate) fn linker(&self, tier: Tier) -> wasmtime::Result<&Linker<StepContext>> {
        if tier == Tier::Full {
            return Ok(&self.linker);
        }
        if let Some(linker) = self.linker_with_wasi.get() {
            return Ok(linker);
        }
        let mut linker = Linker::clone(&self.linker);
        wasi_linker::add_to_linker(&mut linker)?;
        Ok(self.linker_with_wasi.get_or_init(|| linker))
    }

    /// Interrupts running guests regularly while the guard lives.
    pub(crate) fn ticking(&self) -> Ticking<'_> {
        self.ticker.tick()
    }
}
