//! Parses a YAML document of unknown origin.

use serde::Deserialize;
use serde_json::Value;

/// Brackets that may be open at once. The parser takes quadratic time for them; no manifest has so many.
const MAX_OPEN: usize = 1000;

/// The document as JSON. The parser itself limits the expansion of aliases and the depth of the value.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut open = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN {
            return Err("it is nested too deeply".to_owned());
        }
    }
    Value::deserialize(serde_norway::Deserializer::from_str(text)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_documents_are_errors() {
        let levels = (1..30).map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(9)));
        let bomb = format!("a0: &a0 [x]\n{}", levels.collect::<String>());
        for text in [&*"[".repeat(100_000), &"- ".repeat(100_000), &bomb, "a: [", "a: b\n---\nc: d\n"] {
            assert!(parse(text).is_err(), "{text:.20}");
        }
        assert_eq!(parse("a: [{b: 1}]").expect("valid"), serde_json::json!({"a": [{"b": 1}]}));
    }
}
