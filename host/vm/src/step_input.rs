//! The nondeterministic input of a step: wall clock and random seed.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngCore;
use wasmop_core::step::{Event, StepInput};

/// An instance's monotonic clock before its initialisation, nanoseconds.
pub const FIRST_MONOTONIC_NS: u64 = 1_000_000_000;

/// The input of a step that begins now. `monotonic`: the instance's monotonic clock, nanoseconds.
pub fn step_input(monotonic: u64, events: Vec<Event>) -> StepInput {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    StepInput { now: wall_clock_ns(), monotonic, seed, startup: None, events }
}

/// The wall clock, nanoseconds since the Unix epoch.
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
