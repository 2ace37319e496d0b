//! The summary that `wasmop build` prints.

use wasmop_package::Tier;

use crate::output::{Paint, bytes};
use crate::packaging::Built;

/// The package, its path, and the size of each part.
pub fn built(built: &Built) -> String {
    let paint = Paint::for_stderr();
    let sizes = &built.inspection.sizes;
    let mut text = format!(
        "\n{} {} {}: {}, {}\n",
        paint.strong(&built.manifest.name),
        built.manifest.version,
        built.path.display(),
        bytes(sizes.total),
        built.manifest.mode.name()
    );
    for (part, size) in [
        ("code", sizes.code),
        ("memory image", sizes.memory_image),
        ("names", sizes.names),
        ("debug info", sizes.debug),
        ("manifest", sizes.manifest),
        ("other custom sections", sizes.custom),
        ("component", sizes.other),
    ] {
        if size > 0 {
            text.push_str(&format!("  {part:<22}{:>10}\n", bytes(size)));
        }
    }
    if built.inspection.tier == Tier::Soft {
        text.push_str(&format!(
            "\n{}: it {}. Its memory is lost when the host restarts.\n",
            paint.strong("Suspended softly"),
            built.inspection.tier_reason
        ));
    }
    text.push_str(&format!("\nRun it: wasmop run {}", built.path.display()));
    text
}
