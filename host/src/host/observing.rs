//! What is told about the host and its controllers, copied when somebody asks.

use std::collections::HashSet;
use std::sync::Arc;

use super::leading::Lead;
use super::{Host, Phase, Slot};
use crate::status::observed::{Controller, Election, Observed, Question, Queue};
use crate::status::values::State;

impl Host {
    pub(super) fn answer(&self, question: Question) {
        // Whoever asked may have gone away.
        match question {
            Question::Alive(tx) => {
                let _ = tx.send(());
            }
            Question::All(tx) => {
                let _ = tx.send(self.observe());
            }
        }
    }

    fn observe(&self) -> Observed {
        let mut packages = HashSet::new();
        let packages =
            self.slots.iter().map(|slot| &slot.package).filter(|package| packages.insert(Arc::as_ptr(package)));
        let code_bytes = packages.map(|package| package.code_bytes()).sum();
        Observed {
            now: self.now(),
            controllers: self.slots.iter().map(Slot::observe).chain(self.failed.iter().cloned()).collect(),
            watches: self.hub.status(),
            totals: self.totals.clone(),
            code_bytes,
            spare_bytes: self.engine.spares().bytes(),
            memory_budget: self.memory_budget,
            cached: self.hub.objects_usage(),
            cache_memory: self.cache_memory,
            election: self.others.as_ref().map(|others| Election {
                identity: others.identity().clone(),
                trouble: others.trouble().map(Into::into),
            }),
        }
    }
}

impl Slot {
    fn observe(&self) -> Controller {
        let mut queue = Queue::default();
        for registration in self.controller.registrations() {
            let (ready, delayed, adds, retries) = registration.queue.counts();
            queue.depth += ready;
            queue.delayed += delayed;
            queue.adds += u64::from(adds);
            queue.retries += u64::from(retries);
        }
        Controller {
            name: self.name.clone(),
            tier: self.package.tier(),
            state: match &self.phase {
                _ if matches!(self.lead, Lead::Standby) => State::Standby,
                Phase::Suspended(_) => State::Suspended,
                Phase::Resident(instance) if instance.is_suspended() => State::Suspended,
                Phase::Resident(_) => State::Resident,
                Phase::Busy => State::Busy,
            },
            resident_bytes: self.resident_bytes() + self.kept_bytes(),
            queue,
            active: self.controller.active(),
            requests: self.requests.len(),
            registered: self.controller.has_registered(),
            counters: self.counters.clone(),
        }
    }
}
