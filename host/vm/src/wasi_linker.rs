//! Links WASI 0.2 for packages of the soft tier, with a `wasi:io/poll` of our own.
//!
//! Epochs cannot interrupt host functions, so a guest that waits could hold its thread for ever. In our `poll`, waiting
//! counts as CPU time of the step, and the CPU limit ends it. A guest can wait nowhere else: files are always ready, and
//! there are no other streams or sockets.

use std::time::Instant;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll as async_poll;

use crate::step_context::StepContext;
use crate::step_scheduler;

/// Links all of WASI 0.2. [`crate::wasi::Wasi`] decides what works.
pub(crate) fn add_to_linker(linker: &mut Linker<StepContext>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasSelf<StepContext>>(linker, |context| context)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for StepContext {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().view()
    }
}

impl StepContext {
    /// Waits until `until` is done, at most for the rest of the step's CPU time.
    fn wait<T>(&mut self, until: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>) -> wasmtime::Result<T> {
        let left = self.cpu_left();
        let begun = Instant::now();
        let table = self.wasi().table();
        let result =
            step_scheduler::without_run_slot(|| in_tokio(async { tokio::time::timeout(left, until(table)).await }));
        self.spend(begun.elapsed());
        match result {
            Ok(result) => result,
            Err(_) => Err(self.cpu_limit_reached("waited and computed for")),
        }
    }
}

impl poll::Host for StepContext {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(async |table| async_poll::Host::poll(table, pollables).await)
    }
}

impl poll::HostPollable for StepContext {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.wasi().table(), pollable)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(async |table| async_poll::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.wasi().table(), pollable)
    }
}
