//! Resource versions from which hosts may continue watches, and before which restore of etcd they got them.

use std::collections::BTreeMap;

use crate::cluster::Kind;

/// The versions that lists, events and bookmarks brought, each with the first epoch of etcd in which it did.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(usize, Kind, u64), u64>);

impl Told {
    /// A host learns of a version.
    pub fn tell(&mut self, host: usize, kind: Kind, revision: u64, epoch: u64) {
        self.0.entry((host, kind, revision)).or_insert(epoch);
    }

    /// When a host first learned of a version.
    pub fn epoch(&self, host: usize, kind: Kind, revision: u64) -> Option<u64> {
        self.0.get(&(host, kind, revision)).copied()
    }

    /// A host starts, and knows none: it begins with lists.
    pub fn forget(&mut self, host: usize) {
        self.0.retain(|(of, ..), _| *of != host);
    }
}
