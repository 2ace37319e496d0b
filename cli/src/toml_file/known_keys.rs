//! The keys of a type that serde reads, for tests that compare them with the documentation.

use std::collections::BTreeSet;

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The keys of a struct that derives `Deserialize`.
pub fn known_keys<T: for<'de> Deserialize<'de>>() -> BTreeSet<&'static str> {
    let mut keys = BTreeSet::new();
    // It has no value to give.
    let _ = T::deserialize(Fields(&mut keys));
    keys
}

/// Remembers the fields that a struct asks for.
struct Fields<'k>(&'k mut BTreeSet<&'static str>);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(Error::custom("has no value"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}
