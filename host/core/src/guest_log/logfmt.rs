//! Lines of `key=value` pairs.

use serde_json::{Map, Value};

use super::{Entry, level_of};

/// `time="…" level=info msg="text" key=value`.
pub(super) fn read(line: &str) -> Option<Entry<'_>> {
    if !line.contains("level=") && !line.contains("lvl=") {
        return None;
    }
    let mut fields = pairs(line)?;
    let mut take = |key: &str| match fields.remove(key)? {
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let message = take("msg").or_else(|| take("message"))?;
    let level = take("level").or_else(|| take("lvl"))?;
    let logger = take("logger").unwrap_or_default();
    ["time", "ts", "t"].iter().for_each(|key| drop(fields.remove(*key)));
    Some(Entry { level: level_of(&level), logger: logger.into(), message: message.into(), fields })
}

/// All pairs of a text that has nothing else. Values without quotes that are numbers or booleans become such.
pub(super) fn pairs(mut text: &str) -> Option<Map<String, Value>> {
    let mut pairs = Map::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Some(pairs);
        }
        let (key, rest) = text.split_once('=')?;
        let is_key = |c: char| !c.is_whitespace() && !matches!(c, '"' | '{' | '}' | '[' | ']');
        if key.is_empty() || !key.chars().all(is_key) {
            return None;
        }
        let value;
        if rest.starts_with('"') {
            let (quoted, after) = quoted(rest)?;
            (value, text) = (Value::String(quoted), after);
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (value, text) = (plain(&rest[..end]), &rest[end..]);
        }
        if !text.is_empty() && !text.starts_with(char::is_whitespace) {
            return None;
        }
        pairs.insert(key.to_owned(), value);
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        _ => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number),
    }
}

/// A string in double quotes at the beginning, and what follows. Go's escapes are nearly those of JSON.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    let (raw, rest) = (&inside[..end], &inside[end + 1..]);
    let value = serde_json::from_str(&text[..end + 2]).unwrap_or_else(|_| raw.to_owned());
    Some((value, rest))
}
