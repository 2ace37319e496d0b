//! What controllers have done and what is due, for the invariants over time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::guest::Finished;
use crate::observer::{Invariant, Observer};

/// How late a requeue or a timer may be after everything is in order: requests under way have to time out, snapshots
/// to be written, limits to be kept.
const SLACK: Duration = Duration::from_secs(60);

/// An object as a controller's registration sees it.
pub type WatchPosition = (Arc<str>, usize, Arc<str>);

/// The last reconcile of an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// The last change in the cluster when the last reconcile that succeeded began.
    pub ok: Option<u64>,
    /// When the next reconcile is due, in the world.
    pub due: Option<Duration>,
    /// How many have ended.
    pub ended: u64,
}

/// What controllers have done.
#[derive(Debug, Default)]
pub struct Ledger {
    records: BTreeMap<WatchPosition, Record>,
    /// When the earliest timer of each controller fires, in the world.
    timers: BTreeMap<Arc<str>, Duration>,
    /// Since when each controller has been run without interruption; those that are not run are missing.
    up: BTreeMap<Arc<str>, Duration>,
    /// When the last trouble ended.
    calm: Duration,
    /// Controllers that have forgotten something: deletions while they were away.
    amnesia: BTreeMap<Arc<str>, bool>,
}

impl Ledger {
    /// Of an object.
    pub fn record(&self, place: &WatchPosition) -> Record {
        self.records.get(place).copied().unwrap_or_default()
    }

    /// A reconcile is handed out.
    pub fn begun(&mut self, place: WatchPosition) {
        self.records.entry(place).or_default().due = None;
    }

    /// A reconcile has ended, and that counts.
    pub fn finished(&mut self, controller: &Arc<str>, finished: &Finished, now: Duration) {
        let place = (controller.clone(), finished.registration, finished.key.clone());
        let record = self.records.entry(place).or_default();
        record.ended += 1;
        if finished.is_ok {
            record.ok = record.ok.max(Some(finished.moment));
        }
        if let Some(requeue) = finished.requeue {
            record.due = Some(now + requeue);
        }
    }

    /// What is due for objects that are gone, or that their controllers no longer watch, is due no longer.
    pub fn drop_gone(&mut self, exists: impl Fn(&WatchPosition) -> bool) {
        let gone = self.records.iter_mut().filter(|(place, record)| record.due.is_some() && !exists(place));
        gone.for_each(|(_, record)| record.due = None);
    }

    /// The earliest timer of a controller; `None`: it has none, or is being stepped.
    pub fn set_timer(&mut self, controller: &Arc<str>, at: Option<Duration>) {
        match at {
            Some(at) => self.timers.insert(controller.clone(), at),
            None => self.timers.remove(controller),
        };
    }

    /// A controller runs from now on.
    pub fn up(&mut self, controller: &Arc<str>, now: Duration) {
        self.up.insert(controller.clone(), now);
    }

    /// A controller does not run any more.
    pub fn down(&mut self, controller: &str) {
        self.up.remove(controller);
    }

    /// There is trouble until then.
    pub fn trouble(&mut self, until: Duration) {
        self.calm = until.max(self.calm);
    }

    /// A controller continues from a snapshot while the wall clock lags by `by`: its timers are due that much later.
    pub fn delay(&mut self, controller: &str, by: Duration) {
        let its = self.records.iter_mut().filter(|((of, ..), _)| **of == *controller);
        its.filter_map(|(_, record)| record.due.as_mut()).for_each(|due| *due += by);
    }

    /// A controller has lost its memory of what was there.
    pub fn forget(&mut self, controller: &Arc<str>) {
        self.amnesia.insert(controller.clone(), true);
    }

    /// Whether it has.
    pub fn has_forgotten(&self, controller: &str) -> bool {
        self.amnesia.get(controller).copied().unwrap_or(false)
    }

    /// When the last of what is due now is due.
    pub fn last_due(&self, is_good: impl Fn(&str) -> bool) -> Option<Duration> {
        let dues = self.records.iter().filter(|((controller, ..), _)| is_good(controller));
        dues.filter_map(|(_, record)| record.due).max()
    }

    /// Requeues and timers come in time. `exists`: whether an object is there and the controller watches it.
    pub fn check(
        &self,
        now: Duration,
        is_good: impl Fn(&str) -> bool,
        exists: impl Fn(&WatchPosition) -> bool,
        observer: &Observer,
    ) {
        let is_late = |controller: &Arc<str>, due: Duration| {
            let since = self.up.get(controller).map(|up| due.max(*up).max(self.calm));
            is_good(controller) && since.is_some_and(|since| now > since + SLACK)
        };
        for (place, record) in &self.records {
            let (controller, _, key) = place;
            if let Some(due) = record.due.filter(|due| is_late(controller, *due) && exists(place)) {
                observer.violate(Invariant::Due, format_args!("{controller}: {key} was due at {due:?}"));
            }
        }
        for (controller, at) in &self.timers {
            if is_late(controller, *at) {
                observer.violate(Invariant::Due, format_args!("{controller}: a timer was to fire at {at:?}"));
            }
        }
    }
}
