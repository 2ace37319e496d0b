//! Writes the seeds to `fuzz/corpus/<target>/seed-<name>`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let names = wasmop_fuzz_targets::TARGETS.iter().map(|target| target.name).chain(["journal"]);
    for target in names {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir)?;
        for (name, bytes) in wasmop_fuzz_targets::seeds::seeds(target) {
            std::fs::write(dir.join(format!("seed-{name}")), bytes)?;
        }
    }
    Ok(())
}
