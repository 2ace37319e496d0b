//! Where things are in this repository, and what all checkouts share.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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

/// wasmop's folder in the user's cache folder: tools that take long to get, shared by all checkouts.
pub fn user_cache() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache.context("there is no cache folder for tools\nhelp: set HOME or XDG_CACHE_HOME")?.join("wasmop"))
}
