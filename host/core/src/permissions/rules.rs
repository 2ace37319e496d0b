//! Rules as the TOML that `wasmop.toml` and the configuration file have them in.

use wasmop_package::manifest::PolicyRule;

/// A `[[table]]` block without a newline at its end.
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

/// Strings in a TOML array. What stands in a path that was let through has no control characters, so that
/// Rust's escapes and TOML's are the same.
pub(super) fn list(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}
