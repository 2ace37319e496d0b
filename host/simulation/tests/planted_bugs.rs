//! Each planted bug is found: some seed below 1000 violates the invariant that it breaks.
//!
//! The rarest is `SwapPlaces`, which one of a hundred seeds finds: two controllers have to have seen different parts of
//! a watch when their host is killed.

use wasmop_simulation::observer::Invariant;
use wasmop_simulation::plant::Plant;
use wasmop_simulation::run::{RunOptions, note_panics, run};

const SEEDS: u64 = 1000;

/// Runs seeds until one violates one of these invariants.
fn finds(plant: Plant, expected: &[Invariant]) {
    note_panics();
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let outcome = run(seed, RunOptions { prints: false, plant: Some(plant) });
        let Some(violation) = outcome.violation else { continue };
        if expected.contains(&violation.invariant) {
            return;
        }
        others.push((seed, violation));
    }
    panic!("{plant:?} does not violate {expected:?} in {SEEDS} seeds; others: {others:#?}");
}

#[test]
fn lost_watch_events_are_found() {
    finds(Plant::DropChanges, &[Invariant::NoLostChange, Invariant::Children]);
}

#[test]
fn a_save_failure_that_the_loop_is_not_told_of_is_found() {
    finds(Plant::LoseSaveFailures, &[Invariant::InstancePlace]);
}

#[test]
fn requeues_that_start_over_with_the_host_are_found() {
    finds(Plant::ForgetElapsed, &[Invariant::Due]);
}

#[test]
fn credit_that_is_given_back_twice_is_found() {
    finds(Plant::GiveCreditTwice, &[Invariant::Conserved]);
}

#[test]
fn places_that_are_not_those_of_the_snapshot_are_found() {
    finds(Plant::SwapPlaces, &[Invariant::NoLostChange, Invariant::Children]);
}

#[test]
fn watches_that_go_on_without_subscribers_are_found() {
    finds(Plant::KeepWatches, &[Invariant::Subscriptions]);
}

#[test]
fn answers_that_are_delivered_twice_are_found() {
    finds(Plant::AnswerTwice, &[Invariant::Protocol, Invariant::Conserved]);
}

#[test]
fn instances_that_are_in_two_places_are_found() {
    finds(Plant::KeepInstances, &[Invariant::InstancePlace]);
}

#[test]
fn timers_that_do_not_wake_the_loop_are_found() {
    finds(Plant::SleepIn, &[Invariant::Due]);
}

#[test]
fn two_holders_of_a_controller_are_found() {
    finds(Plant::SlowClock, &[Invariant::OneHolder]);
}

#[test]
fn connections_that_are_not_given_back_are_found() {
    finds(Plant::LeakConnections, &[Invariant::Conserved]);
}

#[test]
fn writes_that_get_lost_are_found() {
    finds(Plant::DropWrites, &[Invariant::Children]);
}

#[test]
fn reconciles_whose_end_is_not_told_are_found() {
    finds(Plant::DropDone, &[Invariant::Protocol, Invariant::Quiet, Invariant::NoLostChange]);
}

#[test]
fn answers_beyond_all_bounds_are_found() {
    finds(Plant::RepeatBodies, &[Invariant::Bounded]);
}
