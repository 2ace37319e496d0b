//! The memory budget for whole objects, shared by all watches of a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The memory budget for whole objects. Of objects beyond the budget the host keeps only metadata.
#[derive(Debug)]
pub struct ObjectBudget {
    limit: AtomicU64,
    used: AtomicU64,
    /// Objects beyond the budget.
    refused: AtomicU64,
    /// Objects were refused since the limit was last set.
    is_short: AtomicBool,
}

impl Default for ObjectBudget {
    /// Unlimited.
    fn default() -> ObjectBudget {
        ObjectBudget {
            limit: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
        }
    }
}

/// Use of an [`ObjectBudget`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectUsage {
    /// Bytes of objects, as JSON.
    pub bytes: u64,
    /// Objects beyond the budget, since the host started.
    pub refused: u64,
}

impl ObjectBudget {
    /// Sets the limit in bytes; `None` is unlimited. Objects already kept stay.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Relaxed);
        self.is_short.store(false, Relaxed);
    }

    /// Current use.
    pub fn usage(&self) -> ObjectUsage {
        ObjectUsage { bytes: self.used.load(Relaxed), refused: self.refused.load(Relaxed) }
    }

    /// Returns the object if the budget has room for it. The caller gives it back with [`ObjectBudget::give_back`].
    pub fn keep(&self, object: Option<Arc<str>>) -> Option<Arc<str>> {
        let object = object?;
        let (bytes, limit) = (object.len() as u64, self.limit.load(Relaxed));
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        if self.used.fetch_update(Relaxed, Relaxed, more).is_ok() {
            return Some(object);
        }
        self.refused.fetch_add(1, Relaxed);
        if !self.is_short.swap(true, Relaxed) {
            tracing::warn!(
                limit,
                help = "raise --cache-memory, or watch fewer objects whole (cached, map, predicates)",
                "the memory for watched objects is full: further objects are not kept, and are read from the API server"
            );
        }
        None
    }

    /// Returns the bytes of an object to the budget.
    pub fn give_back(&self, object: Option<&Arc<str>>) {
        if let Some(object) = object {
            self.used.fetch_sub(object.len() as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_objects_never_exceed_the_limit_and_are_given_back() {
        let budget = ObjectBudget::default();
        let object = |bytes: usize| Some(Arc::from("x".repeat(bytes)));
        let all = budget.keep(object(1000));
        assert!(all.is_some());
        budget.set_limit(Some(1500));
        assert_eq!(budget.keep(object(501)), None);
        let rest = budget.keep(object(500));
        assert_eq!(budget.usage(), ObjectUsage { bytes: 1500, refused: 1 });
        assert_eq!(budget.keep(object(1)), None);
        budget.give_back(all.as_ref());
        budget.give_back(None);
        assert!(budget.keep(object(1000)).is_some());
        budget.set_limit(Some(0));
        assert_eq!((budget.keep(object(1)), budget.keep(None)), (None, None));
        assert_eq!(budget.usage(), ObjectUsage { bytes: 1500, refused: 3 });
        budget.give_back(rest.as_ref());
        budget.set_limit(None);
        assert!(budget.keep(object(5000)).is_some());
    }
}
