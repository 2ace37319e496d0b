//! Loggers that print a JSON object a line.

use serde_json::{Map, Value};

use super::{Entry, level_of};

/// Keys of the message, by precedence.
const MESSAGE: [&str; 2] = ["msg", "message"];
const LEVEL: [&str; 4] = ["level", "severity", "lvl", "levelname"];
const LOGGER: [&str; 2] = ["logger", "target"];
const TIME: [&str; 4] = ["ts", "time", "timestamp", "@timestamp"];

/// `{"level":"info","msg":"text","key":"value"}`. tracing-subscriber puts the message into `fields`.
pub(super) fn read(line: &str) -> Option<Entry<'_>> {
    if !line.starts_with('{') {
        return None;
    }
    let mut all: Map<String, Value> = serde_json::from_str(line).ok()?;
    if let Some(Value::Object(fields)) = all.remove("fields") {
        all.extend(fields);
    }
    let mut take = |keys: &[&str]| keys.iter().find_map(|key| text(all.remove(*key)?));
    let message = take(&MESSAGE)?;
    let level = take(&LEVEL);
    let logger = take(&LOGGER).unwrap_or_default();
    TIME.iter().for_each(|key| drop(all.remove(*key)));
    let level = level.as_deref().and_then(level_of);
    Some(Entry { level, logger: logger.into(), message: message.into(), fields: all })
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
