//! Paths in this repository, and the folder that all checkouts share.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository")
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// One target directory for all Rust guests, so that they share their dependencies.
pub fn guest_target() -> PathBuf {
    target().join("guests")
}

/// wasmop's folder in the user's cache folder. It has tools that take long to build, and all checkouts share it.
///
/// # Errors
///
/// The environment names no cache folder.
pub fn user_cache() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(cache.context("there is no cache folder for tools\nhelp: set HOME or XDG_CACHE_HOME")?.join("wasmop"))
}
