//! The default state directory: `$XDG_STATE_HOME/wasmop`, else `~/.local/state/wasmop`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::error::failure;

/// The default directory for suspended controllers.
pub fn default_dir() -> Result<PathBuf> {
    choose(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME")).ok_or_else(|| {
        failure(
            "there is no directory for suspended controllers: neither XDG_STATE_HOME nor HOME is set",
            "give one with `--state-dir DIR`",
        )
        .into()
    })
}

/// Ignores relative and empty values, as the XDG specification requires.
fn choose(xdg_state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let usable = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = usable(xdg_state_home).or_else(|| usable(home).map(|home| home.join(".local/state")))?;
    Some(base.join("wasmop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_takes_precedence_over_home_and_relative_paths_are_ignored() {
        for (xdg, home, dir) in [
            (Some("/x"), Some("/h"), Some("/x/wasmop")),
            (None, Some("/h"), Some("/h/.local/state/wasmop")),
            (Some("x"), Some("/h"), Some("/h/.local/state/wasmop")),
            (Some(""), None, None),
        ] {
            assert_eq!(choose(xdg.map(OsString::from), home.map(OsString::from)), dir.map(PathBuf::from));
        }
    }
}
