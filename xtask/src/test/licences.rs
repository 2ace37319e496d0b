//! Checks that every crate we depend on has a licence that goes with Apache-2.0, and comes from
//! the registry.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command;

const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// A list of root certificates, not code: its licence asks for nothing of programs that carry it.
const ALLOWED_DATA: &str = "CDLA-Permissive-2.0";

pub fn check() -> Result<()> {
    for manifest in ["Cargo.toml", "guest-rust/Cargo.toml"] {
        let metadata =
            command::output(command::cargo().args(["metadata", "--format-version", "1", "--manifest-path", manifest]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("reading cargo metadata")?;
        let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
        let problems: Vec<String> = packages.iter().filter_map(problem).collect();
        if !problems.is_empty() {
            bail!("{manifest}:\n{}", problems.join("\n"));
        }
    }
    Ok(())
}

fn problem(package: &Value) -> Option<String> {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    let name = format!("{} {}", text("name"), text("version"));
    if !text("source").is_empty() && !text("source").starts_with("registry+") {
        return Some(format!("{name} comes from {}, not from the registry", text("source")));
    }
    (!allowed(text("license")))
        .then(|| format!("{name} has the licence `{}`, which is not among those allowed", text("license")))
}

/// Evaluates an SPDX expression: `OR` (or the old `/`) asks for one side, `AND` for both, and
/// parentheses are only ever put around a list of `OR`.
fn allowed(expression: &str) -> bool {
    let expression = expression.trim();
    let parts = top_level(expression, &[" AND "]);
    if parts.len() > 1 {
        return parts.into_iter().all(allowed);
    }
    let parts = top_level(expression, &[" OR ", "/"]);
    if parts.len() > 1 {
        return parts.into_iter().any(allowed);
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => ALLOWED.contains(&expression) || expression == ALLOWED_DATA,
    }
}

/// Splits at any of `separators` that is not inside parentheses.
fn top_level<'a>(expression: &'a str, separators: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= begin => {
                if let Some(separator) = separators.iter().find(|separator| expression[at..].starts_with(**separator)) {
                    parts.push(&expression[begin..at]);
                    begin = at + separator.len();
                }
            }
            _ => {}
        }
    }
    parts.push(&expression[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated_as_spdx_means_them() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(GPL-2.0 OR LGPL-3.0) AND MIT", false),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("Apache-2.0 AND ISC", true),
            ("", false),
        ] {
            assert_eq!(allowed(expression), expected, "{expression}");
        }
    }
}
