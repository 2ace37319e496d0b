//! Drives one controller through the parts of a host: state machine, steps, snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use wasmop_core::controller::{Controller, Effect, Outcome};
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::startup::Startup;
use wasmop_core::step::{EventKind, Lost};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_snapshot::sync::Syncer;
use wasmop_snapshot::{ControllerStore, Durability, SavedSnapshot, StateDir};
use wasmop_vm::compiled_package::InstalledPackage;
use wasmop_vm::engine::Engine;
use wasmop_vm::instance::{Instance, Origin};
use wasmop_vm::step_input::wall_clock_ns;
use wasmop_vm::step_runner::{InstanceSource, StepJob};

use wasmop_e2e::fake_api::FakeApi;

pub struct Simulation {
    package: Arc<InstalledPackage>,
    store: Arc<ControllerStore>,
    syncer: Syncer,
    controller: Controller,
    instance: Option<Box<Instance>>,
    origin: Origin,
    started: Instant,
    api: FakeApi,
}

/// The times of one resume.
pub struct Resumed {
    pub resume: Duration,
    pub first_step: Duration,
}

impl Simulation {
    pub fn new(engine: &Engine, state: &StateDir, package: &Package, api: FakeApi) -> Result<Simulation> {
        let installed = Arc::new(InstalledPackage::install(engine, state, package, &Limits::NONE)?);
        let clock = installed.first_monotonic_ns();
        Ok(Simulation {
            store: Arc::new(state.controller(&package.manifest.name)?),
            syncer: Syncer::start(Disk::default(), Durability::Event)?,
            controller: Controller::new(Duration::ZERO, clock),
            instance: None,
            origin: Origin::Fresh,
            started: Instant::now(),
            api,
            package: installed,
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Queues a reconcile of the only object.
    pub fn enqueue(&mut self) {
        let now = self.now();
        self.controller.enqueue(RegistrationId(0), "default/probe".into(), now);
    }

    /// Runs one step if there is work. The answers to its calls are events of the next step.
    fn step(&mut self) -> Result<Option<(Option<Duration>, Duration)>> {
        let now = self.now();
        let Some(mut events) = self.controller.take_batch(now) else { return Ok(None) };
        for event in events.iter_mut().filter(|e| e.kind == EventKind::Start) {
            event.payload = Startup::default().payload(&self.package.manifest.name).into();
        }
        let source = match self.instance.take() {
            Some(instance) => InstanceSource::Resident(instance),
            None => InstanceSource::Start { origin: self.origin, wasi: None, registered: self.controller.registered() },
        };
        let monotonic = self.controller.clock(now);
        let batch = StepJob {
            source,
            events: Some(events),
            monotonic,
            tasks: self.controller.tasks().collect(),
            startup: Default::default(),
        };
        let report = batch.run(&self.package, &self.store);
        if let Some(failure) = report.steps.failures.first() {
            bail!("the guest failed: {}", failure.detail);
        }
        if let Some(Lost::Snapshot(why) | Lost::Start(why)) = report.steps.lost {
            bail!("the guest could not be started: {why}");
        }
        self.instance = Some(report.instance.context("the guest is lost")?);
        for output in report.steps.outputs {
            for effect in self.controller.commit(output, now, now) {
                self.apply(effect)?;
            }
        }
        Ok(Some((report.steps.resume, report.steps.step)))
    }

    fn apply(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Call(call) => {
                let (status, body) = self.api.answer(&call);
                let headers = Bytes::from_static(b"content-type: application/json\n");
                self.controller.answer(call.id, EventKind::Head, status, headers);
                self.controller.answer(call.id, EventKind::Body, 0, body.into());
                self.controller.answer(call.id, EventKind::End, 0, Bytes::new());
                Ok(())
            }
            Effect::Reconciled { outcome: Outcome::Error { message, .. }, .. } => {
                bail!("the reconcile failed: {message}")
            }
            Effect::MapFailed { message, .. } => bail!("the map function failed: {message}"),
            Effect::Misbehaved(what) => bail!("the guest misused its interface: {what}"),
            Effect::Registered(_)
            | Effect::Unregistered(_)
            | Effect::Mapped { .. }
            | Effect::DropCall(_)
            | Effect::Reconciled { .. } => Ok(()),
        }
    }

    /// Runs steps until there is no work.
    pub fn settle(&mut self) -> Result<()> {
        while self.step()?.is_some() {}
        Ok(())
    }

    /// Frees the memories that a resume could reuse.
    pub fn forget_memories(&self) {
        self.package.engine().memory_pool().clear();
    }

    /// Unloads the code, so that nothing of the controller is mapped.
    pub fn forget_code(&self) {
        self.package.drop_idle_code(Duration::ZERO);
    }

    /// The bytes that a resume from a cold page cache prefetches: of the snapshot with its base image, and of the compiled
    /// code. Only while suspended.
    pub fn read_ahead_bytes(&self) -> Result<(u64, u64)> {
        let Origin::Snapshot(snapshot) = self.origin else { bail!("not suspended") };
        let open = self.store.open(&snapshot)?;
        let image = self.package.image().context("no base image")?;
        let base = self.store.base(&open.header, image)?;
        Ok((open.ahead_bytes(&base), self.package.code_ahead_bytes()))
    }

    /// Resumes for a reconcile. Measures the resume and the step that receives the event.
    pub fn resume(&mut self) -> Result<Resumed> {
        self.enqueue();
        let (resume, first_step) = self.step()?.context("nothing to do")?;
        Ok(Resumed { resume: resume.context("was not suspended")?, first_step })
    }

    /// Suspends. Returns the times until the file is written and until it is durable.
    pub fn suspend(&mut self) -> Result<(Duration, Duration, SavedSnapshot)> {
        let Instance::Full(mut instance) = *self.instance.take().context("not resident")? else {
            bail!("a guest of the soft tier");
        };
        let started = Instant::now();
        let now = self.now();
        let moment = SnapshotMeta {
            digest: self.package.digest,
            wall_ns: wall_clock_ns(),
            monotonic_ns: self.controller.clock(now),
            host_state: Vec::new(),
        };
        let registered = self.controller.registered();
        let mut saved = instance.save(&self.store, moment, true, registered)?;
        instance.recycle(&self.package, &mut saved);
        let written = started.elapsed();
        let (tx, rx) = std::sync::mpsc::channel();
        self.syncer.submit(saved.job(&self.store, move |result| {
            let _ = tx.send(result);
        }));
        rx.recv().context("the sync thread ended")??;
        let durable = started.elapsed();
        self.origin = Origin::Snapshot(saved.snapshot);
        Ok((written, durable, saved))
    }

    /// The size of the linear memory in bytes, or 0 while suspended.
    pub fn memory_size(&self) -> u64 {
        self.instance.as_ref().map_or(0, |i| i.memory_size())
    }
}
