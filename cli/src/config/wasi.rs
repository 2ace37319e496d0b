//! `[controllers.NAME.wasi]`: the files of the machine that a controller of the soft tier can open.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use wasmop_vm::wasi::{Directory, WasiGrant};

use crate::error::Failure;
use crate::toml_file::value::tables;
use crate::toml_file::{Document, item};

/// The keys of `[controllers.NAME.wasi]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WasiKeys {
    #[serde(deserialize_with = "tables")]
    directories: Vec<DirectoryKeys>,
    /// Not supported here; the error names the right place.
    environment: Option<IgnoredAny>,
}

/// The keys of `[[controllers.NAME.wasi.directories]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoryKeys {
    source: Option<PathBuf>,
    destination: Option<String>,
    writable: bool,
}

impl WasiKeys {
    /// Checks the keys together, and makes the paths on the machine relative to `dir`. `name` is the controller's.
    pub(super) fn check(&mut self, document: &Document<'_>, name: &str, dir: &Path) -> Result<(), Failure> {
        let path = ["controllers", name, "wasi"];
        if self.environment.is_some() {
            return Err(document.wrong(
                &[&path[..], &["environment"]].concat(),
                "controllers of both tiers have their environment elsewhere",
                format!("move it to [controllers.{name}.env]"),
            ));
        }
        let mut destinations = BTreeSet::new();
        for (position, directory) in self.directories.iter_mut().enumerate() {
            let position = item(position);
            let key = |key| [&path[..], &["directories", &position, key]].concat();
            let Some(destination) = &directory.destination else {
                return Err(document.missing(&key("destination"), "/data"));
            };
            if !destination.starts_with('/') {
                return Err(document.wrong(
                    &key("destination"),
                    format!("`{destination}` is not absolute"),
                    "write the path that the controller opens, like `/data`",
                ));
            }
            if !destinations.insert(destination) {
                return Err(document.wrong(
                    &key("destination"),
                    format!("`{destination}` is there twice"),
                    "give each directory a destination of its own",
                ));
            }
            let Some(source) = &mut directory.source else {
                return Err(document.missing(&key("source"), "DIRECTORY"));
            };
            *source = dir.join(&source);
        }
        Ok(())
    }

    /// The owner's grant for the controller.
    pub(super) fn to_grant(&self) -> WasiGrant {
        let directories = self.directories.iter().map(|keys| Directory {
            source: keys.source.clone().unwrap_or_default(),
            destination: keys.destination.clone().unwrap_or_default(),
            writable: keys.writable,
        });
        WasiGrant { directories: directories.collect() }
    }
}
