//! Memories of instances that were just suspended, for those that are resumed next.
//!
//! A host that suspends often resumes often, and most of what a resume costs is the kernel finding
//! pages. They are lent out only to instances that start from the same image, and not kept for long:
//! a host that has nothing to do holds none. One that comes back to the controller that has left it holds
//! what it needs already.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::memory::Spare;
use crate::snapshot::{BaseImage, Overlay, SnapshotRef};

/// Spares of a host.
const MAX_SPARES: usize = 4;
/// A memory that holds more is given back at once.
const MAX_BYTES: usize = 4 << 20;

#[derive(Default)]
pub struct Spares(Mutex<Vec<Kept>>);

struct Kept {
    memory: Used,
    since: Instant,
}

/// A memory that was used, and what is known of its content.
pub struct Used {
    /// What it maps.
    pub base: Arc<BaseImage>,
    pub spare: Spare,
    /// What it maps besides, from the file of the same controller.
    pub overlay: Overlay,
    /// Whose it was, and what was saved of it then: nobody has changed it since.
    pub controller: u64,
    pub snapshot: SnapshotRef,
}

impl Used {
    /// Whether it holds this snapshot. What it maps from the state file may have been overwritten.
    pub fn holds(&self, controller: u64, snapshot: &SnapshotRef) -> bool {
        self.controller == controller && self.snapshot == *snapshot && self.overlay.is_empty()
    }
}

impl Spares {
    /// One that maps this package's image, or, if `generation` is not 0, that one of the controller, if
    /// there is one; and nothing of another controller.
    pub fn take(&self, digest: &[u8; 32], generation: u64, controller: u64) -> Option<Used> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |k: &Kept, own: bool| {
            let Used { base, overlay, controller: last, .. } = &k.memory;
            base.header.digest == *digest
                && base.generation == generation
                && if own { *last == controller } else { generation == 0 && overlay.is_empty() }
        };
        let at = [true, false].into_iter().find_map(|own| kept.iter().rposition(|k| fits(k, own)))?;
        Some(kept.remove(at).memory)
    }

    /// Keeps a memory for a while.
    pub fn put(&self, memory: Used) {
        if memory.spare.bytes() > MAX_BYTES {
            return;
        }
        let kept = Kept { memory, since: Instant::now() };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let evicted = (all.len() >= MAX_SPARES).then(|| all.remove(0));
        all.push(kept);
        drop(all);
        // Unmapping takes a while.
        drop(evicted);
    }

    /// What all hold, bytes.
    pub fn bytes(&self) -> u64 {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|k| k.memory.spare.bytes() as u64).sum()
    }

    /// Gives all back: memory is short.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }

    /// Gives back what has not been used for `linger`. Returns when to ask again, or `None` if nothing
    /// is left.
    pub fn drop_idle(&self, linger: Duration) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|k| k.since.elapsed() < linger);
        all.iter().map(|k| linger.saturating_sub(k.since.elapsed())).min()
    }
}
