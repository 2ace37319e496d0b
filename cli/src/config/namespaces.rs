//! The namespaces that watches are limited to: `namespace` as a name or a list of names.

use crate::error::Failure;
use crate::project::{DNS_LABEL_HELP, dns_label_problem};
use crate::toml_table::Table;

const KEY: &str = "namespace";

/// A name on the command line.
pub(super) fn parse(text: &str) -> Result<String, String> {
    match dns_label_problem(text) {
        Some(problem) => Err(format!("the name {problem}; {DNS_LABEL_HELP}")),
        None => Ok(text.to_owned()),
    }
}

/// The key `namespace` of a table; empty if it is not there.
pub(super) fn read(table: &Table<'_>) -> Result<Vec<String>, Failure> {
    let is_there = table.keys().any(|key| key == KEY);
    // Anything else is told by what most write.
    let mut names = match table.is_list(KEY) {
        true => table.strings(KEY)?,
        false => table.string(KEY)?.map(str::to_owned).into_iter().collect(),
    };
    if is_there && names.is_empty() {
        return Err(table.bad_value(KEY, "it names none", "name at least one, or leave the key out for all"));
    }
    if let Some((name, problem)) = names.iter().find_map(|name| Some((name, dns_label_problem(name)?))) {
        return Err(table.bad_value(KEY, format!("`{name}`: the name {problem}"), DNS_LABEL_HELP));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
