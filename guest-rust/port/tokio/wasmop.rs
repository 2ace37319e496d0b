//! What tokio needs of a wasmop guest, in which nothing may block: a place for the body of `main`, and help for code that
//! blocks nevertheless. The crate `wasmop-runtime` uses this module; it is not for programs.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::process::{ExitCode, Termination};

/// The body of `main`.
type Main = Pin<Box<dyn Future<Output = ExitCode>>>;

/// Sleeps in a step, before it is certain that the program sleeps in a loop. A step that ends sleeps a few times.
const MAX_SLEEPS: u32 = 1000;

std::thread_local! {
    static MAIN: RefCell<Option<Main>> = const { RefCell::new(None) };
    /// Sleeps since the beginning of the step. The clock does not advance in it.
    static SLEEPS: Cell<u32> = const { Cell::new(0) };
}

/// Keeps the body of `main` for the executor. `#[tokio::main]` expands to a call of this function.
pub fn main<F>(body: F)
where
    F: Future + 'static,
    F::Output: Termination,
{
    MAIN.set(Some(Box::pin(async move { body.await.report() })));
}

/// Returns the body of `main`, once.
pub fn take_main() -> Option<Main> {
    MAIN.take()
}

/// Begins a step.
pub fn begin_step() {
    SLEEPS.set(0);
}

/// Counts a sleep of the thread.
pub(crate) fn on_sleep() {
    SLEEPS.set(SLEEPS.get() + 1);
    if SLEEPS.get() > MAX_SLEEPS {
        cannot_block();
    }
}

/// Panics, because the thread would wait for ever.
pub(crate) fn cannot_block() -> ! {
    panic!("Runtime::block_on cannot wait in a wasmop guest")
}
