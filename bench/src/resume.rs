//! Resume and suspend of one controller, by heap size.

use anyhow::Result;
use wasmop_host::engine::Engine;
use wasmop_host::snapshot::StateDir;
use wasmop_host::snapshot::disk::Disk;
use wasmop_host::snapshot::seal::SealKey;
use wasmop_package::Package;

use crate::process;
use crate::simulation::Simulation;
use wasmop_e2e::fake_api::FakeApi;
use wasmop_e2e::rows::{Rows, percentile};

const HEAPS_MIB: [u64; 3] = [1, 8, 32];
/// Heap of the one whose snapshots are encrypted.
const ENCRYPTED_MIB: u64 = 1;

pub fn run(variant: &str, package: &Package, quick: bool, rows: &mut Rows) -> Result<()> {
    let rounds = if quick { 50 } else { 500 };
    let engine = Engine::new()?;
    for heap_mib in HEAPS_MIB {
        let dir = tempfile::tempdir()?;
        let state = StateDir::open(dir.path())?;
        let api = FakeApi::new(&package.manifest.name, heap_mib);
        let mut simulation = Simulation::new(&engine, &state, package, api)?;
        // Start, register, take in the heap.
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

        let (mut resume, mut both, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let (mut written, mut durable) = (Vec::new(), Vec::new());
        let (mut bytes, mut in_slots) = (0, 0);
        for round in 0..2 * rounds {
            // Every other time with the memory it has just left: whoever is resumed within seconds has that.
            let from_files = round % 2 == 0;
            if from_files {
                simulation.forget_memories();
            }
            let resumed = simulation.resume()?;
            let sum = (resumed.resume + resumed.first_step).as_secs_f64() * 1e6;
            if from_files {
                resume.push(resumed.resume.as_secs_f64() * 1e6);
                both.push(sum);
            } else {
                again.push(sum);
            }
            simulation.settle()?;
            let (w, d, saved) = simulation.suspend()?;
            written.push(w.as_secs_f64() * 1e6);
            durable.push(d.as_secs_f64() * 1e6);
            bytes += saved.written_bytes;
            in_slots += saved.dirty_bytes;
        }
        let at = (None, Some(heap_mib));
        for samples in [&mut resume, &mut both, &mut again, &mut written, &mut durable] {
            samples.sort_by(f64::total_cmp);
        }
        rows.push(variant, at, "memory_size", "bytes", memory as f64);
        rows.push(variant, at, "resume_p50", "µs", percentile(&resume, 50));
        rows.push(variant, at, "resume_first_step_p50", "µs", percentile(&both, 50));
        rows.push(variant, at, "resume_first_step_p99", "µs", percentile(&both, 99));
        rows.push(variant, at, "resume_first_step_again_p50", "µs", percentile(&again, 50));
        rows.push(variant, at, "suspend_incremental_p50", "µs", percentile(&written, 50));
        rows.push(variant, at, "suspend_incremental_p99", "µs", percentile(&written, 99));
        rows.push(variant, at, "suspend_durable_p50", "µs", percentile(&durable, 50));
        rows.push(variant, at, "suspend_incremental_bytes", "bytes", bytes as f64 / f64::from(2 * rounds));
        rows.push(variant, at, "suspended_difference_bytes", "bytes", in_slots as f64 / f64::from(2 * rounds));
    }
    encrypted(&engine, variant, package, rounds, rows)
}

/// What encryption costs: the same from encrypted files.
fn encrypted(engine: &Engine, variant: &str, package: &Package, rounds: u32, rows: &mut Rows) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, [7; 32])?;
    let state = StateDir::open_on(Disk::default(), &dir.path().join("state"), Some(SealKey::read(&key_file)?))?;
    let mut simulation = Simulation::new(engine, &state, package, FakeApi::new(&package.manifest.name, ENCRYPTED_MIB))?;
    simulation.settle()?;
    simulation.enqueue();
    simulation.settle()?;
    simulation.suspend()?;
    let (mut both, mut written) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        simulation.forget_memories();
        let resumed = simulation.resume()?;
        both.push((resumed.resume + resumed.first_step).as_secs_f64() * 1e6);
        simulation.settle()?;
        written.push(simulation.suspend()?.0.as_secs_f64() * 1e6);
    }
    both.sort_by(f64::total_cmp);
    written.sort_by(f64::total_cmp);
    let at = (None, Some(ENCRYPTED_MIB));
    rows.push(variant, at, "encrypted_resume_first_step_p50", "µs", percentile(&both, 50));
    rows.push(variant, at, "encrypted_suspend_incremental_p50", "µs", percentile(&written, 50));
    Ok(())
}
