//! Reads the configuration file into a checked [`Config`]. A test compares the keys with `docs/config.md`.

use std::path::Path;

use anyhow::{Context, Result};

use super::host_keys::{ControllerName, HostKeys};
use super::{Config, Controller};
use crate::error::{Failure, HelpExt};
use crate::toml_file::value::{AllOr, Text};
use crate::toml_file::{Document, item};

/// Names the top level in errors.
const TOP: &str = "the configuration file";
const DOCS: &str = "docs/config.md";

/// Reads a configuration file.
pub fn load(file: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(file).or_help(
        format!("cannot read the configuration file `{}`", file.display()),
        format!("it must be a TOML file you may read; {DOCS} shows one"),
    )?;
    let absolute = std::path::absolute(file).with_context(|| format!("cannot find `{}`", file.display()))?;
    Ok(parse(file, absolute.parent().unwrap_or(Path::new("/")), &text)?)
}

/// Paths are relative to `dir`.
pub(super) fn parse(file: &Path, dir: &Path, text: &str) -> Result<Config, Failure> {
    let document = Document::parse(file, text, Some(TOP), DOCS)?;
    let mut host: HostKeys = document.read()?;
    host.resolve_paths(dir);
    let controllers = host.controllers.take().unwrap_or_default();
    let mut config = Config { host, ..Config::default() };
    for (Text(ControllerName(name)), mut keys) in controllers {
        keys.resolve_paths(dir);
        if let Some(wasi) = &mut keys.wasi {
            wasi.check(&document, &name, dir)?;
        }
        if let Some(AllOr::Only(rules)) = &keys.grant {
            for (position, rule) in rules.iter().enumerate() {
                rule.check(&document, &["controllers", &name, "grant", &item(position)])?;
            }
        }
        let place = document.place(&["controllers", &name]);
        config.controllers.insert(name, Controller { place, keys });
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
