//! An instance of the soft tier behaves the same, however often it is suspended.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use wasmop_core::step::StepFault;
use wasmop_package::Tier;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::StateDir;
use wasmtime::component::Component;

use super::*;
use crate::engine::Engine;
use crate::guest::GuestExports;

/// Begins with 4 MiB. A step changes words at random places, clears some pages, sometimes grows, and parks for a time made
/// of what it has read.
const SCRIBBLER: &str = r#"
(component
  (import "wasi:random/insecure@0.2.0" (instance))
  (import "wasmop:controller/sys@0.1.0" (instance $sys
    (export "random" (func (result u64)))
    (export "park" (func (param "timeout-ns" u64)))))
  (core func $random (canon lower (func $sys "random")))
  (core func $park (canon lower (func $sys "park")))
  (core module $m
    (import "sys" "random" (func $random (result i64)))
    (import "sys" "park" (func $park (param i64)))
    (memory (export "memory") 64)
    (data (i32.const 5000) "what it begins with")
    (func (export "step") (local $x i64) (local $read i64) (local $at i32) (local $left i32)
      (local.set $x (call $random))
      (if (i64.eqz (i64.and (local.get $x) (i64.const 7)))
        (then (if (i32.lt_u (memory.size) (i32.const 128)) (then (drop (memory.grow (i32.const 1)))))))
      (local.set $left (i32.const 20))
      (loop $again
        (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
        (local.set $at (i32.and (i32.const -8)
          (i32.rem_u (i32.wrap_i64 (i64.shr_u (local.get $x) (i64.const 33))) (i32.mul (memory.size) (i32.const 65536)))))
        (local.set $read (i64.xor (i64.rotl (local.get $read) (i64.const 1)) (i64.load (local.get $at))))
        (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (local.get $x)))
        (if (i64.eqz (i64.and (i64.shr_u (local.get $x) (i64.const 20)) (i64.const 3)))
          (then (memory.fill (i32.and (local.get $at) (i32.const -4096)) (i32.const 0) (i32.const 4096))))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (call $park (local.get $read))))
  (core instance $i (instantiate $m
    (with "sys" (instance (export "random" (func $random)) (export "park" (func $park))))))
  (func $step (canon lift (core func $i "step")))
  (instance $guest (export "step" (func $step)))
  (export "wasmop:controller/guest@0.1.0" (instance $guest)))"#;

/// A step waits for as many nanoseconds as its wall clock shows.
const WAITER: &str = r#"
(component
  (import "wasmop:controller/sys@0.1.0" (instance $sys (export "now" (func (result u64)))))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core func $now (canon lower (func $sys "now")))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $drop (canon resource.drop $pollable))
  (core module $m
    (import "host" "now" (func $now (result i64)))
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "drop" (func $drop (param i32)))
    (memory (export "memory") 1)
    (func (export "step") (local $pollable i32)
      (local.set $pollable (call $subscribe (call $now)))
      (call $block (local.get $pollable))
      (call $drop (local.get $pollable))))
  (core instance $i (instantiate $m (with "host" (instance
    (export "now" (func $now)) (export "subscribe" (func $subscribe))
    (export "block" (func $block)) (export "drop" (func $drop))))))
  (func $step (canon lift (core func $i "step")))
  (instance $guest (export "step" (func $step)))
  (export "wasmop:controller/guest@0.1.0" (instance $guest)))"#;

fn instance(engine: &Engine, text: &str, limits: &Limits) -> SoftInstance {
    let component = Component::new(engine.wasmtime(), wat::parse_str(text).unwrap()).unwrap();
    let exports = GuestExports::new(engine, &component, Tier::Soft).unwrap();
    SoftInstance::new(
        Guest::instantiate(engine, &exports, limits, 0, None, None, (&WasiGrant::default(), &Startup::default()))
            .unwrap()
            .0,
    )
}

fn input(now: u64, seed: u8) -> StepInput {
    StepInput { now, monotonic: 0, seed: [seed; 32], startup: None, events: Vec::new() }
}

impl SoftInstance {
    fn content(&mut self) -> Vec<u8> {
        let (memory, store) = self.guest.memory();
        memory.bytes(store).to_vec()
    }

    /// `Rss` and `Anonymous` of the memory in `/proc/self/smaps`, KiB.
    fn resident(&mut self) -> (u64, u64) {
        let (memory, store) = self.guest.memory();
        let bytes = memory.bytes(store).as_ptr_range();
        let (mut inside, mut resident, mut anonymous) = (false, 0, 0);
        for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let (first, rest) = line.split_once(' ').unwrap();
            let kib = || rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            if let Some((from, _)) = first.split_once('-') {
                let from = usize::from_str_radix(from, 16).unwrap() as *const u8;
                inside = bytes.contains(&from);
            } else if inside && first == "Rss:" {
                resident += kib();
            } else if inside && first == "Anonymous:" {
                anonymous += kib();
            }
        }
        (resident, anonymous)
    }
}

fn store() -> (tempfile::TempDir, StateDir, ControllerStore) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(&dir.path().join("state")).unwrap();
    let store = state.controller("c").unwrap();
    (dir, state, store)
}

#[test]
fn an_instance_suspended_at_random_steps_like_its_never_suspended_twin() {
    let engine = Engine::new().unwrap();
    let (_dir, _state, store) = store();
    for round in 0..8 {
        let mut random = StdRng::seed_from_u64(round);
        let mut one = instance(&engine, SCRIBBLER, &Limits::default());
        let mut twin = instance(&engine, SCRIBBLER, &Limits::default());
        let mut suspensions = 0;
        for step in 0..120u8 {
            let input = input(0, step ^ (round as u8) << 5);
            let parked = one.step(input.clone()).unwrap().park;
            assert_eq!(parked, twin.step(input).unwrap().park, "round {round}, step {step}");
            if random.next_u32().is_multiple_of(3) {
                one.suspend(&store).unwrap();
                suspensions += 1;
            }
        }
        assert!(
            suspensions > 20 && one.guest().memory_size() > 4 << 20,
            "{suspensions}, {}",
            one.guest().memory_size()
        );
        assert!(one.content() == twin.content(), "round {round}");
    }
}

#[test]
fn a_suspended_instance_has_all_pages_in_its_file_and_none_resident() {
    let engine = Engine::new().unwrap();
    let (dir, _state, store) = store();
    let mut one = instance(&engine, SCRIBBLER, &Limits::default());
    for step in 0..50 {
        one.step(input(0, step)).unwrap();
    }
    let (before, _) = one.resident();
    assert!(before > 1000, "{before} KiB");
    let content = one.content();
    let first = one.suspend(&store).unwrap();
    assert!(one.is_suspended());
    assert_eq!(one.resident(), (0, 0));
    // Pages that were only read count as dirty too, but are not written.
    assert!(first.dirty_bytes >= before * 1024);
    assert!(first.written_bytes > 0 && first.written_bytes <= before * 1024);
    // Zero pages take no room on disk.
    assert!(first.disk_bytes < content.len() as u64, "{} of {}", first.disk_bytes, content.len());
    let mut on_disk = vec![0; content.len()];
    one.backing.as_ref().unwrap().file.read_exact_at(&mut on_disk, 0).unwrap();
    assert!(on_disk == content);
    assert_eq!(std::fs::read_dir(dir.path().join("state/controllers/c")).unwrap().count(), 0, "it has no name");

    one.step(input(0, 200)).unwrap();
    assert!(!one.is_suspended());
    let (_, anonymous) = one.resident();
    let again = one.suspend(&store).unwrap();
    assert_eq!(again.dirty_bytes, anonymous * 1024, "what one step has written, and no more");
    assert!(again.dirty_bytes <= 40 * PAGE as u64, "{again:?}");
    assert_eq!(one.suspend(&store).unwrap().written_bytes, 0, "nothing to do");
}

#[test]
fn an_instance_goes_on_when_its_file_cannot_be_made() {
    let engine = Engine::new().unwrap();
    let (dir, _state, store) = store();
    let mut one = instance(&engine, SCRIBBLER, &Limits::default());
    one.step(input(0, 1)).unwrap();
    let content = one.content();
    std::fs::remove_dir(dir.path().join("state/controllers/c")).unwrap();
    assert!(one.suspend(&store).is_err());
    assert!(!one.is_suspended() && one.content() == content);
    one.step(input(0, 2)).unwrap();
}

#[test]
fn initialisation_logs_belong_to_the_first_step() {
    let engine = Engine::new().unwrap();
    let mut one = instance(&engine, SCRIBBLER, &Limits::default());
    let (level, target, message) = (tracing::Level::INFO, "stdout".to_owned(), "begins".to_owned());
    one.init_logs.push(LogLine { level, target, message, fields: String::new() });
    let mut messages = |seed| {
        let output = one.step(input(0, seed)).unwrap();
        output.logs.into_iter().map(|line| line.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(1), ["begins"]);
    assert!(messages(2).is_empty());
}

#[test]
fn waiting_counts_against_the_cpu_limit() {
    let engine = Engine::new().unwrap();
    let limits = Limits { cpu_per_step_ns: 200_000_000, ..Limits::default() };
    let mut waiter = instance(&engine, WAITER, &limits);
    waiter.step(input(1_000_000, 0)).unwrap();
    let hour = 3_600_000_000_000;
    let (failure, _) = waiter.step(input(hour, 0)).unwrap_err();
    assert_eq!(failure.cause, StepFault::CpuLimit);
    assert!(failure.detail.contains("waited and computed for more than 200ms"), "{}", failure.detail);
}
