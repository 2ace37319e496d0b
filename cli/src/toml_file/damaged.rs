//! Damaged TOML files for property tests: a valid text in which what TOML treats specially takes the place of some
//! parts.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What takes the place of a part of the text.
const INSERTED: [&str; 24] = [
    "",
    "\n",
    "\"",
    "\"\"\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "-1",
    "1e400",
    "inf",
    "true",
    "\0",
    "\u{2028}",
    "ä",
    "\\u0000",
    "[limits]",
    "99999999999999999999",
];

/// `text` with up to five changes.
pub fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    vec((any::<Index>(), 0..40_usize, select(&INSERTED[..])), 1..6).prop_map(move |changes| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, length, inserted) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        chars.into_iter().collect()
    })
}
