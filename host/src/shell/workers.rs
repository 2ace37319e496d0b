//! Instances, which are in the shell or with a worker that steps, saves or drops them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmop_core::control_loop::{HostEvent, InstanceFacts, Save, SaveReason, Saved, SlotId, Step, Stepped, Written};
use wasmop_core::startup::Startup;
use wasmop_snapshot::ControllerStore;
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_vm::compiled_package::{CODE_LINGERS, InstalledPackage};
use wasmop_vm::instance::{Instance, Origin, SoftSuspension};
use wasmop_vm::step_input::wall_clock_ns;
use wasmop_vm::step_runner::{InstanceSource, StepJob, StepJobReport};
use wasmop_vm::wasi::WasiGrant;

use super::message::WrittenAt;
use super::{Message, Shell};

/// The instance, files and limits of a controller.
pub(crate) struct Tenant {
    pub package: Arc<InstalledPackage>,
    pub store: Arc<ControllerStore>,
    pub wasi: Option<Arc<WasiGrant>>,
    pub startup: Arc<Startup>,
    pub home: Home,
}

/// Where a controller's instance is; mirrored by the loop as `Phase`.
pub(crate) enum Home {
    /// There is no instance in memory.
    Suspended(Origin),
    /// The instance is in the shell.
    Resident(Box<Instance>),
    /// The instance is with a worker.
    Busy,
}

impl Tenant {
    fn take(&mut self) -> Home {
        std::mem::replace(&mut self.home, Home::Busy)
    }
}

/// Facts about an instance for the loop.
fn facts(instance: &Instance) -> InstanceFacts {
    InstanceFacts {
        anonymous_bytes: instance.anonymous_bytes(),
        table_bytes: instance.table_bytes(),
        memory_bytes: instance.memory_size(),
        log_is_full: instance.log_is_full(),
        is_soft: matches!(instance, Instance::Soft(_)),
        is_suspended: instance.is_suspended(),
    }
}

impl Shell {
    /// Hands the instance and events to a worker. Without events the worker only resumes it.
    pub(super) fn step(&mut self, step: Step) {
        let Step { slot, events, at, monotonic_ns, tasks, registered } = step;
        let tenant = self.tenant(slot);
        let (package, store) = (tenant.package.clone(), tenant.store.clone());
        let (source, was_suspended, snapshot_bytes) = match tenant.take() {
            Home::Resident(instance) => {
                let was_suspended = instance.is_suspended();
                (InstanceSource::Resident(instance), was_suspended, None)
            }
            Home::Suspended(origin) => {
                let snapshot_bytes = origin.snapshot().map(|snapshot| snapshot.disk_bytes);
                let wasi = tenant.wasi.clone();
                (InstanceSource::Start { origin, wasi, registered }, snapshot_bytes.is_some(), snapshot_bytes)
            }
            // The loop leaves an instance that is with a worker alone.
            Home::Busy => return,
        };
        let startup = tenant.startup.clone();
        let count = events.as_ref().map_or(0, Vec::len);
        if let Some(events) = &events {
            self.telemetry.stepping(slot, events.iter().map(|event| event.task), snapshot_bytes);
        }
        self.code_check.get_or_insert_with(|| tokio::time::Instant::now() + CODE_LINGERS);
        let job = StepJob { source, events, monotonic: monotonic_ns, tasks, startup };
        let tx = self.tx.clone();
        self.scheduler.submit(move || {
            let report = job.run(&package, &store);
            let _ = tx.send(Message::Stepped { slot, stepped_at: at, report, was_suspended, events: count });
        });
    }

    pub(super) fn on_stepped(
        &mut self,
        slot: SlotId,
        stepped_at: Duration,
        report: StepJobReport,
        was_suspended: bool,
        events: usize,
    ) {
        let begun = Instant::now();
        let StepJobReport { instance, begun: step_begun, steps } = report;
        self.telemetry.stepped(slot, step_begun, &steps, was_suspended, events);
        let facts = instance.as_deref().map(facts);
        self.tenant(slot).home = match instance {
            Some(instance) => Home::Resident(instance),
            None => Home::Suspended(Origin::Fresh),
        };
        let now = self.now();
        let stepped = Stepped { slot, stepped_at, was_suspended, events, instance: facts, report: steps };
        self.control.take(HostEvent::Stepped(Box::new(stepped)), now);
        // The loop's work for the controller counts as its CPU time too.
        self.control.charge(slot, begun.elapsed(), now);
    }

    /// Hands the instance to a worker, which writes it to disk, and drops it for a suspend.
    pub(super) fn save(&mut self, save: Save) {
        let Save { slot, reason, monotonic_ns, state, watches, registered } = save;
        let hub = &self.control.environment().hub;
        let watches: Vec<_> = watches.into_iter().filter_map(|watch| hub.watched(watch)).collect();
        let tenant = self.tenant(slot);
        let Home::Resident(instance) = tenant.take() else { return };
        let mut instance = match *instance {
            Instance::Full(instance) => instance,
            Instance::Soft(_) => {
                tenant.home = Home::Resident(instance);
                return;
            }
        };
        let meta = SnapshotMeta {
            digest: tenant.package.digest,
            wall_ns: wall_clock_ns(),
            monotonic_ns,
            host_state: state.encode(),
        };
        let (store, package, tx) = (tenant.store.clone(), tenant.package.clone(), self.tx.clone());
        self.scheduler.submit(move || {
            let begun = Instant::now();
            // The journal comes first, so that it covers the changes that the snapshot has seen. Otherwise the next
            // host reconciles more objects.
            for error in watches.iter().filter_map(|watch| watch.save().err()) {
                tracing::debug!(%error, "cannot write the watch journal");
            }
            let mut result = instance.save(&store, meta, reason.suspends(), registered);
            let instance = match &mut result {
                Ok(saved) if reason.suspends() => {
                    instance.recycle(&package, saved);
                    None
                }
                _ => Some(Box::new(Instance::Full(instance))),
            };
            let written = WrittenAt { reason, begun, took: begun.elapsed() };
            let _ = tx.send(Message::Saved { slot, instance, result, written });
        });
    }

    pub(super) fn on_saved(
        &mut self,
        slot: SlotId,
        instance: Option<Box<Instance>>,
        result: io::Result<wasmop_snapshot::SavedSnapshot>,
        written: WrittenAt,
    ) {
        let facts = instance.as_deref().map(facts);
        let tx = self.tx.clone();
        let tenant = &mut self.tenants[slot.index()];
        let result = result.map(|mut saved| {
            let done = move |result| {
                let _ = tx.send(Message::Synced { slot, result });
            };
            self.syncer.submit(saved.job(&tenant.store, done));
            if instance.is_none() {
                tenant.home = Home::Suspended(Origin::Snapshot(saved.snapshot));
            }
            Written {
                dirty_bytes: saved.dirty_bytes,
                written_bytes: saved.written_bytes,
                disk_bytes: saved.snapshot.disk_bytes,
            }
        });
        if let Some(instance) = instance {
            tenant.home = Home::Resident(instance);
        }
        self.take_saved(slot, facts, result, written);
    }

    /// Hands an instance of the soft tier to a worker, which moves its memory to disk.
    pub(super) fn suspend_softly(&mut self, slot: SlotId, reason: SaveReason) {
        let tenant = self.tenant(slot);
        let Home::Resident(mut live) = tenant.take() else { return };
        let (store, tx) = (tenant.store.clone(), self.tx.clone());
        self.scheduler.submit(move || {
            let begun = Instant::now();
            let result = match &mut *live {
                Instance::Soft(instance) => instance.suspend(&store),
                Instance::Full(_) => Err(io::Error::other("the instance is not of the soft tier")),
            };
            let written = WrittenAt { reason, begun, took: begun.elapsed() };
            let _ = tx.send(Message::SoftSuspended { slot, instance: live, result, written });
        });
    }

    pub(super) fn on_soft_suspended(
        &mut self,
        slot: SlotId,
        instance: Box<Instance>,
        result: io::Result<SoftSuspension>,
        written: WrittenAt,
    ) {
        let facts = Some(facts(&instance));
        self.tenant(slot).home = Home::Resident(instance);
        let result = result.map(|suspended| Written {
            dirty_bytes: suspended.dirty_bytes,
            written_bytes: suspended.written_bytes,
            disk_bytes: suspended.disk_bytes,
        });
        self.take_saved(slot, facts, result, written);
    }

    fn take_saved(
        &mut self,
        slot: SlotId,
        instance: Option<InstanceFacts>,
        result: io::Result<Written>,
        written: WrittenAt,
    ) {
        self.telemetry.saved(slot, self.control.name(slot), written, result.as_ref());
        if instance.is_none() {
            self.requests.shrink(slot);
        }
        let now = self.now();
        let saved = Saved { slot, reason: written.reason, instance, result, took: written.took };
        self.control.take(HostEvent::Saved(Box::new(saved)), now);
    }

    /// Drops the instance; the next one starts from the base image.
    pub(super) fn discard(&mut self, slot: SlotId) {
        let home = std::mem::replace(&mut self.tenant(slot).home, Home::Suspended(Origin::Fresh));
        if let Home::Resident(instance) = home {
            // Unmapping a large memory takes time.
            self.scheduler.submit(move || drop(instance));
        }
    }
}
