//! Where things are in this repository.

use std::env;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository")
}

pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The `wasmop` program, once `command::build_wasmop` has built it.
pub fn wasmop() -> PathBuf {
    target().join("release/wasmop")
}

/// One target directory for all Rust guests, so that they share what they depend on.
pub fn guest_target() -> PathBuf {
    target().join("guests")
}
