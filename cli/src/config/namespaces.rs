//! The namespaces that watches are limited to: `namespace` as a name or a list of names.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::dns_label::{DNS_LABEL_HELP, dns_label_problem};
use crate::error::join_help;

/// A name on the command line.
pub(super) fn parse(text: &str) -> Result<String, String> {
    match dns_label_problem(text) {
        Some(problem) => Err(format!("the name {problem}; {DNS_LABEL_HELP}")),
        None => Ok(text.to_owned()),
    }
}

/// The key `namespace` of a table, sorted and without duplicates.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct NameOrNames;

    impl<'de> Visitor<'de> for NameOrNames {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            // The common form; a list may stand in its place.
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Vec<String>, A::Error> {
            Deserialize::deserialize(de::value::SeqAccessDeserializer::new(names))
        }
    }

    let wrong = |problem: &str, help: &str| Err(de::Error::custom(join_help(problem, help)));
    let mut names = deserializer.deserialize_any(NameOrNames)?;
    if names.is_empty() {
        return wrong("it names none", "name at least one, or leave the key out for all");
    }
    if let Some((name, problem)) = names.iter().find_map(|name| Some((name, dns_label_problem(name)?))) {
        return wrong(&format!("`{name}`: the name {problem}"), DNS_LABEL_HELP);
    }
    names.sort_unstable();
    names.dedup();
    Ok(Some(names))
}
