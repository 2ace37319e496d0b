//! The wasmtime engine all guests share: its settings, the host functions of the world, and the
//! clock that ends steps which use too much CPU.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmop_package::Tier;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, OptLevel};

use crate::address_space::{AddressSpace, AddressSpaceError};
use crate::guest::Context;
use crate::memory::{Creator, GUARD};
use crate::memory_pool::Spares;

pub(crate) mod world {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wasmop:controller/controller",
        // So that what goes past a limit ends the step instead of getting lost.
        imports: { default: trappable },
    });
}

/// How often a running step is interrupted to look at the CPU time it has used. The limit is
/// overrun by at most this much.
pub const CPU_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Settings, compiler and host functions. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    linker: Arc<Linker<Context>>,
    /// With WASI; made when the first package needs it.
    linker_with_wasi: Arc<OnceLock<Linker<Context>>>,
    ticker: Arc<Ticker>,
    spares: Arc<Spares>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("cannot start the WebAssembly engine: {0}")]
    Start(String),
    #[error(transparent)]
    AddressSpace(#[from] AddressSpaceError),
}

impl Engine {
    pub fn new() -> Result<Engine, EngineError> {
        Engine::with_opt_level(OptLevel::Speed)
    }

    /// Compiles faster, to code that is slower: for running something once.
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
        // Several engines of other builds may share a cache directory: see `code::CodeCache`.
        config.cranelift_opt_level(opt_level);
        config.memory_init_cow(false);
        config.with_host_memory(Arc::new(Creator::new().map_err(EngineError::Start)?));
        config.memory_guard_size(GUARD as u64);
        // Linear memories are recreated, never moved.
        config.memory_may_move(false);
        let inner = wasmtime::Engine::new(&config).map_err(fail)?;
        let mut linker = Linker::new(&inner);
        world::Controller::add_to_linker::<_, HasSelf<Context>>(&mut linker, |context| context).map_err(fail)?;
        let ticker = Ticker::start(inner.clone()).map_err(|e| EngineError::Start(e.to_string()))?;
        // Each spare memory takes the place of an instance.
        let spares = Arc::new(if address_space.is_some() { Spares::none() } else { Spares::default() });
        Ok(Engine { inner, linker: Arc::new(linker), linker_with_wasi: Arc::default(), ticker, spares })
    }

    /// Memories to be used again.
    pub fn spares(&self) -> &Spares {
        &self.spares
    }

    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(crate) fn linker(&self, tier: Tier) -> wasmtime::Result<&Linker<Context>> {
        if tier == Tier::Full {
            return Ok(&self.linker);
        }
        if let Some(linker) = self.linker_with_wasi.get() {
            return Ok(linker);
        }
        let mut linker = Linker::clone(&self.linker);
        crate::wasi::add_to_linker(&mut linker)?;
        Ok(self.linker_with_wasi.get_or_init(|| linker))
    }

    /// While the guard lives, epochs advance every [`CPU_CHECK_INTERVAL`].
    pub(crate) fn ticking(&self) -> Ticking<'_> {
        self.ticker.enter();
        Ticking(&self.ticker)
    }
}

/// A thread that advances the engine's epoch while at least one step runs, and sleeps otherwise:
/// an idle host makes no wake-ups.
struct Ticker {
    running: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Thread,
}

pub(crate) struct Ticking<'a>(&'a Ticker);

impl Drop for Ticker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Arc<Ticker>> {
        let running = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (counter, has_ended) = (running.clone(), ended.clone());
        let weak = engine.weak();
        drop(engine);
        let handle = thread::Builder::new().name("wasmop-epoch".into()).spawn(move || {
            loop {
                if counter.load(Ordering::SeqCst) == 0 {
                    thread::park();
                } else {
                    thread::sleep(CPU_CHECK_INTERVAL);
                }
                match weak.upgrade() {
                    Some(engine) if !has_ended.load(Ordering::SeqCst) => engine.increment_epoch(),
                    _ => return,
                }
            }
        })?;
        Ok(Arc::new(Ticker { running, ended, thread: handle.thread().clone() }))
    }

    fn enter(&self) {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.thread.unpark();
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
