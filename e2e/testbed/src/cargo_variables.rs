//! A cargo started by a program that cargo has started must not see what was set for the latter:
//! build scripts watch these variables, and would run, and recompile what depends on them, each time
//! somebody calls cargo the other way.

use std::process::Command;

/// What cargo sets for the programs it runs and is no setting of the user's.
const SET_BY_CARGO: [&str; 5] =
    ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// Has `command` start without them.
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
    fn what_cargo_has_set_for_this_test_is_removed_and_the_users_settings_stay() {
        let mut command = Command::new("true");
        remove(&mut command);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.iter().any(|name| *name == "CARGO_MANIFEST_DIR"), "{removed:?}");
        assert!(removed.iter().any(|name| *name == "CARGO_PKG_NAME"), "{removed:?}");
        assert!(!removed.iter().any(|name| *name == "CARGO_HOME" || *name == "CARGO"), "{removed:?}");
    }
}
