//! Memories of instances that were just suspended, for those that are resumed next.
//!
//! A host that suspends often resumes often, and most of what a resume costs is the kernel finding
//! pages. They are lent out only to instances that start from the same image, and not kept for long:
//! a host that has nothing to do holds none. One that comes back to the controller that has left it holds
//! what it needs already.
//!
//! A memory that maps a file of its controller serves that controller's next instance only, and only
//! from the snapshot it was left with. Any later save may have reused what the memory shows, and a
//! discarded state directory has other files under the same names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmop_snapshot::{BaseImage, Overlay, SnapshotRef};

use crate::memory::Spare;

/// Spares of a host.
const MAX_SPARES: usize = 4;
/// A memory that holds more is given back at once.
const MAX_BYTES: usize = 4 << 20;

pub struct Spares {
    kept: Mutex<Vec<Kept>>,
    /// How many are kept.
    max: usize,
}

impl Default for Spares {
    fn default() -> Spares {
        Spares { kept: Mutex::default(), max: MAX_SPARES }
    }
}

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
    /// Whether it holds this snapshot as it is.
    pub fn holds(&self, controller: u64, snapshot: &SnapshotRef) -> bool {
        self.controller == controller && self.snapshot == *snapshot && self.overlay.is_empty()
    }
}

impl Spares {
    /// Keeps none.
    pub fn none() -> Spares {
        Spares { kept: Mutex::default(), max: 0 }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory that `controller` left with `snapshot`, else one that maps this package's image and
    /// nothing else, if that is where the instance starts.
    pub fn take(&self, digest: &[u8; 32], controller: u64, snapshot: Option<&SnapshotRef>) -> Option<Used> {
        let mut kept = self.kept();
        let is_own = |used: &Used| used.controller == controller && snapshot == Some(&used.snapshot);
        let starts_from_package = snapshot.is_none_or(|s| s.base_generation == 0);
        let is_plain = |used: &Used| starts_from_package && used.base.generation == 0 && used.overlay.is_empty();
        let position = |fits: &dyn Fn(&Used) -> bool| {
            kept.iter().rposition(|k| k.memory.base.header.digest == *digest && fits(&k.memory))
        };
        let at = position(&is_own).or_else(|| position(&is_plain))?;
        Some(kept.remove(at).memory)
    }

    /// Keeps a memory for a while.
    pub fn put(&self, memory: Used) {
        if memory.spare.bytes() > MAX_BYTES || self.max == 0 {
            return;
        }
        let kept = Kept { memory, since: Instant::now() };
        let mut all = self.kept();
        let evicted = (all.len() >= self.max).then(|| all.remove(0));
        all.push(kept);
        drop(all);
        // Unmapping takes a while.
        drop(evicted);
    }

    /// What all hold, bytes.
    pub fn bytes(&self) -> u64 {
        let kept = self.kept();
        kept.iter().map(|k| k.memory.spare.bytes() as u64).sum()
    }

    /// Gives all back: memory is short.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.kept());
        drop(all);
    }

    /// Gives back what has not been used for `linger`. Returns when to ask again, or `None` if nothing
    /// is left.
    pub fn drop_idle(&self, linger: Duration) -> Option<Duration> {
        let mut all = self.kept();
        all.retain(|k| k.since.elapsed() < linger);
        all.iter().map(|k| linger.saturating_sub(k.since.elapsed())).min()
    }
}
