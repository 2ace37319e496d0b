//! A controller in WAT that scribbles over its memory as its random numbers say, and a host's worth of
//! state directory for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use wasmop_host::code::InstalledPackage;
use wasmop_host::engine::Engine;
use wasmop_host::guest::StepInput;
use wasmop_host::instance::{Instance, Origin};
use wasmop_host::snapshot::faults::BadDisk;
use wasmop_host::snapshot::format::Moment;
use wasmop_host::snapshot::image::ImageError;
use wasmop_host::snapshot::seal::SealKey;
use wasmop_host::snapshot::{ControllerStore, StateDir};
use wasmop_package::Package;
use wasmop_package::manifest::{Language, Limits, Manifest, Sdk, Toolchain};

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

pub static PACKAGE: LazyLock<Package> = LazyLock::new(|| {
    let manifest = Manifest::new("scribbler", "0.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"));
    let core = wat::parse_str(SCRIBBLER).unwrap();
    Package::parse(wasmop_package::assemble(&core, &manifest).unwrap()).unwrap()
});

/// Memory and globals.
pub type State = (Vec<u8>, Vec<u64>);

pub fn input(seed: u64) -> StepInput {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    StepInput { now: seed, monotonic: seed, seed: bytes, events: Vec::new() }
}

/// One controller of a host, and its disk.
pub struct Place {
    path: PathBuf,
    pub disk: Arc<BadDisk>,
    pub key: Option<SealKey>,
    pub state: Option<StateDir>,
    pub package: Arc<InstalledPackage>,
    pub store: Arc<ControllerStore>,
    pub instance: Option<Instance>,
    pub origin: Origin,
    /// What the clock shows at the last save.
    clock: u64,
}

impl Place {
    pub fn new(path: &Path) -> Place {
        Place::with_disk(path, Arc::default(), None)
    }

    pub fn encrypted(path: &Path, key: SealKey) -> Place {
        Place::with_disk(path, Arc::default(), Some(key))
    }

    fn with_disk(path: &Path, disk: Arc<BadDisk>, key: Option<SealKey>) -> Place {
        let state = StateDir::open_on(disk.disk(), path, key.clone()).unwrap();
        // Of its own, as each host has it: memories that are used again belong to it.
        let engine = Engine::new().unwrap();
        let package = Arc::new(InstalledPackage::install(&engine, &state, &PACKAGE, &Limits::NONE).unwrap());
        let store = Arc::new(state.controller("c").unwrap());
        Place {
            path: path.into(),
            disk,
            key,
            state: Some(state),
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

    pub fn resident(&mut self) -> &mut Instance {
        let (package, store, origin) = (&self.package, &self.store, self.origin);
        self.instance.get_or_insert_with(|| Instance::start(package, store, origin, 0).unwrap())
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
        let moment = Moment {
            digest: PACKAGE.digest,
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
        *self = Place { clock: self.clock, ..Place::with_disk(&self.path, self.disk.clone(), self.key.clone()) };
        let recovered = self.store.recover(&PACKAGE.digest, self.package.image().unwrap())?;
        Ok(match recovered {
            None => 0,
            Some((snapshot, header)) => {
                assert_eq!(header.host_state, [1, 2, header.wall_ns as u8]);
                self.origin = Origin::Snapshot(snapshot);
                header.wall_ns
            }
        })
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
        self.package.engine().spares().clear();
    }

    /// Sets the clock.
    pub fn set_clock(&mut self, to: u64) {
        self.clock = to;
    }
}
