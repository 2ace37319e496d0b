//! Turns an object's JSON into the little of its metadata that the host keeps for each object it
//! watches.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::excerpt::name_excerpt;
use crate::work_queue::Key;

/// What is kept of a watched object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMetaLite {
    pub resource_version: ResourceVersion,
    /// 0 for kinds that have none.
    pub generation: i64,
    /// Hash of the object's UID: tells an object from an earlier one of the same name.
    pub uid: u64,
    /// It has a deletion timestamp.
    pub deleting: bool,
    pub owners: Arc<[OwnerRef]>,
}

/// A resource version, for comparing with `==`. The API server's are decimal numbers; anything
/// else is kept as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceVersion(pub u64);

impl From<&str> for ResourceVersion {
    fn from(text: &str) -> Self {
        ResourceVersion(text.parse().unwrap_or_else(|_| hash(text)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// Shared between the objects of a watch, whose owners are of few kinds.
    pub kind: Arc<GroupKind>,
    pub name: Box<str>,
    pub controller: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupKind {
    /// Empty for the core group.
    pub group: Box<str>,
    pub kind: Box<str>,
}

/// An object as it came from the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub key: Key,
    pub meta: ObjectMetaLite,
    /// The object as JSON, if the watch is for full objects.
    pub object: Option<Arc<str>>,
}

/// What is read of an object's JSON.
#[derive(Debug)]
pub struct Item<'a> {
    pub seen: Seen,
    /// Its resource version as text: where a watch can go on from.
    pub version: Cow<'a, str>,
    /// `metadata.labels`
    pub labels: Option<&'a RawValue>,
}

/// Reads objects of one watch.
#[derive(Debug)]
pub struct Reader {
    /// Kinds of owners met so far.
    kinds: Vec<Arc<GroupKind>>,
    no_owners: Arc<[OwnerRef]>,
    /// `apiVersion` and `kind` of the watched objects, if they are to be kept whole.
    full: Option<(String, String)>,
    /// Objects that could not be read and were told of, at most [`MAX_TOLD`].
    told: BTreeSet<Key>,
}

/// Objects that cannot be read are told of once, and no more of them.
const MAX_TOLD: usize = 16;

/// More kinds of owners than this are not shared, so that looking one up stays cheap.
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

/// The least that an object has.
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
    /// `full`: `apiVersion` and `kind` of the objects if they are to be kept whole.
    pub fn new(full: Option<(String, String)>) -> Self {
        Reader { kinds: Vec::new(), no_owners: Arc::new([]), full, told: BTreeSet::new() }
    }

    /// Reads one. What cannot be read of it is left out, with a warning: one object must not stop the watch of all.
    ///
    /// # Errors
    /// It has no name or no version.
    pub fn read<'a>(&mut self, json: &'a str) -> Result<Item<'a>, serde_json::Error> {
        match self.read_all(json) {
            Ok(item) => Ok(item),
            Err(error) => {
                let NamedObject { metadata: NamedMeta { name, namespace, resource_version } } =
                    serde_json::from_str(json)?;
                let key = key_of(namespace.as_deref(), &name);
                self.tell(&key, &error);
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

    /// Whether it is worth a line that this object cannot be read. Each change of it comes here.
    fn is_news(&mut self, key: &Key) -> bool {
        self.told.len() < MAX_TOLD && self.told.insert(key.clone())
    }

    fn tell(&mut self, key: &Key, error: &serde_json::Error) {
        if self.is_news(key) {
            let error = error.to_string();
            let (object, error) = (name_excerpt(key), name_excerpt(&error));
            let more = if self.told.len() == MAX_TOLD { "; further ones are not logged" } else { "" };
            tracing::warn!(object, error, "an object cannot be read; it is known by its name alone{more}");
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

/// The object without `managedFields`, which are as large as the rest, and with the `apiVersion` and `kind` that
/// items of a list lack. Everything else stays as the API server wrote it, byte for byte: values are skipped, not
/// read, so that neither depth nor large numbers matter.
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

/// The fields of an object in their order, unread.
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

/// A field's name, borrowed if it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Kept on disk, so the same in every process.
pub fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_told_of_once_and_not_too_many_are() {
        let mut reader = Reader::new(None);
        let mut read = |name: &str| {
            let json = format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"1","generation":"x"}}}}"#);
            assert_eq!(&*reader.read(&json).unwrap().seen.key, name);
            reader.told.len()
        };
        assert_eq!([read("a"), read("a"), read("b")], [1, 1, 2]);
        let told = (0..100).map(|n| read(&n.to_string())).max();
        assert_eq!(told, Some(MAX_TOLD));
    }
}
