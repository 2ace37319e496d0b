//! A `[controllers.NAME.wasi]` into what a controller of the soft tier is granted of the machine.

use std::collections::BTreeSet;
use std::path::Path;

use wasmop_vm::wasi::{Directory, WasiGrant};

use crate::error::Failure;
use crate::toml_table::Table;

pub(super) const KEYS: [&str; 1] = ["directories"];
pub(super) const DIRECTORY_KEYS: [&str; 3] = ["source", "destination", "writable"];

/// `dir`: what paths are relative to. `name`: the controller's.
pub(super) fn read(table: &Table<'_>, name: &str, dir: &Path) -> Result<WasiGrant, Failure> {
    if table.keys().any(|key| key == "environment") {
        return Err(table.bad_value(
            "environment",
            "controllers of both tiers have their environment elsewhere",
            format!("move it to [controllers.{name}.env]"),
        ));
    }
    table.only(&KEYS)?;
    let mut grant = WasiGrant::default();
    let shown = format!("[[controllers.{name}.wasi.directories]]");
    let mut destinations = BTreeSet::new();
    for directory in table.tables("directories", &shown)? {
        directory.only(&DIRECTORY_KEYS)?;
        let destination = directory.required("destination", "/data")?;
        if !destination.starts_with('/') {
            return Err(directory.bad_value(
                "destination",
                format!("`{destination}` is not absolute"),
                "write it as the controller is to find it, like `/data`",
            ));
        }
        if !destinations.insert(destination) {
            return Err(directory.bad_value(
                "destination",
                format!("`{destination}` is there twice"),
                "give each directory a destination of its own",
            ));
        }
        grant.directories.push(Directory {
            source: dir.join(directory.required("source", "DIRECTORY")?),
            destination: destination.to_owned(),
            writable: directory.boolean("writable")?.unwrap_or_default(),
        });
    }
    Ok(grant)
}
