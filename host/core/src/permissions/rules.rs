//! Renders rules as TOML for `wasmop.toml` and the configuration file.

use wasmop_package::manifest::PolicyRule;

/// A `[[table]]` block without a trailing newline.
pub fn render(table: &str, rule: &PolicyRule) -> String {
    let mut text = format!("[[{table}]]");
    for (key, values) in [
        ("non-resource-urls", &rule.non_resource_urls),
        ("api-groups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resource-names", &rule.resource_names),
        ("verbs", &rule.verbs),
    ] {
        if !values.is_empty() {
            text.push_str(&format!("\n{key} = [{}]", list(values)));
        }
    }
    text
}

/// A TOML array of strings. Accepted paths have no control characters, so Rust's escapes are valid TOML.
pub(super) fn list(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}
