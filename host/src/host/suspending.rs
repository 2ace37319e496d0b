//! Instances to disk: when they are idle, when their log is full, and all of them at shutdown.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wasmop_snapshot::Saved;
use wasmop_snapshot::format::Moment;
use wasmop_vm::instance::{Instance, Origin, SoftInstance, Suspended};
use wasmop_vm::step_input::wall_clock_ns;

use super::{Host, HostState, Message, Phase, SAVE_RETRY};

/// Why an instance is written to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It has nothing to do.
    Idle,
    /// The same, and it is to be back by itself when it is expected to have.
    IdleUntilExpected,
    /// The host's instances hold more than they may.
    Budget,
    /// The machine is short of memory.
    Pressure,
    /// Another host is to run it.
    Handover,
    Shutdown,
    /// It stays, but its steps since the last time are too many to be kept.
    LogFull,
}

impl Why {
    fn suspends(self) -> bool {
        self != Why::LogFull
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Why::Idle => "idle",
            Why::IdleUntilExpected => "idle-until-expected",
            Why::Budget => "budget",
            Why::Pressure => "pressure",
            Why::Handover => "handover",
            Why::Shutdown => "shutdown",
            Why::LogFull => "log-full",
        }
    }
}

impl Host {
    /// Has a worker write the instance to disk, and drop it if it is to be suspended.
    pub(super) fn save(&mut self, index: u32, why: Why) {
        let now = self.now();
        let (places, watches) = self.places(index);
        let slot = &mut self.slots[index as usize];
        let Phase::Resident(instance) = std::mem::replace(&mut slot.phase, Phase::Busy) else { return };
        let mut instance = match *instance {
            Instance::Full(instance) => instance,
            Instance::Soft(instance) => return self.suspend_softly(index, instance, why),
        };
        let host_state = HostState {
            controller: slot.controller.save(now),
            predictor: slot.deciding.predictor.clone(),
            places,
            startup: slot.startup.fingerprint(),
        };
        let moment = Moment {
            digest: slot.package.digest,
            wall_ns: wall_clock_ns(),
            monotonic_ns: slot.controller.clock(now),
            host_state: postcard::to_stdvec(&host_state).unwrap_or_default(),
        };
        let registered = slot.controller.registered();
        let suspending = why.suspends();
        let (store, package, tx) = (slot.store.clone(), slot.package.clone(), self.tx.clone());
        self.schedule(index, None);
        self.pool.submit(move || {
            let begun = Instant::now();
            // First, so that what the snapshot says it has seen is there. If it isn't, more is reconciled.
            for error in watches.iter().filter_map(|watch| watch.save().err()) {
                tracing::debug!(%error, "what was watched could not be written");
            }
            let mut result = instance.save(&store, moment, suspending, registered);
            let instance = match &mut result {
                Ok(saved) if suspending => {
                    instance.recycle(&package, saved);
                    None
                }
                _ => Some(Box::new(Instance::Full(instance))),
            };
            let took = begun.elapsed();
            let _ = tx.send(Message::Saved { slot: index, instance, result, why, begun, took });
        });
    }

    pub(super) fn on_saved(
        &mut self,
        index: u32,
        instance: Option<Box<Instance>>,
        result: io::Result<Saved>,
        took: Duration,
    ) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let suspended = instance.is_none();
        let mut saved = match result {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(
                    controller = &*slot.name,
                    %error,
                    "the snapshot could not be written: the controller stays in memory, trying again later"
                );
                slot.save_after = now + SAVE_RETRY;
                slot.counters.save_failed(now, &error);
                if let Some(instance) = instance {
                    slot.phase = Phase::Resident(instance);
                }
                self.tell_if_over_quota(index, &error);
                return;
            }
        };
        slot.counters.saved(suspended, saved.written_bytes, saved.snapshot.disk_bytes);
        self.totals.suspends.observe(took);
        let tx = self.tx.clone();
        let done = move |result| {
            let _ = tx.send(Message::Settled { slot: index, result });
        };
        self.syncer.submit(saved.job(&slot.store, done));
        slot.phase = match instance {
            Some(instance) => Phase::Resident(instance),
            None => {
                slot.shrink();
                Phase::Suspended(Origin::Snapshot(saved.snapshot))
            }
        };
        if suspended {
            slot.deciding.predictor.on_suspended(took, saved.written_bytes);
            if !self.may_log(index, 0) {
                return;
            }
            let slot = &self.slots[index as usize];
            tracing::info!(
                controller = &*slot.name,
                ram_bytes = slot.ram_bytes(),
                disk_bytes = saved.snapshot.disk_bytes,
                dirty_bytes = saved.dirty_bytes,
                written_bytes = saved.written_bytes,
                took_us = took.as_micros() as u64,
                in_flight = slot.controller.calls_in_flight() as u64,
                "suspended"
            );
        }
    }

    /// Has a worker move the memory of an instance of the soft tier to disk; at shutdown it ends.
    fn suspend_softly(&mut self, index: u32, mut instance: SoftInstance, why: Why) {
        let slot = &mut self.slots[index as usize];
        if self.shutting_down {
            tracing::info!(controller = &*slot.name, tier = "soft", "ended: its memory is not kept over a restart");
            slot.phase = Phase::Suspended(Origin::Fresh);
            return;
        }
        let (store, tx) = (slot.store.clone(), self.tx.clone());
        self.schedule(index, None);
        self.pool.submit(move || {
            let begun = Instant::now();
            let result = instance.suspend(&store);
            let took = begun.elapsed();
            let instance = Box::new(Instance::Soft(instance));
            let _ = tx.send(Message::SoftSuspended { slot: index, instance, result, why, begun, took });
        });
    }

    pub(super) fn on_soft_suspended(
        &mut self,
        index: u32,
        instance: Box<Instance>,
        result: io::Result<Suspended>,
        took: Duration,
    ) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        slot.phase = Phase::Resident(instance);
        match result {
            Ok(Suspended { dirty_bytes, written_bytes, disk_bytes }) => {
                slot.shrink();
                slot.deciding.predictor.on_suspended(took, written_bytes);
                slot.counters.saved(true, written_bytes, disk_bytes);
                self.totals.suspends.observe(took);
                if !self.may_log(index, 0) {
                    return;
                }
                let slot = &self.slots[index as usize];
                tracing::info!(
                    controller = &*slot.name,
                    tier = "soft",
                    disk_bytes,
                    dirty_bytes,
                    written_bytes,
                    took_us = took.as_micros() as u64,
                    in_flight = slot.controller.calls_in_flight() as u64,
                    "suspended"
                );
            }
            Err(error) => {
                tracing::warn!(
                    controller = &*slot.name,
                    %error,
                    "the memory could not be written to disk: the controller stays in memory, trying again later"
                );
                slot.save_after = now + SAVE_RETRY;
                slot.counters.save_failed(now, &error);
                self.tell_if_over_quota(index, &error);
            }
        }
    }

    /// Finishes the steps under way, suspends all, makes everything durable.
    pub(super) async fn shut_down(&mut self, mut rx: mpsc::UnboundedReceiver<Message>) {
        self.shutting_down = true;
        let limit = tokio::time::Instant::now() + self.shutdown_timeout;
        for slot in &mut self.slots {
            for request in slot.requests.values() {
                request.task.abort();
            }
        }
        for slot in 0..self.slots.len() as u32 {
            self.pump(slot);
        }
        while self.slots.iter().any(|s| matches!(s.phase, Phase::Busy)) {
            match tokio::time::timeout_at(limit, rx.recv()).await {
                Ok(Some(message)) => {
                    if let Some(slot) = self.on_message(message) {
                        self.pump(slot);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let busy = self.slots.iter().filter(|s| matches!(s.phase, Phase::Busy)).count();
                    tracing::warn!(
                        busy,
                        timeout_ms = self.shutdown_timeout.as_millis() as u64,
                        "not all could be suspended in time: these controllers continue from their last snapshots"
                    );
                    break;
                }
            }
        }
        let syncer = self.syncer.clone();
        let (tx, flushed) = tokio::sync::oneshot::channel();
        // A thread of its own: one of the runtime would have to be waited for.
        std::thread::spawn(move || {
            syncer.flush();
            let _ = tx.send(());
        });
        if tokio::time::timeout_at(limit, flushed).await.is_err() {
            tracing::warn!(
                "the disk did not confirm all snapshots in time: a crash of the machine now would lose them"
            );
        }
        self.stand_down().await;
        if let Some(traces) = &mut self.traces {
            traces.interrupt();
        }
        let suspended = self.slots.iter().filter(|s| matches!(s.phase, Phase::Suspended(_))).count();
        tracing::info!(suspended, "shutdown complete");
    }
}
