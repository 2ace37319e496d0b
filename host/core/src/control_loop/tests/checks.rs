//! What the loop's structs promise, checked after every event of every test.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Credit, Leadership, Phase, RESPONSE_CREDIT_BYTES};
use super::harness::Harness;
use crate::controller::MAX_HELD_BYTES;
use crate::watch::WatchId;

impl Harness {
    /// All of it.
    pub fn check(&self) {
        self.check_timers();
        self.check_subscriptions();
        for id in self.control.ids() {
            let slot = &self.control.slots[id];
            let is_busy = matches!(slot.phase, Phase::Busy);
            assert_eq!(is_busy, self.orders.contains_key(&id), "busy is exactly what is with a worker");
            let credit = slot.requests.credit.as_ref().map_or(0, |credit| credit.available());
            assert!(credit <= RESPONSE_CREDIT_BYTES, "more credit was given than taken: {credit}");
            let tasks: Vec<_> = slot.controller.tasks().filter_map(|task| slot.controller.task_object(task)).collect();
            let objects: BTreeSet<_> = tasks.iter().collect();
            assert_eq!(objects.len(), tasks.len(), "an object is reconciled once at a time");
            // On top of the limit there are refusals, and what one step may ask for.
            assert!(slot.controller.held_bytes() <= 3 * MAX_HELD_BYTES, "{} bytes", slot.controller.held_bytes());
            if matches!(slot.leadership, Leadership::Standby) {
                assert!(slot.watches.all.is_empty() && slot.requests.in_flight.is_empty() && slot.wake.is_none());
            }
        }
    }

    fn check_timers(&self) {
        let mut wakes: Vec<_> = self.control.slots.iter().filter_map(|(id, slot)| Some((slot.wake?, id))).collect();
        wakes.sort();
        assert_eq!(self.control.timers.all(), wakes, "timers mirror the slots' wake times");
        assert_eq!(self.control.next_wake(), wakes.first().map(|(at, _)| *at));
    }

    fn check_subscriptions(&self) {
        let (subscriptions, watches) = (&self.control.subscriptions, &self.control.environment.watches);
        let subscribed: BTreeMap<WatchId, usize> =
            subscriptions.by_watch.iter().map(|(watch, all)| (*watch, all.len())).collect();
        let held: BTreeMap<WatchId, usize> = watches.iter().map(|(id, watch)| (*id, watch.subscribers)).collect();
        assert_eq!(subscribed, held, "each subscription holds its watch once");
        let seen: BTreeSet<WatchId> = subscriptions.seen.keys().copied().collect();
        assert_eq!(seen, held.keys().copied().collect(), "what was seen is known of watches that there are");
        assert!(subscriptions.replays.keys().all(|(_, watch, _)| held.contains_key(watch)));
        assert!(subscriptions.waiting.keys().all(|(_, watch)| held.contains_key(watch)));
        for (id, slot) in self.control.slots.iter() {
            let of_slot = |watch: &WatchId| subscriptions.by_watch[watch].iter().any(|other| other.slot == id);
            let all: BTreeSet<WatchId> = slot.watches.all.iter().copied().collect();
            assert_eq!(all.len(), slot.watches.all.len(), "each watch is there once");
            assert_eq!(all, held.keys().copied().filter(of_slot).collect());
        }
    }
}
