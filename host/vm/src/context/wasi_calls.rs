//! What a guest of the soft tier calls of WASI 0.2.
//!
//! A step must not hold its thread for ever, and epochs can't interrupt the host. So `wasi:io/poll`
//! is our own: time spent waiting counts as CPU time of the step, and its limit ends the wait. That
//! is the only place where a guest can wait: a file is always ready, and no other stream or socket exists.

use std::time::Instant;

use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll as async_poll;

use super::Context;
use crate::step_scheduler;
use crate::wasi::Wasi;

/// Everything WASI has, as far as [`Wasi::granting`] lets it.
pub(crate) fn add_to_linker(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasSelf<Context>>(linker, |context| context)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { ctx, table, .. } = self.wasi();
        WasiCtxView { ctx, table }
    }
}

impl Context {
    /// Waits for what a pollable says, at most for what is left of the step's CPU time.
    fn wait<T>(&mut self, until: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>) -> wasmtime::Result<T> {
        let left = self.cpu_left();
        let begun = Instant::now();
        let table = &mut self.wasi().table;
        let result = step_scheduler::aside(|| in_tokio(async { tokio::time::timeout(left, until(table)).await }));
        self.spend(begun.elapsed());
        match result {
            Ok(result) => result,
            Err(_) => Err(self.cpu_limit_reached("waited and computed for")),
        }
    }
}

impl poll::Host for Context {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(async |table| async_poll::Host::poll(table, pollables).await)
    }
}

impl poll::HostPollable for Context {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(&mut self.wasi().table, pollable)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(async |table| async_poll::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.wasi().table, pollable)
    }
}
