//! Tests which components of the soft tier are accepted, and how the others are refused.

use crate::manifest::{Language, Limits, Manifest, Sdk, Toolchain};
use crate::{AssembleError, Package, PackageError, Tier, assemble, inspect, with_manifest, world};

fn manifest() -> Manifest {
    Manifest::new("soft", "0.1.0", Language::JavaScript, Toolchain::Component, Sdk::new("wasmop:controller", "0.1.0"))
}

/// Returns a component with these imports, these fields in its core module, and a `step`.
fn component(imports: &[&str], fields: &str) -> Vec<u8> {
    let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
    wat::parse_str(format!(
        r#"(component {imports}
            (core module $m {fields} (func (export "step")))
            (core instance $i (instantiate $m))
            (func $step (canon lift (core func $i "step")))
            (instance $guest (export "step" (func $step)))
            (export "wasmop:controller/guest@0.1.0" (instance $guest)))"#
    ))
    .unwrap()
}

const MEMORY: &str = "(memory 2)";

#[test]
fn a_component_with_wasi_becomes_a_soft_package_with_a_reason() {
    let files = ["wasi:io/streams@0.2.6", "wasi:filesystem/types@0.2.6", "wasi:cli/environment@0.2.3", world::SYS];
    let no_handles =
        format!("exports no {}: it is not built from a core module, so its globals can't be read", world::STATE);
    for (imports, reason) in [
        (&files[..], "imports wasi:filesystem/types@0.2.6, whose handles can't be restored in another process"),
        (
            &["wasi:sockets/tcp@0.2.0"],
            "imports wasi:sockets/tcp@0.2.0, whose handles can't be restored in another process",
        ),
        (
            &["wasi:cli/stdout@0.2.0"],
            "imports wasi:cli/stdout@0.2.0, whose handles can't be restored in another process",
        ),
        (&["wasi:random/random@0.2.0"], &no_handles),
        (&[], &no_handles),
    ] {
        let component = component(imports, MEMORY);
        let bytes = assemble(&component, &manifest()).unwrap();
        let package = Package::parse(bytes.clone()).unwrap();
        assert_eq!(package.tier(), Tier::Soft);
        assert_eq!(package.component(), component, "unchanged");
        assert!(package.image().is_none());
        assert_eq!(with_manifest(&bytes, &manifest()).unwrap(), bytes);
        let inspection = inspect(&bytes).unwrap();
        assert_eq!(inspection.tier_reason, reason);
        let text = inspection.render();
        assert!(text.contains(&format!("tier          soft: {reason}\n")), "{text}");
        assert!(text.contains("javascript with component"), "{text}");
        let json = serde_json::to_value(&inspection).unwrap();
        assert_eq!((json["tier"].as_str(), json["tierReason"].as_str()), (Some("soft"), Some(reason)));
    }
}

#[test]
fn components_that_are_no_controllers_are_refused() {
    let other = wat::parse_str(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#).unwrap();
    let mut truncated = component(&[], MEMORY);
    truncated.truncate(truncated.len() - 3);
    for (case, component, expected) in [
        (
            "another world",
            other,
            "does not export `wasmop:controller/guest@0.1.0`, so it is not a controller (it is built for another world: it exports wasi:cli/run@0.2.0)",
        ),
        (
            "http",
            component(&["wasi:http/types@0.2.0"], MEMORY),
            "imports `wasi:http/types@0.2.0`, which wasmop does not provide\nhelp: requests go through",
        ),
        ("wasi 0.3", component(&["wasi:cli/stdout@0.3.0"], MEMORY), "imports `wasi:cli/stdout@0.3.0`"),
        ("other package", component(&["acme:db/query@1.0.0"], MEMORY), "imports `acme:db/query@1.0.0`"),
        ("two memories", component(&[], "(memory 1) (memory 1)"), "has 2 linear memories"),
        ("no memory", component(&[], ""), "has 0 linear memories"),
        ("shared memory", component(&[], "(memory 1 2 shared)"), "shared between threads"),
        ("64-bit memory", component(&[], "(memory i64 1)"), "64-bit"),
        ("truncated", truncated, "truncated"),
        ("a package", assemble(&component(&[], MEMORY), &manifest()).unwrap(), "already a wasmop package"),
    ] {
        let error = assemble(&component, &manifest()).expect_err(case);
        assert!(matches!(error, AssembleError::Refused(_)), "{case}: {error}");
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("\nhelp: "), "{case}: {message}");
    }
    let limits = Limits { memory_bytes: 100_000, ..Limits::default() };
    // Two pages and an exported function.
    let error = assemble(&component(&[], MEMORY), &Manifest { limits, ..manifest() }).unwrap_err().to_string();
    assert!(error.contains("begins with 131104 bytes"), "{error}");
}

/// Packages are untrusted.
#[test]
fn parsing_refuses_a_soft_package_with_foreign_imports() {
    let mut bytes = component(&["acme:db/query@1.0.0"], MEMORY);
    let section = manifest().to_section().unwrap();
    crate::section::push_custom(&mut bytes, crate::MANIFEST_SECTION, &section);
    assert!(
        matches!(Package::parse(bytes), Err(PackageError::ForeignImport { name }) if name == "acme:db/query@1.0.0")
    );
}
