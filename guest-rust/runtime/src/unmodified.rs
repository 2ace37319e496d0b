//! The `main` of a program that does not know wasmop.
//!
//! Its function `main` would block the thread until the program ends, but a step must return. So `wasmop build` changes
//! two things. The linker's `--wrap` makes the module's start do nothing, and the event `start` calls the real `main`. In
//! there, the ported `#[tokio::main]` keeps the async body instead of blocking on it, and this module runs the body as a
//! task.

use std::pin::Pin;

use crate::executor::{self, Start};

unsafe extern "C" {
    /// The program's `main`, including the start of the standard library. Returns the exit code.
    #[link_name = "__real___main_void"]
    safe fn real_main() -> i32;
}

/// Takes the place of the program's `main` while the base image is created, where neither the environment, the time nor
/// random numbers are available.
#[unsafe(export_name = "__wrap___main_void")]
extern "C" fn main_of_the_base_image() -> i32 {
    0
}

/// Runs the program's `main`. Returns the async body of the function with `#[tokio::main]`.
pub fn start(start: &Start) -> Pin<Box<dyn Future<Output = ()>>> {
    executor::log_panics();
    // The host's log is no terminal, but WASI has no way to say so.
    set_default("NO_COLOR", "1");
    if let Some(level) = &start.log_level {
        set_default("RUST_LOG", level);
    }
    let code = real_main();
    match tokio::wasmop::take_main() {
        Some(main) => Box::pin(executor::run_to_end(main)),
        None if code == 0 => panic!("the function main has returned"),
        None => panic!("the function main has returned an error"),
    }
}

/// Sets an environment variable that the owner of the host has not set.
fn set_default(name: &str, value: &str) {
    if std::env::var_os(name).is_none_or(|value| value.is_empty()) {
        // SAFETY: the guest has a single thread.
        unsafe { std::env::set_var(name, value) };
    }
}
