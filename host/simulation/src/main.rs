//! `wasmop-simulate`: runs seeds of the simulation.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use wasmop_simulation::run::{Outcome, RunOptions, note_panics, run};

/// Runs whole hosts in virtual time, a seed at a time, and checks that nothing is lost.
#[derive(Debug, Parser)]
#[command(name = "wasmop-simulate")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seeds at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print every event and effect.
    #[arg(long)]
    trace: bool,
    /// Run each seed twice, and compare.
    #[arg(long)]
    check_determinism: bool,
    /// Go on after a failure, and list all seeds that fail.
    #[arg(long)]
    keep_going: bool,
}

struct Failed {
    seed: u64,
    outcome: Outcome,
    /// Two runs differed.
    differs: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    note_panics();
    let (next, done, stop) = (AtomicU64::new(arguments.seed), AtomicU64::new(0), AtomicBool::new(false));
    let failed: Mutex<Vec<Failed>> = Mutex::default();
    let begun = Instant::now();
    let end = arguments.seed.saturating_add(arguments.seeds);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if let Some(found) = check(seed, &arguments) {
                stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
                failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(found);
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            thread::sleep(Duration::from_millis(100));
            if std::io::stderr().is_terminal() {
                progress(&done, arguments.seeds, begun);
            }
        }
    });
    progress(&done, arguments.seeds, begun);
    eprintln!();
    let mut failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.sort_by_key(|failed| failed.seed);
    failed.iter().for_each(|failed| report(failed, arguments.keep_going));
    let ran = done.load(Ordering::Relaxed).saturating_sub(failed.len() as u64);
    println!("simulation: {ran} passed, {} failed, 0 skipped", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(seed: u64, arguments: &Arguments) -> Option<Failed> {
    let outcome = run(seed, RunOptions { prints: arguments.trace, plant: None });
    let differs = arguments.check_determinism && run(seed, RunOptions::default()).fingerprint != outcome.fingerprint;
    (differs || outcome.violation.is_some()).then_some(Failed { seed, outcome, differs })
}

fn progress(done: &AtomicU64, seeds: u64, begun: Instant) {
    let done = done.load(Ordering::Relaxed);
    let each = begun.elapsed().as_secs_f64() * 1000.0 / done.max(1) as f64;
    eprint!("\r{done} of {seeds} seeds, {each:.1} ms each ");
    let _ = std::io::stderr().flush();
}

fn report(failed: &Failed, briefly: bool) {
    let Failed { seed, outcome, differs } = failed;
    if *differs {
        println!("failed: seed {seed}: two runs differ");
    }
    let Some(violation) = &outcome.violation else { return };
    let at = violation.at.as_secs_f64();
    println!("failed: seed {seed}: {:?} at {at:.3} s: {}", violation.invariant, violation.message);
    if briefly {
        return;
    }
    outcome.last_lines.iter().for_each(|line| println!("  {line}"));
    println!("repeat: cargo xtask simulate --seeds 1 --seed {seed} --trace");
}
