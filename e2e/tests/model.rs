//! The conformance guests under random operations, each as a pair of twins.
//!
//! One twin is never suspended. The other is suspended, saved and taken over by another host at random moments. After
//! every operation the memories and globals of both are equal, bit for bit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wasmop_core::controller::{Controller, Effect};
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Call, EventKind, StepInput};
use wasmop_e2e::fake_api::FakeApi;
use wasmop_e2e::guests::{self, Column};
use wasmop_e2e::part::{self, Part};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_snapshot::{ControllerStore, StateDir};
use wasmop_vm::compiled_package::InstalledPackage;
use wasmop_vm::engine::Engine;
use wasmop_vm::instance::{FullInstance as Instance, Origin};

/// Sequences of operations for each guest.
const SEQUENCES: u64 = 6;
/// Operations of a sequence.
const OPERATIONS: u64 = 60;

fn main() -> ExitCode {
    part::main("model", &guests::COLUMNS, run)
}

async fn run(part: &Part) -> Result<()> {
    let rows: Vec<String> = (0..SEQUENCES).map(|seed| format!("sequence {seed} leaves the same memory")).collect();
    rows.iter().for_each(|row| part.list(row));
    let out = tempfile::tempdir()?;
    for Column { name, guest } in tokio::task::block_in_place(|| guests::build_all(out.path()))? {
        for (seed, row) in (0..).zip(&rows) {
            match &guest {
                Ok(guest) => {
                    let check = async { tokio::task::block_in_place(|| sequence(&guest.package, seed)) };
                    part.row(row, name, check).await;
                }
                Err(reason) => part.skip(row, name, reason),
            }
        }
    }
    Ok(())
}

/// A controller with its own state directory.
struct Twin {
    path: PathBuf,
    engine: Engine,
    parsed: Package,
    // Keeps the lock of the directory.
    state: Option<StateDir>,
    package: Arc<InstalledPackage>,
    store: Arc<ControllerStore>,
    controller: Controller,
    instance: Option<Instance>,
    origin: Origin,
    seq: u64,
    api: FakeApi,
    /// Requests without a response.
    pending: Vec<Call>,
}

impl Twin {
    fn new(path: &Path, engine: &Engine, package: &Path, heap_mib: u64) -> Result<Twin> {
        let parsed = Package::parse(std::fs::read(package)?)?;
        let state = StateDir::open(path)?;
        let package = Arc::new(InstalledPackage::install(engine, &state, &parsed, &Limits::NONE)?);
        let store = Arc::new(state.controller("probe")?);
        Ok(Twin {
            path: path.into(),
            engine: engine.clone(),
            api: FakeApi::new(&parsed.manifest.name, heap_mib),
            controller: Controller::new(Duration::ZERO, package.first_monotonic_ns()),
            parsed,
            state: Some(state),
            package,
            store,
            instance: None,
            origin: Origin::Fresh,
            seq: 0,
            pending: Vec::new(),
        })
    }

    fn resident(&mut self) -> Result<&mut Instance> {
        if self.instance.is_none() {
            let registered = self.controller.registered();
            self.instance = Some(Instance::start(&self.package, &self.store, self.origin, registered)?);
        }
        self.instance.as_mut().context("resident")
    }

    /// Steps until no work is due at `now`. Every input of a step is derived from `seed`.
    fn settle(&mut self, now: Duration, seed: u64) -> Result<()> {
        for n in 0..1000 {
            let Some(mut events) = self.controller.take_batch(now) else { return Ok(()) };
            for event in events.iter_mut().filter(|e| e.kind == EventKind::Start) {
                event.payload = Startup::default().payload(&self.parsed.manifest.name).into();
            }
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            bytes[8] = n as u8;
            let wall = 1_790_000_000_000_000_000 + now.as_nanos() as u64;
            let input =
                StepInput { now: wall, monotonic: self.controller.clock(now), seed: bytes, startup: None, events };
            let output = match self.resident()?.step(input) {
                Ok(output) => output,
                Err((failure, _)) => bail!("the guest failed: {}", failure.detail),
            };
            for effect in self.controller.commit(output, now, now) {
                if let Effect::Call(call) = effect {
                    self.pending.push(call);
                }
            }
        }
        bail!("it never becomes idle")
    }

    /// Answers the pending request with index `at` (modulo their number).
    fn answer(&mut self, at: u64) {
        if self.pending.is_empty() {
            return;
        }
        let call = self.pending.remove(at as usize % self.pending.len());
        let (status, body) = self.api.answer(&call);
        let headers = Bytes::from_static(b"content-type: application/json\n");
        self.controller.answer(call.id, EventKind::Head, status, headers);
        self.controller.answer(call.id, EventKind::Body, 0, body.into());
        self.controller.answer(call.id, EventKind::End, 0, Bytes::new());
    }

    fn save(&mut self, suspending: bool, sync: bool) -> Result<()> {
        self.resident()?;
        let mut instance = self.instance.take().context("resident")?;
        self.seq += 1;
        let moment =
            SnapshotMeta { digest: self.parsed.digest, wall_ns: self.seq, monotonic_ns: 1, host_state: Vec::new() };
        let registered = self.controller.registered();
        let mut saved = instance.save(&self.store, moment, suspending, registered)?;
        let job = saved.job(&self.store, |_| ());
        if sync {
            job.run(&Disk::default());
        }
        self.origin = Origin::Snapshot(saved.snapshot);
        if suspending {
            instance.recycle(&self.package, &mut saved);
        } else {
            self.instance = Some(instance);
        }
        Ok(())
    }

    /// Another host takes over the state on disk.
    fn restart(&mut self) -> Result<()> {
        self.state = None;
        let state = StateDir::open(&self.path)?;
        self.engine = Engine::new()?;
        self.package = Arc::new(InstalledPackage::install(&self.engine, &state, &self.parsed, &Limits::NONE)?);
        self.store = Arc::new(state.controller("probe")?);
        self.state = Some(state);
        let image = self.package.image().context("the package has no memory image")?;
        let (snapshot, _) = self.store.recover(&self.parsed.digest, image)?.context("nothing was saved")?;
        self.origin = Origin::Snapshot(snapshot);
        Ok(())
    }
}

/// Runs random operations on both twins, and compares them after each operation.
fn sequence(package: &Path, seed: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let engine = Engine::new()?;
    let heap_mib = [0, 1, 4][seed as usize % 3];
    let mut suspended = Twin::new(&dir.path().join("a"), &Engine::new()?, package, heap_mib)?;
    // The base image has random values of the initialisation, such as hash seeds. Both twins start from the same one.
    let images = (dir.path().join("a/images"), dir.path().join("b/images"));
    std::fs::create_dir_all(&images.1)?;
    for image in std::fs::read_dir(&images.0)? {
        let image = image?;
        std::fs::copy(image.path(), images.1.join(image.file_name()))?;
    }
    let mut resident = Twin::new(&dir.path().join("b"), &engine, package, heap_mib)?;
    let mut now = Duration::from_secs(1);
    let mut suspends = 0;
    for n in 0..OPERATIONS {
        let what = rng.random_range(0..10);
        let number: u64 = rng.random();
        for twin in [&mut suspended, &mut resident] {
            match what {
                0..3 => twin.controller.enqueue(RegistrationId(0), format!("default/probe-{}", number % 4).into(), now),
                3..8 => twin.answer(number),
                _ => {}
            }
        }
        now += Duration::from_millis(if what >= 8 { number % 3000 } else { number % 20 });
        suspended.settle(now, number)?;
        resident.settle(now, number)?;
        let suspend = rng.random_range(0..10);
        if suspend < 7 {
            suspended.save(suspend < 6, rng.random_bool(0.7))?;
            suspends += u64::from(suspend < 6);
        }
        if suspend < 6 && rng.random_bool(0.1) {
            suspended.restart()?;
        }
        let (memory, globals) = suspended.resident()?.state()?;
        let (expected, expected_globals) = resident.resident()?.state()?;
        ensure!(globals == expected_globals, "different globals after operation {n}");
        if memory != expected {
            let at = memory.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(memory.len().min(expected.len()));
            bail!(
                "different memory after operation {n}, first at {at:#x} of {:#x} and {:#x}",
                memory.len(),
                expected.len()
            );
        }
    }
    println!("sequence {seed}: {suspends} suspends");
    Ok(())
}
