//! The controller's name, a DNS label, from the names that a project has.

use crate::dns_label::dns_label_problem;

/// Names that say nothing about which controller it is.
const GENERIC: [&str; 11] = [
    "controller",
    "operator",
    "manager",
    "main",
    "app",
    "project",
    "cmd",
    "src",
    "controller-manager",
    "server",
    "my-controller",
];

/// The first of `names` that says something, as a DNS label; each with where it is from. A generic one is taken if
/// there are no others.
pub fn choose<'a>(names: &[(String, &'a str)]) -> Option<(String, &'a str)> {
    let labels = names.iter().filter_map(|(name, from)| Some((label(name)?, *from)));
    let labels: Vec<(String, &str)> = labels.collect();
    let telling = labels.iter().find(|(name, _)| !GENERIC.contains(&name.as_str()));
    telling.or(labels.first()).cloned()
}

/// Whether a name says nothing about which controller it is.
pub fn is_generic(name: &str) -> bool {
    label(name).is_none_or(|it| GENERIC.contains(&it.as_str()))
}

/// Makes a DNS label of a name.
fn label(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let mut text = String::new();
    for c in lower.chars() {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c != '-' || !text.ends_with('-') {
            text.push(c);
        }
    }
    let text: String = text.trim_matches('-').chars().take(63).collect();
    let text = text.trim_end_matches('-').to_owned();
    dns_label_problem(&text).is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels() {
        let long = "x".repeat(80);
        for (name, expected) in [
            ("Reloader", Some("reloader")),
            ("my_operator.v2", Some("my-operator-v2")),
            ("--a__b--", Some("a-b")),
            ("ü", None),
            ("", None),
            (&long, Some(&long[..63])),
        ] {
            assert_eq!(label(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_telling_name_is_preferred_to_a_generic_one() {
        for (names, expected) in [
            (vec!["site", "other"], Some("site")),
            (vec!["controller", "doc-controller"], Some("doc-controller")),
            (vec!["controller", "manager"], Some("controller")),
            (vec!["", "ü"], None),
        ] {
            let names: Vec<(String, &str)> = names.into_iter().map(|name| (name.to_owned(), "here")).collect();
            assert_eq!(choose(&names).map(|(name, _)| name).as_deref(), expected);
        }
    }
}
