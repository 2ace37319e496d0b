//! Predicates: the first line is an expression, the rest is an object in JSON.
//!
//! The evaluation budget bounds the time. libFuzzer's `-timeout` and the time limit of `smoke` detect violations.

use wasmop_package::predicate::Predicate;

const OBJECT: &str = r#"{"metadata":{"name":"x","labels":{"a":"b"}},"spec":{"n":[1,2,3],"s":["p","q"],"t":"text"}}"#;

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (expression, object) = text.split_once('\n').unwrap_or((text, OBJECT));
    let Ok(predicate) = Predicate::new(expression) else { return };
    let first = predicate.passes(object, Some(OBJECT));
    assert_eq!(first, predicate.passes(object, Some(OBJECT)), "evaluation is deterministic");
    let _ = predicate.passes(object, None);
}
