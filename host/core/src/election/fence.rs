//! Limits how long a host may act, by its own clock. The host asks before each step and each request.
//!
//! The clock continues while the process is stopped and while the machine sleeps. A host that resumes too late finds
//! its term over before it acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// An uninterrupted time during which a host holds its own Lease. A term that is over is never extended.
#[derive(Debug)]
pub struct Term {
    /// Nanoseconds since boot, including sleep.
    until: AtomicU64,
}

impl Term {
    /// A term that ends at `until`.
    pub fn new(until: Duration) -> Term {
        Term { until: AtomicU64::new(until.as_nanos() as u64) }
    }

    /// When the term ends.
    pub fn until(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::Acquire))
    }

    /// Whether the term is over at `now`.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.until()
    }

    /// Ends the term now.
    pub(super) fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Extends the term. Only the thread that has seen the term not to be over may call this.
    pub(super) fn extend(&self, until: Duration) {
        self.until.fetch_max(until.as_nanos() as u64, Ordering::AcqRel);
    }
}

/// Tells whether a host still holds a controller.
#[derive(Debug)]
pub struct Fence {
    term: Arc<Term>,
    ended: AtomicBool,
}

impl Fence {
    /// A fence that holds during the term.
    pub fn new(term: Arc<Term>) -> Fence {
        Fence { term, ended: AtomicBool::new(false) }
    }

    /// Whether the host holds the controller at `now`, on the clock of the term.
    pub fn holds(&self, now: Duration) -> bool {
        !self.ended.load(Ordering::Acquire) && !self.term.is_over(now)
    }

    /// Ends the fence, independently of the term.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_holds_until_its_term_is_over_or_it_is_ended() {
        let at = Duration::from_secs;
        let term = Arc::new(Term::new(at(10)));
        let (fence, other) = (Fence::new(term.clone()), Fence::new(term.clone()));
        assert!(fence.holds(at(9)) && !fence.holds(at(10)));
        term.extend(at(20));
        assert!(fence.holds(at(10)) && !fence.holds(at(20)));
        // A renewal that was sent earlier and answered later.
        term.extend(at(15));
        assert!(fence.holds(at(19)));
        fence.end();
        assert!(!fence.holds(at(9)) && other.holds(at(9)));
    }
}
