//! The keys that watched objects were mapped to most recently.

use std::collections::HashMap;

use serde::Deserialize;

/// The latest results of a controller's mappers, by watched object.
///
/// A change affects the keys that the object was mapped to before as well as those that it is mapped to now.
#[derive(Debug, Default)]
pub struct MappedKeys {
    /// By watch index and object key. Invariant: no value is empty.
    keys: HashMap<(usize, String), Vec<String>>,
}

/// Identifies a watched object.
#[derive(Debug, PartialEq)]
pub struct WatchedObject {
    /// The work queue key.
    pub key: String,
    /// Only the metadata is known, because the object was deleted.
    pub is_partial: bool,
}

#[derive(Deserialize)]
struct PartialObject {
    #[serde(default)]
    kind: String,
    metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct ObjectMeta {
    name: String,
    namespace: Option<String>,
}

impl WatchedObject {
    /// Parses the metadata of an object in JSON.
    ///
    /// # Errors
    ///
    /// Fails if it has no name.
    pub fn parse(object: &[u8]) -> Result<WatchedObject, serde_json::Error> {
        let PartialObject { kind, metadata: ObjectMeta { name, namespace } } = serde_json::from_slice(object)?;
        let key = match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        Ok(WatchedObject { key, is_partial: kind == "PartialObjectMetadata" })
    }
}

impl MappedKeys {
    /// Records the keys that an object is mapped to now, and returns all keys that the change affects, deduplicated.
    ///
    /// `now` is `None` if the new keys are unknown. `deleted` says that the object is gone.
    pub fn update(&mut self, watch: usize, object: String, now: Option<Vec<String>>, deleted: bool) -> Vec<String> {
        let entry = (watch, object);
        let mut all = now.clone().unwrap_or_default();
        all.extend(self.keys.get(&entry).into_iter().flatten().cloned());
        match now {
            _ if deleted => drop(self.keys.remove(&entry)),
            Some(now) if now.is_empty() => drop(self.keys.remove(&entry)),
            Some(mut now) => {
                now.shrink_to_fit();
                self.keys.insert(entry, now);
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
    fn a_change_affects_the_previous_and_the_new_keys() {
        let mut mapped = MappedKeys::default();
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
        for (n, (watch, object, now, deleted, expected)) in table.into_iter().enumerate() {
            let keys = mapped.update(watch, object.to_owned(), now.map(strings), deleted);
            assert_eq!(keys, expected, "row {n}");
        }
        assert!(mapped.keys.is_empty(), "{mapped:?}");
    }

    #[test]
    fn a_watched_object_is_identified_by_its_key() {
        let watched = |key: &str, is_partial| WatchedObject { key: key.to_owned(), is_partial };
        for (object, expected) in [
            (r#"{"kind":"Secret","metadata":{"name":"a","namespace":"ns"},"data":{}}"#, watched("ns/a", false)),
            (r#"{"metadata":{"name":"a"}}"#, watched("a", false)),
            (r#"{"kind":"PartialObjectMetadata","metadata":{"name":"a","namespace":null}}"#, watched("a", true)),
        ] {
            assert_eq!(WatchedObject::parse(object.as_bytes()).expect("valid"), expected);
        }
        for nonsense in ["", "{}", "[]", r#"{"metadata":{"name":5}}"#] {
            WatchedObject::parse(nonsense.as_bytes()).expect_err(nonsense);
        }
    }
}
