//! Manifests: parses a section, checks its predicates, and writes it again.

use wasmop_package::manifest::Manifest;

pub fn target(data: &[u8]) {
    let Ok(manifest) = Manifest::from_section(data) else { return };
    let section = manifest.to_section().expect("a parsed manifest is valid");
    assert_eq!(Manifest::from_section(&section).as_ref(), Ok(&manifest));
    for spec in &manifest.registrations {
        let _ = spec.check_predicates();
        assert!(spec.watch_count() >= spec.all_watches().count());
    }
}
