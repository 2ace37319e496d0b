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
    controller: u64,
    since: Instant,
}

/// A memory that was used, and what is known of its content.
pub struct Used {
    /// What it maps.
    pub base: Arc<BaseImage>,
    pub spare: Spare,
    /// What it maps besides, from the file of the same controller.
    pub overlay: Overlay,
    /// What it holds, if nothing else is mapped: nobody has changed it since.
    pub snapshot: Option<SnapshotRef>,
}

impl Spares {
    /// One that maps this package's image, or, if `generation` is not 0, that one of the controller, if
    /// there is one; and nothing of another controller.
    pub fn take(&self, digest: &[u8; 32], generation: u64, controller: u64) -> Option<Used> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |k: &Kept| {
            let Used { base, overlay, .. } = &k.memory;
            base.header.digest == *digest
                && base.generation == generation
                && (generation == 0 && overlay.is_empty() || k.controller == controller)
        };
        let own = kept.iter().rposition(|k| fits(k) && k.controller == controller);
        let at = own.or_else(|| kept.iter().rposition(fits))?;
        let Kept { mut memory, controller: last, .. } = kept.remove(at);
        memory.snapshot = memory.snapshot.filter(|_| last == controller && memory.overlay.is_empty());
        Some(memory)
    }

    /// Keeps the memory of an instance of `controller`.
    pub fn put(&self, memory: Used, controller: u64) {
        if memory.spare.bytes() > MAX_BYTES {
            return;
        }
        let kept = Kept { memory, controller, since: Instant::now() };
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
