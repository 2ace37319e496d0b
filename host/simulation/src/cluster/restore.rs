//! What etcd forgets: compaction, and the restore of a snapshot.
//!
//! `etcdutl snapshot restore --bump-revision N --mark-compacted` continues with revisions that nobody has seen, and ends
//! watches that began before. Without it etcd gives out the same revisions again, and clients can be misled:
//!
//! ```text
//! revisions   100 ──── 120 ───────── 150          a watch is at 150 and loses its connection
//! restored             120 ─────────── 155        it asks for changes after 150: gets 151 to 155, never 121 to 150
//! ```
//!
//! No client can notice that. So the simulation keeps a record of watches that were misled, and excuses what they hide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Deed, Kind, Object, Past};

/// How far a restore that bumps revisions goes beyond the last.
const BUMP: u64 = 1000;

/// Objects as they were at some resource version.
#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    revision: u64,
    objects: BTreeMap<(Kind, Arc<str>), Arc<Object>>,
}

/// A restore after which etcd gives out revisions again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reuse {
    /// It begins this epoch.
    epoch: u64,
    /// Of the last change before it.
    moment: u64,
    /// The revision that it went back to.
    revision: u64,
    /// The highest revision that was ever given out before it.
    peak: u64,
}

/// A watch that continued from a revision of before a restore, or may have: it may have got the revision again after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misled {
    kind: Kind,
    from: u64,
    /// The last change before the restore.
    after: u64,
    /// The last change before the request.
    until: u64,
}

impl Cluster {
    /// Watches can no longer begin before this moment.
    pub fn compact(&mut self) {
        self.log.clear();
        self.compacted = self.revision;
    }

    /// What can be restored later.
    pub fn checkpoint(&mut self) {
        self.checkpoints.push(Checkpoint { revision: self.revision, objects: self.objects.clone() });
    }

    /// Goes back to the last checkpoint. Leases stay as they are: hosts that would trust restored ones are another
    /// matter. `bumps`: revisions continue above all that were given out. Whether there was a checkpoint.
    pub fn restore(&mut self, bumps: bool, at: Duration) -> bool {
        let Some(Checkpoint { revision, objects }) = self.checkpoints.pop() else { return false };
        let leases: Vec<_> = self.of(Kind::Lease).cloned().collect();
        for past in &self.history {
            if past.object.revision > revision {
                self.forgotten.insert((past.object.uid, past.object.revision));
                let highest = self.forgotten_generations.entry(past.object.uid).or_default();
                *highest = past.object.generation.max(*highest);
            }
        }
        let before = std::mem::replace(&mut self.objects, objects);
        self.objects.retain(|(kind, _), _| *kind != Kind::Lease);
        self.objects.extend(leases.into_iter().map(|lease| ((lease.kind, lease.key.clone()), lease)));
        let peak = self.peak.max(self.revision);
        self.peak = peak;
        self.revision = if bumps { peak + BUMP } else { revision };
        self.compacted = self.revision;
        self.epoch += 1;
        if !bumps {
            self.reuses.push(Reuse { epoch: self.epoch, moment: self.moment, revision, peak });
        }
        self.log.clear();
        let nobody: Arc<str> = "".into();
        let keys: BTreeSet<_> = before.keys().chain(self.objects.keys()).cloned().collect();
        for key in keys {
            let (old, new) = (before.get(&key).cloned(), self.objects.get(&key).cloned());
            match (old, new) {
                (Some(old), Some(new)) if old.uid == new.uid && old.revision == new.revision => {}
                (Some(old), Some(new)) if old.uid == new.uid => {
                    let is_same = new.kind.has_generation() && old.generation == new.generation;
                    let deed = if is_same { Deed::Touched } else { Deed::Changed };
                    self.remember(new, Some(old), deed, &nobody, at);
                }
                (old, Some(new)) => self.remember(new, old, Deed::Created, &nobody, at),
                (Some(old), None) => self.remember(old.clone(), Some(old), Deed::Deleted, &nobody, at),
                (None, None) => {}
            }
        }
        true
    }

    /// A watch asks for the changes after a revision. `epoch`: when its host first got that revision.
    pub fn note_watch(&mut self, kind: Kind, from: u64, epoch: u64) {
        let until = self.moment;
        let is_older = |it: &&Reuse| epoch < it.epoch && it.revision < from && from <= it.peak;
        let misleading = self.reuses.iter().filter(is_older);
        self.misled.extend(misleading.map(|reuse| Misled { kind, from, after: reuse.moment, until }));
    }

    /// Whether the restore of etcd may have kept a watch from seeing this change.
    pub fn is_hidden(&self, past: &Past) -> bool {
        let (kind, moment) = (past.object.kind, past.moment);
        let hides = |misled: &Misled| misled.after < moment && moment <= misled.until;
        // What the restore itself brought or took has an older revision, too.
        self.misled.iter().any(|it| it.kind == kind && hides(it) && past.object.revision <= it.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::{AT, nobody, website};

    #[test]
    fn a_restored_cluster_gives_no_object_a_version_that_it_had_before() {
        let mut cluster = Cluster::default();
        let key: Arc<str> = "a/x".into();
        cluster.create(Kind::Website, key.clone(), website(1), &nobody(), AT).unwrap();
        cluster.checkpoint();
        let lost = cluster.update(Kind::Website, &key, website(2), false, &nobody(), AT).unwrap();
        assert!(cluster.restore(false, AT) && cluster.revision < lost.revision);
        let other = cluster.update(Kind::Website, &key, website(3), false, &nobody(), AT).unwrap();
        assert_ne!(other.revision, lost.revision);
        assert!(cluster.history.iter().map(|past| past.moment).is_sorted());
    }

    #[test]
    fn a_watch_that_continues_over_a_restore_misses_what_was_given_a_revision_again() {
        // Whether the restore bumps revisions, the revision from which the watch continues, beyond the checkpoint, and
        // the epoch in which its host got it.
        for (bumps, from, epoch, hidden) in
            [(false, 3, 0, true), (false, 2, 0, true), (false, 0, 0, false), (false, 2, 1, false), (true, 3, 0, false)]
        {
            let mut cluster = Cluster::default();
            let key: Arc<str> = "a/x".into();
            let write = |cluster: &mut Cluster, value| {
                let _ = cluster.update(Kind::Website, &key, website(value), false, &nobody(), AT);
            };
            cluster.create(Kind::Website, "a/x".into(), website(1), &nobody(), AT).unwrap();
            cluster.checkpoint();
            let checkpoint = cluster.revision;
            (2..5).for_each(|value| write(&mut cluster, value));
            assert!(cluster.restore(bumps, AT));
            cluster.create(Kind::Website, "a/y".into(), website(1), &nobody(), AT).unwrap();
            cluster.note_watch(Kind::Website, checkpoint + from, epoch);
            let last = cluster.history.last().unwrap().clone();
            assert_eq!((last.object.key.as_ref(), cluster.is_hidden(&last)), ("a/y", hidden), "{bumps} {from}");
            write(&mut cluster, 5);
            assert!(!cluster.is_hidden(cluster.history.last().unwrap()), "it comes after the watch began");
            assert_eq!(cluster.compacted > checkpoint + 3, bumps);
        }
    }
}
