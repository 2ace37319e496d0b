//! Identifies one registration of a controller.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifies one registration of a controller. Ids are never reused: that of a retired registration finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RegistrationId(pub u32);

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
