//! Environment variables and arguments of a controller, in `wasmop.toml`, the configuration file and flags.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use wasmop_package::manifest::env_problem;

use crate::toml_file::value::{Text, Written};

/// A variable's name and its value, each checked by itself so that an error has its line.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);
struct Value(String);
struct Argument(String);

const ENV_HELP: &str = "write variables as `NAME = \"VALUE\"`";

impl Written for Name {
    const HELP: &'static str = ENV_HELP;

    fn parse(text: &str) -> Result<Name, String> {
        env_problem(text, "").map_or_else(|| Ok(Name(text.to_owned())), |problem| Err(problem.to_owned()))
    }
}

impl Written for Value {
    const HELP: &'static str = ENV_HELP;

    fn parse(text: &str) -> Result<Value, String> {
        env_problem("NAME", text).map_or_else(|| Ok(Value(text.to_owned())), |problem| Err(problem.to_owned()))
    }
}

impl Written for Argument {
    const HELP: &'static str = "leave it out";

    fn parse(text: &str) -> Result<Argument, String> {
        if text.contains('\0') { Err("an argument has a NUL character".into()) } else { Ok(Argument(text.to_owned())) }
    }
}

/// The table `env` of a file.
pub fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let variables = BTreeMap::<Text<Name>, Text<Value>>::deserialize(deserializer)?;
    Ok(Some(variables.into_iter().map(|(Text(Name(name)), Text(Value(value)))| (name, value)).collect()))
}

/// The list `args` of a file.
pub fn arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let arguments = Vec::<Text<Argument>>::deserialize(deserializer)?;
    Ok(Some(arguments.into_iter().map(|Text(Argument(argument))| argument).collect()))
}

/// `NAME=VALUE` on the command line.
pub fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    match env_problem(name, value) {
        Some(problem) => Err(problem.into()),
        None => Ok((name.to_owned(), value.to_owned())),
    }
}

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
}
