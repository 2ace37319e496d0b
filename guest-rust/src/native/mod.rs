//! The same program without a host: tokio's runtime, logging to stderr, kube-runtime's controller.

pub mod controller;
#[cfg(not(test))]
pub mod fetch;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

static NAME: OnceLock<&str> = OnceLock::new();

/// The controller's name. In a wasmop host it is the `name` in `wasmop.toml`; natively that of the
/// crate whose `main` has [`macro@crate::main`].
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or_default()
}

/// Logs to stderr what the environment variable `RUST_LOG` allows (`info` if it is not set).
/// Called by [`macro@crate::main`]; does nothing if a subscriber has been set already.
pub fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}

/// Runs the user's `main`.
///
/// # Panics
///
/// If the system has no threads left for the runtime.
pub fn run<F: Future>(name: &'static str, main: fn() -> F) -> F::Output {
    let _ = NAME.set(name);
    init_logging();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system has threads left for the runtime")
        .block_on(main())
}
