//! Actions that undo unfinished work when Ctrl-C or SIGTERM ends the program.
//!
//! A [`Cleanup`] runs once: when it is dropped, or on the thread of the signal handler, whichever comes first. After
//! all of them have run, the program exits with the shell's code for the signal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

type Action = Box<dyn FnOnce() + Send>;

/// Pending actions by number. They run from the newest to the oldest.
static PENDING: Mutex<BTreeMap<u64, Action>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static HANDLER: Once = Once::new();

/// The shell's exit code for a program ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// An action that runs when this value is dropped or the program is interrupted.
#[must_use = "the action runs when this is dropped"]
pub struct Cleanup {
    id: u64,
}

impl Cleanup {
    pub fn new(action: impl FnOnce() + Send + 'static) -> Cleanup {
        HANDLER.call_once(|| {
            // Fails only if another handler is installed, which then decides.
            let _ = ctrlc::set_handler(|| {
                // Holds the lock until the exit, so that no new step begins.
                let mut pending = pending();
                while let Some((_, action)) = pending.pop_last() {
                    action();
                }
                std::process::exit(EXIT_INTERRUPTED);
            });
        });
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        pending().insert(id, Box::new(action));
        Cleanup { id }
    }

    /// Drops the action without running it.
    pub fn disarm(self) {
        pending().remove(&self.id);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let action = pending().remove(&self.id);
        if let Some(action) = action {
            action();
        }
    }
}

fn pending() -> MutexGuard<'static, BTreeMap<u64, Action>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_dropped_cleanup_runs_once_and_a_disarmed_one_never() {
        let count = Arc::new(AtomicU32::new(0));
        let counted = |count: &Arc<AtomicU32>| {
            let count = count.clone();
            Cleanup::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            })
        };
        drop(counted(&count));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        counted(&count).disarm();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
