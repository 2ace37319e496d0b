//! Values with a special form in a TOML file: strings that are parsed, and `"all"` in place of a list.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::error::{join_help, split_help};

use super::describe::PATH;

/// A type that is written as a string.
pub trait Written: Sized {
    /// The remedy for a string that is wrong, unless its error has one.
    const HELP: &'static str;

    /// The error describes the problem, and may include a remedy.
    fn parse(text: &str) -> Result<Self, String>;
}

/// An item of a list, or a key of a table, that is [`Written`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, T::HELP, T::parse).map(Text)
    }
}

/// An optional key that is [`Written`], for `deserialize_with`.
pub fn written<'de, D: Deserializer<'de>, T: Written>(deserializer: D) -> Result<Option<T>, D::Error> {
    from_text(deserializer, T::HELP, T::parse).map(Some)
}

/// A string that `parse` reads.
pub fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    help: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|problem| de::Error::custom(with_help(&problem, help)))
}

/// The problem with its own remedy, else with this one.
fn with_help(problem: &str, help: &str) -> String {
    let (problem, own) = split_help(problem);
    join_help(problem, own.unwrap_or(help))
}

/// A list that may be the word `"all"` instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllOr<T> {
    All,
    Only(Vec<T>),
}

/// An item of [`AllOr`]. `{path}` in its texts is filled in, see [`PATH`].
pub trait Granted {
    /// How errors name the list.
    const LIST: &'static str;
    /// The remedy for another word than `"all"`.
    const HELP: &'static str;
}

const ALL: &str = "all";

impl<'de, T: Granted + Deserialize<'de>> Deserialize<'de> for AllOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllOrVisitor<T>(PhantomData<T>);

        impl<'de, T: Granted + Deserialize<'de>> Visitor<'de> for AllOrVisitor<T> {
            type Value = AllOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::LIST)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AllOr<T>, E> {
                if text == ALL {
                    return Ok(AllOr::All);
                }
                Err(E::custom(join_help(&format!("`{text}` is no grant"), T::HELP)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<AllOr<T>, A::Error> {
                Deserialize::deserialize(de::value::SeqAccessDeserializer::new(items)).map(AllOr::Only)
            }
        }

        deserializer.deserialize_any(AllOrVisitor(PhantomData))
    }
}

/// A list of tables, named so in errors.
pub fn tables<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct TablesVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for TablesVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of tables, `[[{PATH}]]`")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
            Deserialize::deserialize(de::value::SeqAccessDeserializer::new(items))
        }
    }

    deserializer.deserialize_any(TablesVisitor(PhantomData))
}

/// A whole number in a range, for `deserialize_with`.
pub fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: std::ops::RangeInclusive<u64>,
    help: &str,
) -> Result<Option<u64>, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let in_range = u64::try_from(number).ok().filter(|number| range.contains(number));
    in_range.map(Some).ok_or_else(|| de::Error::custom(join_help(&format!("`{number}` is out of range"), help)))
}
