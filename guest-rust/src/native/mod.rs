//! The native implementation: tokio's runtime, logging to stderr, and kube-runtime's controller.

pub mod controller;
#[cfg(not(test))]
pub mod fetch;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

static NAME: OnceLock<&str> = OnceLock::new();

/// Returns the controller's name.
///
/// In a wasmop host this is `name` in `wasmop.toml`. Natively it is the name of the crate whose `main` has
/// [`macro@crate::main`].
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or_default()
}

/// Logs to stderr, filtered by the environment variable `RUST_LOG`. The default is `info`.
///
/// [`macro@crate::main`] calls this function. It does nothing if a global subscriber is already set.
pub fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}

/// Runs the user's `main` on a multi-threaded runtime.
///
/// # Panics
///
/// Panics if the system cannot start the runtime's threads.
pub fn run<F: Future>(name: &'static str, main: fn() -> F) -> F::Output {
    let _ = NAME.set(name);
    init_logging();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system can start the threads of the runtime")
        .block_on(main())
}
