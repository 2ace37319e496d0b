//! The input of a step: the time of day and random numbers, besides what it is about.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngCore;
use wasmop_core::step::{Event, StepInput};

/// What an instance's monotonic clock shows before its initialisation.
pub const FIRST_MONOTONIC_NS: u64 = 1_000_000_000;

/// Input of a step that begins now.
pub fn step_input(monotonic: u64, events: Vec<Event>) -> StepInput {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    StepInput { now: wall_clock_ns(), monotonic, seed, startup: None, events }
}

/// Nanoseconds since the Unix epoch.
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
