//! A controller in WAT that scribbles over its memory as its random numbers say, and a host's worth of
//! state directory for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use wasmop_core::step::StepInput;
use wasmop_package::Package;
use wasmop_package::manifest::{Language, Limits, Manifest, Sdk, Toolchain};
use wasmop_snapshot::encryption::EncryptionKey;
use wasmop_snapshot::faulty_disk::FaultyDisk;
use wasmop_snapshot::format::SnapshotMeta;
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::{ControllerStore, StateDir};
use wasmop_vm::compiled_package::InstalledPackage;
use wasmop_vm::engine::Engine;
use wasmop_vm::instance::{FullInstance, Origin};

/// Each step draws numbers: it fills, clears or touches a few of 4 + grown pages of 64 KiB, sometimes a
/// long stretch, sometimes grows, and counts in a global.
const SCRIBBLER: &str = r#"(module
  (import "wasmop:controller/sys@0.1.0" "random" (func $random (result i64)))
  (memory (export "memory") 4 40)
  (data (i32.const 70000) "a base image is not all zeros")
  (global $steps (mut i64) (i64.const 0))
  (global $last (mut i64) (i64.const 0))
  (func $below (param $n i32) (result i32)
    (i32.wrap_i64 (i64.rem_u (call $random) (i64.extend_i32_u (local.get $n)))))
  (func $init (export "_initialize")
    (memory.fill (i32.const 81920) (i32.const 7) (i32.const 20000)))
  (func (export "wasmop:controller/guest@0.1.0#step")
    (local $left i32) (local $at i32) (local $what i32)
    (global.set $steps (i64.add (global.get $steps) (i64.const 1)))
    (local.set $left (call $below (i32.const 6)))
    (loop $again
      ;; Mostly in the first 16 pages of 4 KiB, so that the same ones change again and again.
      (local.set $at (i32.mul (i32.const 4096) (call $below
        (select (i32.const 16) (i32.mul (memory.size) (i32.const 16)) (call $below (i32.const 3))))))
      (local.set $what (call $below (i32.const 20)))
      (if (i32.lt_u (local.get $what) (i32.const 12))
        (then
          (global.set $last (call $random))
          (i64.store offset=8 (local.get $at) (global.get $last))))
      (if (i32.eq (local.get $what) (i32.const 12))
        (then (memory.fill (local.get $at) (i32.const 0) (i32.const 4096))))
      (if (i32.eq (local.get $what) (i32.const 13))
        (then (memory.fill (local.get $at) (call $below (i32.const 256)) (i32.const 4096))))
      (if (i32.eq (local.get $what) (i32.const 14))
        (then (drop (i64.load (local.get $at)))))
      (if (i32.eq (local.get $what) (i32.const 15))
        (then (drop (memory.grow (call $below (i32.const 2))))))
      ;; Restores what the base image has.
      (if (i32.eq (local.get $what) (i32.const 16))
        (then (memory.fill (i32.const 81920) (i32.const 7) (i32.const 20000))))
      (if (i32.and (i32.eq (local.get $what) (i32.const 17)) (i32.eqz (call $below (i32.const 4))))
        (then (memory.fill (i32.const 4096) (call $below (i32.const 256)) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4096)))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $left) (i32.const 0))))))"#;

pub static PACKAGE: LazyLock<Package> = LazyLock::new(|| package(SCRIBBLER));

/// The same with a base image of 3 MiB, so that hundreds of pages in slots are no reason for another one. In
/// place of the longest stretch it writes or clears a number in each of up to 400 pages in a row. A step at the
/// time [`write_pages`] does what that says, and nothing else.
pub static LARGE_PACKAGE: LazyLock<Package> = LazyLock::new(|| {
    let replacements = [
        (r#"(memory (export "memory") 4 40)"#, r#"(memory (export "memory") 56 80)"#),
        (
            "(memory.fill (i32.const 81920) (i32.const 7) (i32.const 20000)))\n  (func (export",
            "(memory.fill (i32.const 81920) (i32.const 7) (i32.const 3000000)))\n  (func (export",
        ),
        (
            "(memory.fill (i32.const 4096) (call $below (i32.const 256)) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4096)))",
            "(call $stretch)",
        ),
        (
            r#"(memory (export "memory") 56 80)"#,
            r#"(import "wasmop:controller/sys@0.1.0" "now" (func $now (result i64)))
  (memory (export "memory") 56 80)"#,
        ),
        (
            r#"(local $left i32) (local $at i32) (local $what i32)"#,
            r#"(local $left i32) (local $at i32) (local $what i32)
    (if (i64.eq (i64.shr_u (call $now) (i64.const 40)) (i64.const 0xabcdef)) (then (call $write) (return)))"#,
        ),
        (
            r#"(func $init (export"#,
            r#"(func $write (local $at i32) (local $end i32)
    (local.set $at (i32.mul (i32.const 4096) (i32.and (i32.wrap_i64 (call $now)) (i32.const 0xffff))))
    (local.set $end (i32.add (local.get $at)
      (i32.mul (i32.const 4096) (i32.and (i32.wrap_i64 (i64.shr_u (call $now) (i64.const 16))) (i32.const 0xffff)))))
    (block $large (loop $grow
      (br_if $large (i32.le_u (local.get $end) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.const 1)))
      (br $grow)))
    (loop $more
      (if (i64.eqz (i64.and (call $now) (i64.const 0x8000000000)))
        (then (i64.store offset=16 (local.get $at) (call $random)))
        (else (memory.fill (local.get $at) (i32.const 0) (i32.const 4096))))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end)))))
  (func $stretch (local $at i32) (local $left i32) (local $keep i64)
    (local.set $at (i32.mul (i32.const 65536) (call $below (i32.const 8))))
    (local.set $left (call $below (i32.const 400)))
    (local.set $keep (i64.extend_i32_u (call $below (i32.const 4))))
    (loop $more
      (if (i64.eqz (local.get $keep))
        (then (memory.fill (local.get $at) (i32.const 0) (i32.const 4096)))
        (else (i64.store offset=16 (local.get $at) (call $random))))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $more (i32.gt_s (local.tee $left (i32.sub (local.get $left) (i32.const 1))) (i32.const 0)))))
  (func $init (export"#,
        ),
    ];
    let mut text = SCRIBBLER.to_owned();
    for (from, to) in replacements {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    package(&text)
});

/// What a step of [`LARGE_PACKAGE`] does: write a random number into each of `count` pages from `first`, growing the
/// memory if need be, or fill them with zeros. `seed`, below 128, decides which numbers.
pub fn write_pages(first: u64, count: u64, zeros: bool, seed: u64) -> u64 {
    0xabcdef << 40 | u64::from(zeros) << 39 | seed << 32 | count << 16 | first
}

fn package(core: &str) -> Package {
    let manifest = Manifest::new("scribbler", "0.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"));
    let core = wat::parse_str(core).unwrap();
    Package::parse(wasmop_package::assemble(&core, &manifest).unwrap()).unwrap()
}

/// Memory and globals.
pub type State = (Vec<u8>, Vec<u64>);

pub fn input(seed: u64) -> StepInput {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    StepInput { now: seed, monotonic: seed, seed: bytes, startup: None, events: Vec::new() }
}

/// One controller of a host, and its disk.
pub struct Place {
    path: PathBuf,
    pub disk: Arc<FaultyDisk>,
    pub key: Option<EncryptionKey>,
    pub state: Option<StateDir>,
    parsed: &'static Package,
    pub package: Arc<InstalledPackage>,
    pub store: Arc<ControllerStore>,
    pub instance: Option<FullInstance>,
    pub origin: Origin,
    /// What the clock shows at the last save.
    clock: u64,
}

impl Place {
    pub fn new(path: &Path) -> Place {
        Place::with_disk(path, Arc::default(), None, &PACKAGE)
    }

    pub fn large(path: &Path) -> Place {
        Place::with_disk(path, Arc::default(), None, &LARGE_PACKAGE)
    }

    pub fn encrypted(path: &Path, key: EncryptionKey) -> Place {
        Place::with_disk(path, Arc::default(), Some(key), &PACKAGE)
    }

    fn with_disk(path: &Path, disk: Arc<FaultyDisk>, key: Option<EncryptionKey>, parsed: &'static Package) -> Place {
        let state = StateDir::open_on(disk.disk(), path, key.clone()).unwrap();
        // Of its own, as each host has it: memories that are used again belong to it.
        let engine = Engine::new().unwrap();
        let package = Arc::new(InstalledPackage::install(&engine, &state, parsed, &Limits::NONE).unwrap());
        let store = Arc::new(state.controller("c").unwrap());
        Place {
            path: path.into(),
            disk,
            key,
            state: Some(state),
            parsed,
            package,
            store,
            instance: None,
            origin: Origin::Fresh,
            clock: 0,
        }
    }

    pub fn controller_dir(&self) -> PathBuf {
        self.path.join("controllers/c")
    }

    pub fn resident(&mut self) -> &mut FullInstance {
        let (package, store, origin) = (&self.package, &self.store, self.origin);
        self.instance.get_or_insert_with(|| FullInstance::start(package, store, origin, 0).unwrap())
    }

    pub fn step(&mut self, seed: u64) {
        self.resident().step(input(seed)).map_err(|(failure, _)| failure.detail).unwrap();
    }

    pub fn contents(&mut self) -> State {
        self.resident().state().unwrap()
    }

    /// Saves; with `suspending`, the instance is gone afterwards if that was possible. `sync`: also puts
    /// it on disk. Returns bytes written and the bytes of changed pages.
    pub fn save(&mut self, suspending: bool, sync: bool) -> std::io::Result<(u64, u64)> {
        self.resident();
        let mut instance = self.instance.take().unwrap();
        self.clock += 1;
        let moment = SnapshotMeta {
            digest: self.parsed.digest,
            wall_ns: self.clock,
            monotonic_ns: 5,
            host_state: vec![1, 2, self.clock as u8],
        };
        let mut saved = match instance.save(&self.store, moment, suspending, 0) {
            Ok(saved) => saved,
            Err(error) => {
                self.instance = Some(instance);
                return Err(error);
            }
        };
        let job = saved.job(&self.store, |_| ());
        if sync {
            job.run(&self.disk.disk());
        }
        self.origin = Origin::Snapshot(saved.snapshot);
        let numbers = (saved.written_bytes, saved.dirty_bytes);
        if suspending {
            instance.recycle(&self.package, &mut saved);
        } else {
            self.instance = Some(instance);
        }
        Ok(numbers)
    }

    /// Another host takes over what there is on disk. Returns when the snapshot was written that it goes
    /// on from, 0 if it begins with the base image.
    pub fn restart(&mut self) -> Result<u64, ImageError> {
        self.instance = None;
        self.state = None;
        let next = Place::with_disk(&self.path, self.disk.clone(), self.key.clone(), self.parsed);
        *self = Place { clock: self.clock, ..next };
        let recovered = self.store.recover(&self.parsed.digest, self.package.image().unwrap())?;
        Ok(match recovered {
            None => 0,
            Some((snapshot, header)) => {
                assert_eq!(header.host_state, [1, 2, header.wall_ns as u8]);
                self.origin = Origin::Snapshot(snapshot);
                header.wall_ns
            }
        })
    }

    /// It begins anew in the same process, as a controller does that another host has run meanwhile.
    pub fn discard(&mut self) {
        self.instance = None;
        self.store.discard().unwrap();
        self.origin = Origin::Fresh;
    }

    /// When the last save was.
    pub fn last_save(&self) -> u64 {
        self.clock
    }

    /// Names of its own base images.
    pub fn own_bases(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.controller_dir()).into_iter().flatten();
        entries.map(|e| e.unwrap().file_name()).filter(|name| name != "state").collect()
    }

    /// No memory of an instance before is used again.
    pub fn forget_memories(&self) {
        self.package.engine().memory_pool().clear();
    }

    /// Sets the clock.
    pub fn set_clock(&mut self, to: u64) {
        self.clock = to;
    }
}
