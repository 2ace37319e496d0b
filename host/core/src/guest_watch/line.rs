//! Reads an event of a watch as far as the host needs it.

use std::borrow::Cow;

use serde::Deserialize;

/// A line of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An object was added, modified or deleted. The version is `None` if it is not a number.
    Change(Option<u64>),
    /// Nothing has changed up to this version.
    Bookmark {
        /// `None` if it is not a number.
        version: Option<u64>,
        /// All objects that there were at the start of the watch have come.
        ends_list: bool,
    },
    /// The watch has failed and ends.
    Error,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    object: Object<'a>,
}

#[derive(Default, Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    annotations: Option<Annotations<'a>>,
}

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(borrow, default, rename = "k8s.io/initial-events-end")]
    initial_events_end: Cow<'a, str>,
}

impl Line {
    /// Reads a line in JSON.
    ///
    /// # Errors
    /// It is not a watch event.
    pub fn read(line: &[u8]) -> Result<Line, serde_json::Error> {
        let Event { kind, object } = serde_json::from_slice(line)?;
        let version = object.metadata.resource_version.parse().ok();
        Ok(match &*kind {
            "BOOKMARK" => {
                let ends_list = object.metadata.annotations.is_some_and(|it| it.initial_events_end == "true");
                Line::Bookmark { version, ends_list }
            }
            "ERROR" => Line::Error,
            _ => Line::Change(version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind_are_read() {
        for (line, expected) in [
            (r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}"#, Line::Change(Some(7))),
            (r#"{"object":{"spec":{},"metadata":{"resourceVersion":"8"}},"type":"DELETED"}"#, Line::Change(Some(8))),
            (r#"{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"x8"}}}"#, Line::Change(None)),
            (r#"{"type":"ADDED","object":{}}"#, Line::Change(None)),
            (
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":null}}}"#,
                Line::Bookmark { version: Some(9), ends_list: false },
            ),
            (
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9",
                    "annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
                Line::Bookmark { version: Some(9), ends_list: true },
            ),
            (r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}"#, Line::Error),
        ] {
            assert_eq!(Line::read(line.as_bytes()).unwrap(), expected, "{line}");
        }
        for line in ["", "{", "[]", r#"{"type":1,"object":{}}"#, "\u{0}"] {
            assert!(Line::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
