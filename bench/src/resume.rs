//! Resume and suspend of one controller, by heap size.

use anyhow::Result;
use wasmop_host::engine::Engine;
use wasmop_host::snapshot::StateDir;
use wasmop_package::Package;

use crate::process;
use crate::simulation::Simulation;
use wasmop_e2e::fake_api::FakeApi;
use wasmop_e2e::rows::{Rows, percentile};

const HEAPS_MIB: [u64; 3] = [1, 8, 32];

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

        let (mut resume, mut both) = (Vec::new(), Vec::new());
        let (mut written, mut durable) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..rounds {
            let resumed = simulation.resume()?;
            resume.push(resumed.resume.as_secs_f64() * 1e6);
            both.push((resumed.resume + resumed.first_step).as_secs_f64() * 1e6);
            simulation.settle()?;
            let (w, d, saved) = simulation.suspend()?;
            written.push(w.as_secs_f64() * 1e6);
            durable.push(d.as_secs_f64() * 1e6);
            bytes += saved.written_bytes;
        }
        let at = (None, Some(heap_mib));
        for samples in [&mut resume, &mut both, &mut written, &mut durable] {
            samples.sort_by(f64::total_cmp);
        }
        rows.push(variant, at, "memory_size", "bytes", memory as f64);
        rows.push(variant, at, "resume_p50", "µs", percentile(&resume, 50));
        rows.push(variant, at, "resume_first_step_p50", "µs", percentile(&both, 50));
        rows.push(variant, at, "resume_first_step_p99", "µs", percentile(&both, 99));
        rows.push(variant, at, "suspend_incremental_p50", "µs", percentile(&written, 50));
        rows.push(variant, at, "suspend_incremental_p99", "µs", percentile(&written, 99));
        rows.push(variant, at, "suspend_durable_p50", "µs", percentile(&durable, 50));
        rows.push(variant, at, "suspend_incremental_bytes", "bytes", bytes as f64 / f64::from(rounds));
    }
    Ok(())
}
