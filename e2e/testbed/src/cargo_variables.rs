//! Environment variables that a nested cargo must not inherit.
//!
//! Cargo sets them for the programs it starts. Build scripts watch them, so a cargo started by such a program would run
//! the scripts again and recompile their dependents. A direct call of cargo would then do the same.

use std::process::Command;

/// Variables that cargo sets for the programs it runs. They are not settings of the user.
const SET_BY_CARGO: [&str; 5] =
    ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// Removes them from the environment of `command`.
pub fn remove(command: &mut Command) {
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if SET_BY_CARGO.contains(&name.as_str()) || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_EXE_")
        {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_this_test_are_removed_and_settings_of_the_user_stay() {
        let mut command = Command::new("true");
        remove(&mut command);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.iter().any(|name| *name == "CARGO_MANIFEST_DIR"), "{removed:?}");
        assert!(removed.iter().any(|name| *name == "CARGO_PKG_NAME"), "{removed:?}");
        assert!(!removed.iter().any(|name| *name == "CARGO_HOME" || *name == "CARGO"), "{removed:?}");
    }
}
