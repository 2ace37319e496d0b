//! What is under way, to [`Traces`](crate::traces::Traces) in its terms. Without one nothing of this does anything.

use std::io;
use std::time::{Duration, Instant};

use wasmop_core::step::{Call, Event, EventKind};
use wasmop_snapshot::Saved;
use wasmop_vm::instance;

use super::Host;
use super::suspending::Why;
use crate::traces::{Begin, Peer, RequestSpan, Suspended, SuspendedBytes};

impl Host {
    /// Reconciles that go on where an earlier host stopped.
    pub(super) fn trace_continued(&mut self, index: u32) {
        if self.traces.is_some() {
            let tasks: Vec<u64> = self.slots[index as usize].controller.tasks().collect();
            for task in tasks {
                self.trace_begin(index, task, true);
            }
        }
    }

    /// These events go to a worker. `snapshot_bytes`: of what the instance is resumed from.
    pub(super) fn trace_step(&mut self, index: u32, events: Option<&[Event]>, snapshot_bytes: Option<u64>) {
        let Some(events) = events.filter(|_| self.traces.is_some()) else { return };
        for event in events.iter().filter(|event| event.kind == EventKind::Reconcile) {
            self.trace_begin(index, event.task, false);
        }
        if let Some(traces) = &mut self.traces {
            traces.stepping(index, events.iter().map(|event| event.task), snapshot_bytes);
        }
    }

    fn trace_begin(&mut self, index: u32, task: u64, continued: bool) {
        let slot = &self.slots[index as usize];
        let Some(traces) = &mut self.traces else { return };
        let Some((reconcile, registration)) = slot.controller.reconcile(task) else { return };
        let manifest = &slot.package.manifest;
        let begin = Begin {
            controller: &slot.name,
            package: (&manifest.name, &manifest.version),
            tier: slot.package.tier(),
            registration: &registration.spec,
            object: &reconcile.key,
            at: self.started + reconcile.since,
            attempt: registration.queue.failures(&reconcile.key).saturating_add(1),
            waited: (!continued).then_some(reconcile.waited),
        };
        traces.begin(index, task, &begin);
    }

    pub(super) fn trace_request(
        &self,
        index: u32,
        task: u64,
        method: &str,
        peer: &Peer<'_>,
    ) -> Option<Box<RequestSpan>> {
        self.traces.as_ref()?.request(index, task, method, peer)
    }

    /// A call is answered by the host itself: `what` became of it.
    pub(super) fn trace_unsent(&mut self, index: u32, call: &Call, what: &'static str) {
        if let Some(traces) = &mut self.traces {
            let path = call.target.is_empty().then_some(&*call.path);
            traces.event(index, call.task, what, &call.method, path);
        }
    }

    /// `time`: when it began, and how long it took.
    pub(super) fn trace_saved(&mut self, index: u32, why: Why, time: (Instant, Duration), result: &io::Result<Saved>) {
        self.trace_written(
            index,
            why,
            time,
            result.as_ref().map(|saved| SuspendedBytes {
                dirty: saved.dirty_bytes,
                written: saved.written_bytes,
                on_disk: saved.snapshot.disk_bytes,
            }),
        );
    }

    pub(super) fn trace_soft_suspended(
        &mut self,
        index: u32,
        why: Why,
        time: (Instant, Duration),
        result: &io::Result<instance::Suspended>,
    ) {
        self.trace_written(
            index,
            why,
            time,
            result.as_ref().map(|suspended| SuspendedBytes {
                dirty: suspended.dirty_bytes,
                written: suspended.written_bytes,
                on_disk: suspended.disk_bytes,
            }),
        );
    }

    fn trace_written(
        &mut self,
        index: u32,
        why: Why,
        (begun, took): (Instant, Duration),
        result: Result<SuspendedBytes, &io::Error>,
    ) {
        let Some(traces) = &mut self.traces else { return };
        let suspended = Suspended {
            controller: &self.slots[index as usize].name,
            checkpoint: why == Why::LogFull,
            reason: why.as_str(),
            begun,
            took,
            result: result.map_err(|error| error.to_string()),
        };
        traces.suspended(index, &suspended);
    }
}
