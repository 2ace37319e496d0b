//! What is told about the host and its controllers, copied when somebody asks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wasmop_core::status::observed::{Controller, Election, Observed, Queue, Unwatched};
use wasmop_core::status::state::State;
use wasmop_core::watch::WatchId;

use super::leading::Lead;
use super::{Host, Phase, Slot};
use crate::status::Question;

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
            controllers: {
                let running = self.slots.iter().zip(0..).map(|(slot, index)| slot.observe(self.unwatched(index)));
                running.chain(self.failed.iter().cloned()).collect()
            },
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

impl Host {
    /// What a controller needs and cannot watch.
    fn unwatched(&self, index: u32) -> Option<Box<Unwatched>> {
        let watches = (index, WatchId(0))..=(index, WatchId(u32::MAX));
        if let Some((_, super::Unwatched { waiting, since })) = self.waiting.range(watches).next() {
            let (reason, message) = (waiting.cause.reason(), waiting.to_string().into());
            return Some(Box::new(Unwatched { reason, message, since: *since }));
        }
        let slot = &self.slots[index as usize];
        let denied =
            slot.controller.registrations().find(|registration| slot.primaries_of(registration.id).next().is_none())?;
        let message = format!("it is not granted to watch {}", denied.spec.primary.kind).into();
        Some(Box::new(Unwatched { reason: "NotGranted", message, since: Duration::ZERO }))
    }
}

impl Slot {
    fn observe(&self, unwatched: Option<Box<Unwatched>>) -> Controller {
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
            unwatched,
            counters: self.counters.clone(),
        }
    }
}
