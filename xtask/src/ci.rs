//! Whether this is a CI machine, where tasks install the tools that they lack.

/// Whether `CI` is set and not empty.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
