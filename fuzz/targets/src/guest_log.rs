//! Texts that a program printed.

use wasmop_core::guest_log::read;
use wasmop_core::step::LogLine;

pub fn target(data: &[u8]) {
    let message = String::from_utf8_lossy(data).into_owned();
    let printed = LogLine { level: tracing::Level::INFO, target: "stderr".into(), message, fields: String::new() };
    let lines = read(&printed);
    assert!(!lines.is_empty());
    for line in lines.iter() {
        assert!(line.fields.is_empty() || serde_json::from_str::<serde_json::Value>(&line.fields).is_ok());
        assert!(!line.target.is_empty());
    }
    // What a logger gave to the host is kept.
    let given = LogLine { target: "app".into(), ..printed };
    let [kept] = &read(&given)[..] else { panic!("not one line") };
    assert_eq!(kept.message, given.message);
}
