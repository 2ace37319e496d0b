//! The error of a request to an external host.

use std::fmt;

/// Why a request to an external host has no response, or an incomplete one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError(pub(crate) String);

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FetchError {}
