//! How long a host may act, by its own clock: what is asked before each step and each request.
//!
//! The clock goes on while the process is stopped and while the machine sleeps, so that a host that comes back after
//! its time finds that it is over before it does anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A time without interruption during which a host held its own Lease. Once over it is never extended again.
#[derive(Debug)]
pub struct Term {
    /// Nanoseconds of the machine's clock since it was started, its sleep included.
    until: AtomicU64,
}

impl Term {
    pub fn new(until: Duration) -> Term {
        Term { until: AtomicU64::new(until.as_nanos() as u64) }
    }

    pub fn until(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::Acquire))
    }

    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.until()
    }

    /// It is over now, whatever was promised.
    pub(super) fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// To be called by one thread only, which has seen at a `now` that the term is not over.
    pub(super) fn extend(&self, until: Duration) {
        self.until.fetch_max(until.as_nanos() as u64, Ordering::AcqRel);
    }
}

/// Whether a host still holds a controller.
#[derive(Debug)]
pub struct Fence {
    term: Arc<Term>,
    ended: AtomicBool,
}

impl Fence {
    pub fn new(term: Arc<Term>) -> Fence {
        Fence { term, ended: AtomicBool::new(false) }
    }

    /// `now`: on the clock of the term.
    pub fn holds(&self, now: Duration) -> bool {
        !self.ended.load(Ordering::Acquire) && !self.term.is_over(now)
    }

    /// Whatever the term: from here on it does not hold.
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
