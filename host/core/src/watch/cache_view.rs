//! What a watch that is in order knows.

use super::index::Index;

/// The objects of a watch that is in order.
#[derive(Clone, Copy, Debug)]
pub struct CacheView<'a> {
    pub index: &'a Index,
    /// The index is as the objects were at this resource version, or later.
    pub position: u64,
}
