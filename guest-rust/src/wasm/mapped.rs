//! What watched objects were mapped to last.

use std::collections::HashMap;

use serde::Deserialize;

/// What a controller's mappers have returned for each watched object.
///
/// A change concerns what the object was mapped to before as well as what it is mapped to now.
#[derive(Debug, Default)]
pub struct Mapped {
    /// By the index of the watch and the object's key. An object that is mapped to nothing has no entry.
    keys: HashMap<(usize, String), Vec<String>>,
}

/// What is read of a watched object besides its content.
#[derive(Debug, PartialEq)]
pub struct Source {
    /// As in a work queue.
    pub key: String,
    /// The object is gone, and nothing more is known of it.
    pub is_partial: bool,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

impl Source {
    /// Reads an object as JSON.
    pub fn of(object: &[u8]) -> Result<Source, serde_json::Error> {
        let Named { kind, metadata: Metadata { name, namespace } } = serde_json::from_slice(object)?;
        let key = match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        Ok(Source { key, is_partial: kind == "PartialObjectMetadata" })
    }
}

impl Mapped {
    /// The keys that a change of an object concerns, each once. `now` is what the object is mapped to now; `None` if
    /// that is not known.
    pub fn change(&mut self, watch: usize, source: String, now: Option<Vec<String>>, gone: bool) -> Vec<String> {
        let of = (watch, source);
        let mut all = now.clone().unwrap_or_default();
        all.extend(self.keys.get(&of).into_iter().flatten().cloned());
        match now {
            _ if gone => drop(self.keys.remove(&of)),
            Some(now) if now.is_empty() => drop(self.keys.remove(&of)),
            Some(mut now) => {
                now.shrink_to_fit();
                self.keys.insert(of, now);
            }
            None => {}
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_concerns_what_the_object_was_mapped_to_before_and_now() {
        let mut mapped = Mapped::default();
        type Row<'a> = (usize, &'a str, Option<&'a [&'a str]>, bool, &'a [&'a str]);
        let table: [Row<'_>; 12] = [
            (0, "ns/c", Some(&["one"]), false, &["one"]),
            (0, "ns/c", Some(&["one"]), false, &["one"]),
            (0, "ns/c", Some(&["two", "one", "two"]), false, &["one", "two"]),
            (0, "ns/d", Some(&["three"]), false, &["three"]),
            (1, "ns/c", Some(&["four"]), false, &["four"]),
            (0, "ns/c", Some(&[]), false, &["one", "two"]),
            (0, "ns/c", Some(&[]), false, &[]),
            (0, "ns/d", None, false, &["three"]),
            (0, "ns/d", None, true, &["three"]),
            (0, "ns/d", None, true, &[]),
            (1, "ns/c", Some(&["five"]), true, &["five", "four"]),
            (1, "ns/c", Some(&[]), false, &[]),
        ];
        let strings = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        for (n, (watch, source, now, gone, expected)) in table.into_iter().enumerate() {
            let keys = mapped.change(watch, source.to_owned(), now.map(strings), gone);
            assert_eq!(keys, expected, "row {n}");
        }
        assert!(mapped.keys.is_empty(), "{mapped:?}");
    }

    #[test]
    fn a_watched_object_is_known_by_its_key() {
        let source = |key: &str, is_partial| Source { key: key.to_owned(), is_partial };
        for (object, expected) in [
            (r#"{"kind":"Secret","metadata":{"name":"a","namespace":"ns"},"data":{}}"#, source("ns/a", false)),
            (r#"{"metadata":{"name":"a"}}"#, source("a", false)),
            (r#"{"kind":"PartialObjectMetadata","metadata":{"name":"a","namespace":null}}"#, source("a", true)),
        ] {
            assert_eq!(Source::of(object.as_bytes()).expect("an object"), expected);
        }
        for nonsense in ["", "{}", "[]", r#"{"metadata":{"name":5}}"#] {
            Source::of(nonsense.as_bytes()).expect_err(nonsense);
        }
    }
}
