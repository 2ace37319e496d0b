//! Memories of instances that were just suspended, for those that are resumed next.
//!
//! A host that suspends often resumes often, and most of what a resume costs is the kernel finding
//! pages. They are lent out only to instances that start from the same image, and not kept for long:
//! a host that has nothing to do holds none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::memory::Spare;
use crate::snapshot::{BaseImage, Overlay};

/// Spares of a host.
const MAX_SPARES: usize = 4;
/// A memory that holds more is given back at once.
const MAX_BYTES: usize = 4 << 20;

#[derive(Default)]
pub struct Spares(Mutex<Vec<Kept>>);

struct Kept {
    /// What it maps.
    base: Arc<BaseImage>,
    spare: Spare,
    /// What it maps besides, from the file of this controller.
    overlay: Overlay,
    controller: u64,
    since: Instant,
}

impl Spares {
    /// One that maps the image of this package with this checksum and generation, if there is one, and
    /// nothing of another controller.
    pub fn take(
        &self,
        digest: &[u8; 32],
        data_sum: u128,
        generation: u64,
        controller: u64,
    ) -> Option<(Arc<BaseImage>, Spare, Overlay)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |k: &Kept| {
            k.base.header.digest == *digest
                && k.base.header.data_sum == data_sum
                && k.base.generation == generation
                && (k.overlay.is_empty() || k.controller == controller)
        };
        let at = kept.iter().rposition(fits)?;
        let Kept { base, spare, overlay, .. } = kept.remove(at);
        Some((base, spare, overlay))
    }

    pub fn put(&self, base: Arc<BaseImage>, spare: Spare, overlay: Overlay, controller: u64) {
        if spare.bytes() > MAX_BYTES {
            return;
        }
        let kept = Kept { base, spare, overlay, controller, since: Instant::now() };
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
        kept.iter().map(|k| k.spare.bytes() as u64).sum()
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
