//! Environment variables and arguments of a controller: from `wasmop.toml`, the configuration file and flags.

use std::collections::BTreeMap;

use tracing::level_filters::LevelFilter;
use wasmop_package::manifest::env_problem;

use crate::error::Failure;
use crate::toml_table::Table;

pub const ENV: &str = "env";
pub const ARGS: &str = "args";

const ENV_HELP: &str = "write variables as `NAME = \"VALUE\"`";

/// The table `env` in a file; `shown` is how errors call it.
pub fn table(parent: &Table<'_>, shown: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    let Some(table) = parent.table(ENV, shown)? else { return Ok(env) };
    for name in table.keys() {
        let value = table.required(name, "VALUE")?;
        if let Some(problem) = env_problem(name, value) {
            return Err(table.bad_value(name, problem, ENV_HELP));
        }
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok(env)
}

/// The list `args` in a file, if it is there.
pub fn args(parent: &Table<'_>) -> Result<Option<Vec<String>>, Failure> {
    if !parent.keys().any(|key| key == ARGS) {
        return Ok(None);
    }
    let args = parent.strings(ARGS)?;
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(parent.bad_value(ARGS, "an argument has a NUL character", "leave it out"));
    }
    Ok(Some(args))
}

/// `NAME=VALUE` on the command line.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    match env_problem(name, value) {
        Some(problem) => Err(problem.into()),
        None => Ok((name.to_owned(), value.to_owned())),
    }
}

/// A log level by its name.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    let is_name = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
    text.parse().ok().filter(|_| is_name).ok_or_else(|| format!("`{text}` is not a log level"))
}

/// What a wrong log level should have been.
pub const LOG_LEVEL_HELP: &str = "write `off`, `error`, `warn`, `info`, `debug` or `trace`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_on_the_command_line_has_a_name_and_any_value() {
        for (text, expected) in [
            ("A=1", Some(("A", "1"))),
            ("A=", Some(("A", ""))),
            ("A=x=y z", Some(("A", "x=y z"))),
            ("A", None),
            ("=1", None),
            ("A\0=1", None),
            ("A=1\0", None),
        ] {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(variable(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn log_levels_are_lower_case_names() {
        for level in ["off", "error", "warn", "info", "debug", "trace"] {
            assert_eq!(log_level(level).unwrap().to_string(), level);
        }
        for text in ["", "DEBUG", "3", "verbose"] {
            assert!(log_level(text).is_err(), "{text}");
        }
    }
}
