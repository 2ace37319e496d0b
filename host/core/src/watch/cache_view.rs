//! The objects of a synced watch, for cached reads.

use super::index::Index;

/// The objects of a synced watch.
#[derive(Clone, Copy, Debug)]
pub struct CacheView<'a> {
    /// The objects.
    pub index: &'a Index,
    /// The index is at least as new as this resource version.
    pub position: u64,
}
