//! The fields of an event as JSON values, in their original order.

use std::fmt::Debug;

use serde_json::Value;
use tracing::field::{Field, Visit};

/// The message and the other fields of one event.
#[derive(Default)]
pub struct Fields {
    pub message: String,
    pub others: Vec<(&'static str, Value)>,
}

/// The field with a controller's own fields, as the text of a JSON object.
pub const GUEST_FIELDS: &str = "fields";

impl Fields {
    pub fn of(event: &tracing::Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    /// Removes and returns a field, if it is a string.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        let at = self.others.iter().position(|(field, value)| *field == name && value.is_string())?;
        match self.others.remove(at).1 {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (GUEST_FIELDS, Value::String(text)) => {
                // A line without fields.
                if !text.is_empty() {
                    let parsed = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    self.others.push((GUEST_FIELDS, parsed));
                }
            }
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
}
