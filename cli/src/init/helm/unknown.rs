//! Values that only an installation of a chart decides, such as the release's namespace.
//!
//! An unknown value is a text with a mark in it. Text that is made with it contains the mark, too, so the mark arrives
//! in the YAML at the places that nobody knows.

use serde_json::Value;

/// The mark. It is a plain scalar in YAML.
pub const UNKNOWN: &str = "WASMOP-UNKNOWN";

/// An unknown value.
pub fn unknown() -> Value {
    UNKNOWN.into()
}

/// Whether a value, or a part of it, is unknown.
pub fn is_unknown(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(UNKNOWN),
        Value::Array(items) => items.iter().any(is_unknown),
        Value::Object(fields) => fields.values().any(is_unknown),
        _ => false,
    }
}

/// What a condition makes of a value; `None` if it is unknown.
pub fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Null => Some(false),
        Value::Bool(value) => Some(*value),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(text) if text == UNKNOWN => None,
        Value::String(text) => Some(!text.is_empty()),
        Value::Array(items) => Some(!items.is_empty()),
        Value::Object(fields) => Some(!fields.is_empty()),
    }
}
