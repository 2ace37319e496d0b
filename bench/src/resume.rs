//! Resumes and suspends one controller, by heap size.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use wasmop_package::Package;
use wasmop_snapshot::StateDir;
use wasmop_snapshot::disk::Disk;
use wasmop_snapshot::encryption::EncryptionKey;
use wasmop_vm::engine::Engine;

use crate::page_cache;
use crate::simulation::Simulation;
use wasmop_e2e::fake_api::FakeApi;
use wasmop_e2e::process;
use wasmop_e2e::rows::{Rows, percentile};

const HEAPS_MIB: [u64; 3] = [1, 8, 32];
/// The heap of the controller with encrypted snapshots.
const ENCRYPTED_MIB: u64 = 1;

pub fn run(variant: &str, package: &Package, quick: bool, rows: &mut Rows) -> Result<()> {
    let rounds = if quick { 50 } else { 500 };
    let engine = Engine::new()?;
    for heap_mib in HEAPS_MIB {
        let dir = tempfile::tempdir()?;
        let state = StateDir::open(dir.path())?;
        let api = FakeApi::new(&package.manifest.name, heap_mib);
        let mut simulation = Simulation::new(&engine, &state, package, api)?;
        // Starts, registers, and allocates the heap.
        simulation.settle()?;
        simulation.enqueue();
        simulation.settle()?;
        let memory = simulation.memory_size();

        process::reset_peak()?;
        let (resident, _) = process::rss_and_peak()?;
        let (_, _, saved) = simulation.suspend()?;
        let (_, peak) = process::rss_and_peak()?;
        rows.push(variant, (None, Some(heap_mib)), "suspend_peak_ratio", "ratio", peak as f64 / resident as f64);
        rows.push(variant, (None, Some(heap_mib)), "suspend_first_bytes", "bytes", saved.written_bytes as f64);

        let found = measure(&mut simulation, 2 * rounds)?;
        let at = (None, Some(heap_mib));
        rows.push(variant, at, "memory_size", "bytes", memory as f64);
        rows.push(variant, at, "resume_p50", "µs", percentile(&found.resume, 50));
        rows.push(variant, at, "resume_first_step_p50", "µs", percentile(&found.both, 50));
        rows.push(variant, at, "resume_first_step_p99", "µs", percentile(&found.both, 99));
        rows.push(variant, at, "resume_first_step_again_p50", "µs", percentile(&found.again, 50));
        rows.push(variant, at, "suspend_incremental_p50", "µs", percentile(&found.written, 50));
        rows.push(variant, at, "suspend_incremental_p99", "µs", percentile(&found.written, 99));
        rows.push(variant, at, "suspend_durable_p50", "µs", percentile(&found.durable, 50));
        rows.push(variant, at, "suspend_incremental_bytes", "bytes", found.bytes);
        rows.push(variant, at, "suspended_difference_bytes", "bytes", found.difference);
        cold(variant, heap_mib, &mut simulation, dir.path(), rounds / 5, rows)?;
    }
    encrypted(&engine, variant, package, rounds, rows)
}

/// Measures resumes with a cold page cache, and one sequential read of as many bytes for comparison.
fn cold(
    variant: &str,
    heap_mib: u64,
    simulation: &mut Simulation,
    state_dir: &Path,
    rounds: u32,
    rows: &mut Rows,
) -> Result<()> {
    let (mut resumes, mut reads) = (Vec::new(), Vec::new());
    let (mut snapshot_bytes, mut code_bytes) = (0, 0);
    // The host learns in the first round what a resume reads, so that round does not count.
    for round in 0..=rounds {
        simulation.forget_memories();
        simulation.forget_code();
        (snapshot_bytes, code_bytes) = simulation.read_ahead_bytes()?;
        if let Err(error) = page_cache::drop_dir(state_dir) {
            eprintln!("resume: cold resumes are left out: {error}");
            return Ok(());
        }
        let resumed = simulation.resume()?;
        let together = resumed.resume + resumed.first_step;
        simulation.settle()?;
        simulation.suspend()?;
        let read = page_cache::sequential_read(state_dir, snapshot_bytes + code_bytes)?;
        if round > 0 {
            resumes.push(together.as_secs_f64() * 1e6);
            reads.push(read.as_secs_f64() * 1e6);
        }
    }
    let ratios = resumes.iter().zip(&reads).map(|(resume, read)| resume / read);
    let mut ratios: Vec<f64> = ratios.collect();
    for samples in [&mut resumes, &mut reads, &mut ratios] {
        samples.sort_by(f64::total_cmp);
    }
    let at = (None, Some(heap_mib));
    rows.push(variant, at, "cold_resume_first_step_p50", "µs", percentile(&resumes, 50));
    rows.push(variant, at, "cold_sequential_read_p50", "µs", percentile(&reads, 50));
    rows.push(variant, at, "cold_ratio_p50", "ratio", percentile(&ratios, 50));
    rows.push(variant, at, "cold_snapshot_bytes", "bytes", snapshot_bytes as f64);
    rows.push(variant, at, "cold_code_bytes", "bytes", code_bytes as f64);
    Ok(())
}

/// Measures the cost of encryption.
fn encrypted(engine: &Engine, variant: &str, package: &Package, rounds: u32, rows: &mut Rows) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, [7; 32])?;
    let state = StateDir::open_on(Disk::default(), &dir.path().join("state"), Some(EncryptionKey::read(&key_file)?))?;
    let mut simulation = Simulation::new(engine, &state, package, FakeApi::new(&package.manifest.name, ENCRYPTED_MIB))?;
    simulation.settle()?;
    simulation.enqueue();
    simulation.settle()?;
    simulation.suspend()?;
    let found = measure(&mut simulation, 2 * rounds)?;
    let at = (None, Some(ENCRYPTED_MIB));
    rows.push(variant, at, "encrypted_resume_first_step_p50", "µs", percentile(&found.both, 50));
    rows.push(variant, at, "encrypted_suspend_incremental_p50", "µs", percentile(&found.written, 50));
    Ok(())
}

/// Sorted times in microseconds, and means of bytes.
#[derive(Default)]
struct Found {
    /// A resume from files.
    resume: Vec<f64>,
    /// A resume from files with its first step.
    both: Vec<f64>,
    /// The same in the memory that the controller left last.
    again: Vec<f64>,
    written: Vec<f64>,
    durable: Vec<f64>,
    bytes: f64,
    difference: f64,
}

/// Resumes and suspends `rounds` times. Every other resume reuses the memory that the controller left last, as it does within
/// seconds of a suspend.
fn measure(simulation: &mut Simulation, rounds: u32) -> Result<Found> {
    let mut found = Found::default();
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    for round in 0..rounds {
        let from_files = round % 2 == 0;
        if from_files {
            simulation.forget_memories();
        }
        let resumed = simulation.resume()?;
        let both = us(resumed.resume + resumed.first_step);
        if from_files {
            found.resume.push(us(resumed.resume));
            found.both.push(both);
        } else {
            found.again.push(both);
        }
        simulation.settle()?;
        let (written, durable, saved) = simulation.suspend()?;
        found.written.push(us(written));
        found.durable.push(us(durable));
        found.bytes += saved.written_bytes as f64 / f64::from(rounds);
        found.difference += saved.dirty_bytes as f64 / f64::from(rounds);
    }
    for samples in [&mut found.resume, &mut found.both, &mut found.again, &mut found.written, &mut found.durable] {
        samples.sort_by(f64::total_cmp);
    }
    Ok(found)
}
