//! The conformance guests under random operations: one of each is never suspended, its twin is suspended,
//! saved and taken over by another host at random moments. After every operation their memories and
//! globals are the same, bit for bit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wasmop_core::controller::{Controller, Effect};
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Call, EventKind, StepInput};
use wasmop_e2e::fake_api::FakeApi;
use wasmop_e2e::guests;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::format::Moment;
use wasmop_snapshot::{ControllerStore, StateDir};
use wasmop_vm::compiled_package::InstalledPackage;
use wasmop_vm::engine::Engine;
use wasmop_vm::instance::{FullInstance as Instance, Origin};

/// Sequences of operations for each guest, and their length.
const SEQUENCES: u64 = 6;
const OPERATIONS: u64 = 60;

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let out = tempfile::tempdir().expect("a directory");
    let columns = match guests::build_all(out.path()) {
        Ok(columns) => columns,
        Err(error) => {
            println!("failed: model: {error:#}\nmodel: 0 passed, 1 failed, 0 skipped");
            return ExitCode::FAILURE;
        }
    };
    for column in columns {
        let guest = match column.guest {
            Ok(guest) => guest,
            Err(reason) => {
                println!("skipped: model: {}: {reason}", column.name);
                skipped += SEQUENCES;
                continue;
            }
        };
        for seed in 0..SEQUENCES {
            let begun = Instant::now();
            match sequence(&guest.package, seed) {
                Ok(suspends) => {
                    passed += 1;
                    let took = begun.elapsed().as_secs_f64();
                    println!("{:7} sequence {seed}: the same after {suspends} suspends ({took:.1} s)", column.name);
                }
                Err(error) => {
                    failed += 1;
                    println!("failed: model: {} sequence {seed}: {error:#}", column.name);
                }
            }
        }
    }
    println!("model: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A controller of its own, in a state directory of its own.
struct Twin {
    path: PathBuf,
    engine: Engine,
    parsed: Package,
    // Holds the directory.
    state: Option<StateDir>,
    package: Arc<InstalledPackage>,
    store: Arc<ControllerStore>,
    controller: Controller,
    instance: Option<Instance>,
    origin: Origin,
    seq: u64,
    api: FakeApi,
    /// Requests that are not answered yet.
    asked: Vec<Call>,
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
            asked: Vec::new(),
        })
    }

    fn resident(&mut self) -> Result<&mut Instance> {
        if self.instance.is_none() {
            let registered = self.controller.registered();
            self.instance = Some(Instance::start(&self.package, &self.store, self.origin, registered)?);
        }
        self.instance.as_mut().context("resident")
    }

    /// Steps as long as there is something to do at `now`. What a step depends on follows from `seed`.
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
                    self.asked.push(call);
                }
            }
        }
        bail!("it never comes to rest")
    }

    /// Answers a request: which one, `at` says.
    fn answer(&mut self, at: u64) {
        if self.asked.is_empty() {
            return;
        }
        let call = self.asked.remove(at as usize % self.asked.len());
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
        let moment = Moment { digest: self.parsed.digest, wall_ns: self.seq, monotonic_ns: 1, host_state: Vec::new() };
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

    /// Another host takes over what is on disk.
    fn restart(&mut self) -> Result<()> {
        self.state = None;
        let state = StateDir::open(&self.path)?;
        self.engine = Engine::new()?;
        self.package = Arc::new(InstalledPackage::install(&self.engine, &state, &self.parsed, &Limits::NONE)?);
        self.store = Arc::new(state.controller("probe")?);
        self.state = Some(state);
        let image = self.package.image().context("of the full tier")?;
        let (snapshot, _) = self.store.recover(&self.parsed.digest, image)?.context("nothing was saved")?;
        self.origin = Origin::Snapshot(snapshot);
        Ok(())
    }
}

/// Returns how often the one was suspended.
fn sequence(package: &Path, seed: u64) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let engine = Engine::new()?;
    let heap_mib = [0, 1, 4][seed as usize % 3];
    let mut one = Twin::new(&dir.path().join("a"), &Engine::new()?, package, heap_mib)?;
    // What a guest draws while it is initialised (hash seeds) is in its base image: they start from one.
    let images = (dir.path().join("a/images"), dir.path().join("b/images"));
    std::fs::create_dir_all(&images.1)?;
    for image in std::fs::read_dir(&images.0)? {
        let image = image?;
        std::fs::copy(image.path(), images.1.join(image.file_name()))?;
    }
    let mut other = Twin::new(&dir.path().join("b"), &engine, package, heap_mib)?;
    let mut now = Duration::from_secs(1);
    let mut suspends = 0;
    for n in 0..OPERATIONS {
        let what = rng.random_range(0..10);
        let number: u64 = rng.random();
        for twin in [&mut one, &mut other] {
            match what {
                0..3 => twin.controller.enqueue(RegistrationId(0), format!("default/probe-{}", number % 4).into(), now),
                3..8 => twin.answer(number),
                _ => {}
            }
        }
        now += Duration::from_millis(if what >= 8 { number % 3000 } else { number % 20 });
        one.settle(now, number)?;
        other.settle(now, number)?;
        let suspend = rng.random_range(0..10);
        if suspend < 7 {
            one.save(suspend < 6, rng.random_bool(0.7))?;
            suspends += u64::from(suspend < 6);
        }
        if suspend < 6 && rng.random_bool(0.1) {
            one.restart()?;
        }
        let (memory, globals) = one.resident()?.state()?;
        let (expected, expected_globals) = other.resident()?.state()?;
        ensure!(globals == expected_globals, "other globals after operation {n}");
        if memory != expected {
            let at = memory.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(memory.len().min(expected.len()));
            bail!(
                "another memory after operation {n}, first at {at:#x} of {:#x} and {:#x}",
                memory.len(),
                expected.len()
            );
        }
    }
    Ok(suspends)
}
