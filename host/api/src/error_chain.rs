//! Turns an error and its sources into one line of text.

use std::error::Error;

/// The error and its sources, separated by colons. A part that repeats an earlier one is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
