//! Reads package files. Errors name the file.

use std::path::Path;

use anyhow::Result;
use wasmop_package::{Inspection, Package};

use crate::error::{HelpExt, about, failure};

/// The contents of a readable file.
pub enum Loaded {
    Package(Box<Package>),
    /// Not a package. `name` comes from its manifest, if it has one.
    Refused {
        name: Option<String>,
        error: anyhow::Error,
    },
}

/// Reads and checks a package.
pub fn load(file: &Path) -> Result<Loaded> {
    let bytes = read(file)?;
    Ok(match Package::parse(&*bytes) {
        Ok(package) => Loaded::Package(package.into()),
        Err(error) => Loaded::Refused { name: Package::name_in(&bytes), error: about(shown(file), error).into() },
    })
}

/// Reads a package and describes its contents.
pub fn inspect(file: &Path) -> Result<Inspection> {
    let bytes = read(file)?;
    Ok(wasmop_package::inspect(&bytes).map_err(|error| about(shown(file), error))?)
}

fn shown(file: &Path) -> String {
    format!("`{}`", file.display())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let shown = shown(file);
    if file.is_dir() {
        return Err(failure(
            format!("{shown} is a directory, not a package"),
            "`wasmop build` puts a project's package at target/wasmop/NAME.wasm",
        )
        .into());
    }
    std::fs::read(file).or_help(
        format!("cannot read the package {shown}"),
        "`wasmop build` makes a package, at target/wasmop/NAME.wasm",
    )
}
