//! Reads the metadata that the host keeps of each watched object.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::excerpt::name_excerpt;
use crate::work_queue::Key;

/// The metadata kept of a watched object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMetaLite {
    /// Its resource version.
    pub resource_version: ResourceVersion,
    /// 0 for kinds that have none.
    pub generation: i64,
    /// Hash of the object's UID: tells an object from an earlier one of the same name.
    pub uid: u64,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// Its owner references.
    pub owners: Arc<[OwnerRef]>,
}

/// A resource version, compared for equality. Decimal numbers, as the API server writes them, keep their value;
/// anything else is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceVersion(pub u64);

impl From<&str> for ResourceVersion {
    fn from(text: &str) -> Self {
        ResourceVersion(text.parse().unwrap_or_else(|_| hash(text)))
    }
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// The owner's kind, shared between the objects of a watch.
    pub kind: Arc<GroupKind>,
    /// The owner's name.
    pub name: Box<str>,
    /// Whether the owner is the managing controller.
    pub controller: bool,
}

/// A kind with its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupKind {
    /// Empty for the core group.
    pub group: Box<str>,
    /// The kind.
    pub kind: Box<str>,
}

/// An object as the API server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its key.
    pub key: Key,
    /// Its metadata.
    pub meta: ObjectMetaLite,
    /// The object as JSON, if the watch keeps whole objects.
    pub object: Option<Arc<str>>,
}

/// The parts read of an object's JSON.
#[derive(Debug)]
pub struct Item<'a> {
    /// The object.
    pub seen: Seen,
    /// Its resource version as text, from which a watch can continue.
    pub version: Cow<'a, str>,
    /// `metadata.labels`
    pub labels: Option<&'a RawValue>,
}

/// Reads the objects of one watch.
#[derive(Debug)]
pub struct Reader {
    /// Owner kinds seen so far.
    kinds: Vec<Arc<GroupKind>>,
    no_owners: Arc<[OwnerRef]>,
    /// `apiVersion` and `kind` of the watched objects, if they are to be kept whole.
    full: Option<(String, String)>,
    /// Unreadable objects that were logged, at most [`MAX_LOGGED`].
    logged: BTreeSet<Key>,
}

/// Most unreadable objects that are logged, each once.
const MAX_LOGGED: usize = 16;

/// Most owner kinds that are shared, which keeps the lookup cheap.
const MAX_SHARED_KINDS: usize = 64;

#[derive(Deserialize)]
struct RawObject<'a> {
    #[serde(borrow)]
    metadata: RawMeta<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(borrow, default)]
    deletion_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    owner_references: Option<Vec<RawOwner<'a>>>,
    #[serde(borrow, default)]
    labels: Option<&'a RawValue>,
}

/// The minimum of an object.
#[derive(Deserialize)]
struct NamedObject<'a> {
    #[serde(borrow)]
    metadata: NamedMeta<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedMeta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
}

fn key_of(namespace: Option<&str>, name: &str) -> Key {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}").into(),
        _ => name.into(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    controller: Option<bool>,
}

impl Reader {
    /// `full`: `apiVersion` and `kind` of the objects, if the watch keeps whole objects.
    pub fn new(full: Option<(String, String)>) -> Self {
        Reader { kinds: Vec::new(), no_owners: Arc::new([]), full, logged: BTreeSet::new() }
    }

    /// Reads one object. Unreadable parts are left out with a warning: one object must not stop the watch.
    ///
    /// # Errors The object has no name or no resource version.
    pub fn read<'a>(&mut self, json: &'a str) -> Result<Item<'a>, serde_json::Error> {
        match self.read_all(json) {
            Ok(item) => Ok(item),
            Err(error) => {
                let NamedObject { metadata: NamedMeta { name, namespace, resource_version } } =
                    serde_json::from_str(json)?;
                let key = key_of(namespace.as_deref(), &name);
                self.log_unreadable(&key, &error);
                let meta = ObjectMetaLite {
                    resource_version: resource_version.as_ref().into(),
                    generation: 0,
                    uid: 0,
                    deleting: false,
                    owners: self.no_owners.clone(),
                };
                Ok(Item { seen: Seen { key, meta, object: None }, version: resource_version, labels: None })
            }
        }
    }

    /// Whether to log that this object is unreadable. Each of its changes leads here.
    fn is_news(&mut self, key: &Key) -> bool {
        self.logged.len() < MAX_LOGGED && self.logged.insert(key.clone())
    }

    fn log_unreadable(&mut self, key: &Key, error: &serde_json::Error) {
        if self.is_news(key) {
            let error = error.to_string();
            let (object, error) = (name_excerpt(key), name_excerpt(&error));
            let more = if self.logged.len() == MAX_LOGGED { "; further ones are not logged" } else { "" };
            tracing::warn!(object, error, "an object is unreadable: only its name is kept{more}");
        }
    }

    fn read_all<'a>(&mut self, json: &'a str) -> Result<Item<'a>, serde_json::Error> {
        let RawObject { metadata: raw } = serde_json::from_str(json)?;
        let key = key_of(raw.namespace.as_deref(), &raw.name);
        let meta = ObjectMetaLite {
            resource_version: raw.resource_version.as_ref().into(),
            generation: raw.generation.unwrap_or_default(),
            uid: raw.uid.as_deref().map_or(0, hash),
            deleting: raw.deletion_timestamp.is_some(),
            owners: self.owners(raw.owner_references.unwrap_or_default()),
        };
        let object = match &self.full {
            Some((api_version, kind)) => Some(whole(json, api_version, kind)?),
            None => None,
        };
        Ok(Item { seen: Seen { key, meta, object }, version: raw.resource_version, labels: raw.labels })
    }

    fn owners(&mut self, raw: Vec<RawOwner>) -> Arc<[OwnerRef]> {
        if raw.is_empty() {
            return self.no_owners.clone();
        }
        let owner = |raw: RawOwner| {
            let group = raw.api_version.split_once('/').map_or("", |(group, _)| group);
            OwnerRef {
                kind: self.kind(group, &raw.kind),
                name: raw.name.into(),
                controller: raw.controller.unwrap_or_default(),
            }
        };
        raw.into_iter().map(owner).collect()
    }

    fn kind(&mut self, group: &str, kind: &str) -> Arc<GroupKind> {
        if let Some(known) = self.kinds.iter().find(|known| &*known.group == group && &*known.kind == kind) {
            return known.clone();
        }
        let new = Arc::new(GroupKind { group: group.into(), kind: kind.into() });
        if self.kinds.len() < MAX_SHARED_KINDS {
            self.kinds.push(new.clone());
        }
        new
    }
}

/// The object without `managedFields`, which are as large as the rest, and with the `apiVersion` and `kind` that list
/// items lack. The other values stay byte for byte: they are skipped, so neither depth nor large numbers matter.
fn whole(json: &str, api_version: &str, kind: &str) -> Result<Arc<str>, serde_json::Error> {
    let Fields(fields) = serde_json::from_str(json)?;
    let mut text = String::with_capacity(json.len());
    let write = |text: &mut String, name: &str, value: &str| -> Result<(), serde_json::Error> {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&serde_json::to_string(name)?);
        text.push(':');
        text.push_str(value);
        Ok(())
    };
    for (name, given) in [("apiVersion", api_version), ("kind", kind)] {
        if !fields.iter().any(|(field, _)| field == name) {
            write(&mut text, name, &serde_json::to_string(given)?)?;
        }
    }
    for (name, value) in &fields {
        if name != "metadata" {
            write(&mut text, name, value.get())?;
            continue;
        }
        let Fields(metadata) = serde_json::from_str(value.get())?;
        let mut kept = String::new();
        for (name, value) in metadata.iter().filter(|(name, _)| name != "managedFields") {
            write(&mut kept, name, value.get())?;
        }
        if kept.is_empty() {
            kept.push('{');
        }
        kept.push('}');
        write(&mut text, "metadata", &kept)?;
    }
    text.push('}');
    Ok(text.into())
}

/// The fields of an object in order, as raw JSON.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A field name, borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A hash that is the same in every process, because it is stored on disk.
pub fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_object_is_logged_once_and_the_number_is_bounded() {
        let mut reader = Reader::new(None);
        let mut read = |name: &str| {
            let json = format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"1","generation":"x"}}}}"#);
            assert_eq!(&*reader.read(&json).unwrap().seen.key, name);
            reader.logged.len()
        };
        assert_eq!([read("a"), read("a"), read("b")], [1, 1, 2]);
        let logged = (0..100).map(|n| read(&n.to_string())).max();
        assert_eq!(logged, Some(MAX_LOGGED));
    }
}
