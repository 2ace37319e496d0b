//! Package files from disk, with errors that name the file.

use std::path::Path;

use anyhow::Result;
use wasmop_package::{Inspection, Package, PackageError};

use crate::error::{HelpExt, about, failure};

/// Reads and checks a package.
pub fn load(file: &Path) -> Result<Package> {
    with(file, Package::parse)
}

/// Reads a package and measures it.
pub fn inspect(file: &Path) -> Result<Inspection> {
    with(file, |bytes| wasmop_package::inspect(&bytes))
}

fn with<T>(file: &Path, read: impl FnOnce(Vec<u8>) -> Result<T, PackageError>) -> Result<T> {
    let shown = format!("`{}`", file.display());
    if file.is_dir() {
        return Err(failure(
            format!("{shown} is a directory, not a package"),
            "`wasmop build` puts a project's package at target/wasmop/NAME.wasm",
        )
        .into());
    }
    let bytes = std::fs::read(file).or_help(
        format!("cannot read the package {shown}"),
        "`wasmop build` makes a package, at target/wasmop/NAME.wasm",
    )?;
    Ok(read(bytes).map_err(|error| about(&shown, error))?)
}
