//! Packages that differ in one respect from those of `wasmop build`.

use crate::manifest::{Language, Manifest, Sdk, Toolchain};
use crate::{IMAGE_SECTION, MANIFEST_SECTION, Package, PackageError, section};

/// A minimal component of the full tier.
const COMPONENT: &str = r#"(component
  (core module $main
    (memory (export "memory") 1)
    (global $first (mut i32) (i32.const 0))
    (func $helper)
    (func (export "wasmop:controller/guest@0.1.0#step"))
    (func (export "wasmop:internal/state#init") (call $helper))
    (func (export "wasmop:internal/state#global-count") (result i32) (i32.const 1))
    (func (export "wasmop:internal/state#global-get") (param i32) (result i64)
      (if (i32.eq (local.get 0) (i32.const 0)) (then (return (i64.extend_i32_u (global.get $first)))))
      (unreachable))
    (func (export "wasmop:internal/state#global-set") (param i32 i64)
      (if (i32.eq (local.get 0) (i32.const 0)) (then (global.set $first (i32.wrap_i64 (local.get 1))) (return)))
      (unreachable)) (;main;))
  (core instance $i (instantiate $main))
  (func $step (canon lift (core func $i "wasmop:controller/guest@0.1.0#step")))
  (func $init (canon lift (core func $i "wasmop:internal/state#init")))
  (func $count (result u32) (canon lift (core func $i "wasmop:internal/state#global-count")))
  (func $get (param "index" u32) (result u64) (canon lift (core func $i "wasmop:internal/state#global-get")))
  (func $set (param "index" u32) (param "bits" u64) (canon lift (core func $i "wasmop:internal/state#global-set")))
  (instance $guest (export "step" (func $step)))
  (instance $state
    (export "init" (func $init)) (export "global-count" (func $count))
    (export "global-get" (func $get)) (export "global-set" (func $set)))
  (export "wasmop:controller/guest@0.1.0" (instance $guest))
  (export "wasmop:internal/state" (instance $state)) (;component;))"#;

fn manifest() -> Manifest {
    Manifest::new("made-by-hand", "0.0.0", Language::Other, Toolchain::Component, Sdk::new("none", "0.0.0"))
}

/// A memory image of `size` bytes with its last byte set.
fn image(size: u64) -> Vec<u8> {
    let mut image = crate::image::ImageBuilder::default();
    image.write((size - 1) as u32, &[1]);
    image.finish()
}

fn package(component: &str, image: &[u8]) -> Result<Package, PackageError> {
    let mut bytes = wat::parse_str(component).unwrap_or_else(|error| panic!("{component}: {error}"));
    section::push_custom(&mut bytes, IMAGE_SECTION, image);
    section::push_custom(&mut bytes, MANIFEST_SECTION, &manifest().to_section().unwrap());
    Package::parse(bytes)
}

#[test]
fn a_component_from_build_is_accepted() {
    let package = package(COMPONENT, &image(65_536)).unwrap();
    package.check_code().unwrap();
    let footprint = package.footprint();
    // One global and five exported functions.
    assert_eq!((footprint.memory, footprint.tables, footprint.fixed), (65_536, 0, 16 + 5 * 32));
}

#[test]
fn every_difference_from_a_component_of_build_is_refused() {
    const COUNT: &str = "(result i32) (i32.const 1))";
    // The position of an addition: in the main module or at the end of the component.
    const MAIN: &str = "(;main;)";
    const END: &str = "(;component;)";
    let adapter = |fields: &str| format!("(core module $more {fields}) (core instance (instantiate $more))");
    let spins = "(result i32) (loop (br 0)) (unreachable))".to_string();
    let cases: &[(&str, &str, String, &str)] = &[
        ("start function", MAIN, "(start $helper)".into(), "has a start function"),
        ("count that never returns", COUNT, spins, "state functions do something else"),
        ("another count", COUNT, "(result i32) (i32.const -1))".into(), "state functions do something else"),
        ("get of any number", "(i32.eq (local.get 0) (i32.const 0)) (then (return", "(i32.const 1) (then (return".into(), "state functions do something else"),
        ("set of nothing", "(global.set $first (i32.wrap_i64 (local.get 1)))", String::new(), "state functions do something else"),
        ("loop in init", "(call $helper)", "(loop (br 0))".into(), "state functions do something else"),
        ("one more global", "(func $helper)", "(global (mut i64) (i64.const 0)) (func $helper)".into(), "state functions do something else"),
        ("export of another function", "(export \"wasmop:internal/state#init\")", String::new(), "export `wasmop:internal/state#init`"),
        ("function after them", MAIN, "(func)".into(), "is another function"),
        ("further export", "(func $helper)", "(func $helper (export \"_initialize\"))".into(), "further exports"),
        ("active data", MAIN, "(data (i32.const 0) \"x\")".into(), "active data segments"),
        ("data of a start", MAIN, "(data $d \"x\") (func $copy (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))) (start $copy)".into(), "start function"),
        ("foreign import", "(core module $main", "(core module $main (import \"env\" \"f\" (func))".into(), "`env` `f`"),
        ("two instances", END, "(core instance (instantiate $main))".into(), "instantiated twice"),
        ("two instances of an adapter", END, adapter("") + "(core instance (instantiate $more))", "instantiated twice"),
        ("renamed module", END, adapter("") + "(alias outer 0 0 (core module $again))", "renames a core module"),
        ("exported module", END, "(export \"m\" (core module $main))".into(), "renames a core module"),
        ("unused module", END, "(core module)".into(), "not used"),
        ("second memory", END, adapter("(memory 1)"), "has 2 linear memories"),
        ("adapter with start", END, adapter("(func $f) (start $f)"), "adapter has a start function"),
        ("adapter with data", END, adapter("(data \"x\")"), "adapter has data segments"),
        ("adapter with a large table", END, adapter("(table 1000 funcref)"), "adapter has tables"),
        ("adapter with state", END, adapter("(global (mut i64) (i64.const 0))"), "adapter has globals"),
        ("many adapters", END, (0..5).map(|n| adapter("").replace("$more", &format!("$more{n}"))).collect(), "6 core modules"),
        ("post-return", "(core func $i \"wasmop:internal/state#global-count\")", "(core func $i \"wasmop:internal/state#global-count\") (post-return (core func $i \"drop\"))".into(), "exported functions call others"),
        ("lifted import", "(core instance $i (instantiate $main))", "(core module $other (func (export \"f\"))) (core instance $o (instantiate $other)) (core instance $i (instantiate $main)) (func (canon lift (core func $o \"f\")))".into(), "not of its module"),
        ("nested code", END, "(component (core module))".into(), "nested component"),
        ("nested instances", END, "(component (component $a) (instance (instantiate $a)))".into(), "nested component"),
        ("too many globals", "(func $helper)", "(global (mut i32) (i32.const 0))".repeat(300) + "(func $helper)", "more than 256 mutable globals"),
        ("64-bit memory", "(memory (export \"memory\") 1)", "(memory (export \"memory\") i64 1)".into(), "64-bit"),
    ];
    for (case, at, with, expected) in cases {
        assert!(COMPONENT.contains(at), "{case}");
        let with = if *at == MAIN || *at == END { format!("{with} {at}") } else { with.clone() };
        let mut text = COMPONENT.replacen(at, &with, 1);
        if *case == "post-return" {
            text = text.replace("(func $helper)", "(func $helper) (func (export \"drop\") (param i32))");
            // The export alone would be refused as well. This case tests the option.
            let wasm = wat::parse_str(&text).unwrap();
            let wiring = super::Wiring { main: 0, modules: 1, ..super::Wiring::default() };
            assert!(wiring.check(&wasm).is_err_and(|error| error.contains(expected)), "{case}");
            continue;
        }
        let error = package(&text, &image(65_536)).expect_err(case).to_string();
        assert!(error.contains(expected) && error.contains("\nhelp: "), "{case}: {error}");
    }
}

#[test]
fn a_memory_image_past_the_memory_is_refused() {
    let error = package(COMPONENT, &image(65_537)).unwrap_err();
    assert_eq!(error, PackageError::ImageOutside { end: 69_632, memory: 65_536 });
}

#[test]
fn check_code_refuses_what_build_refuses() {
    let body = "(table 1 funcref) (func $helper (table.set (i32.const 0) (ref.null func)))";
    let package = package(&COMPONENT.replace("(func $helper)", body), &image(65_536)).unwrap();
    let error = package.check_code().unwrap_err().to_string();
    assert!(error.contains("`table.set`"), "{error}");
    assert_eq!((package.footprint().tables, package.footprint().fixed), (8, 16 + 5 * 32));
}

/// Returns a component of the soft tier with these fields in its second module, and this many instances of it.
fn soft(fields: &str, instances: usize) -> Vec<u8> {
    let more = "(core instance (instantiate $more))".repeat(instances);
    let text = format!(
        r#"(component
          (core module $main (memory 1) (func (export "step")))
          (core module $more {fields})
          (core instance $i (instantiate $main)) {more}
          (func $step (canon lift (core func $i "step")))
          (instance $guest (export "step" (func $step)))
          (export "wasmop:controller/guest@0.1.0" (instance $guest)))"#
    );
    let mut bytes = wat::parse_str(text).unwrap();
    section::push_custom(&mut bytes, MANIFEST_SECTION, &manifest().to_section().unwrap());
    bytes
}

/// A body of more than 1 MiB, in either tier, with and without a name.
#[test]
fn a_function_too_large_to_compile_is_refused_by_name() {
    let body = "(drop (i64.const 0x7fffffffffffffff))".repeat(100_000);
    let large = |fields: &str| format!("(func {fields} {body})");
    let full = package(&COMPONENT.replacen("(func $helper)", &large("$helper"), 1), &image(65_536)).unwrap();
    let soft = Package::parse(soft(&format!("(import \"a\" \"b\" (func $f)) {}", large("$generated")), 0)).unwrap();
    for (package, name) in [(full, "`helper` (index 0)"), (soft, "`generated` (index 1)")] {
        let error = package.check_code().expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("bytes of code") && error.contains("\nhelp: split"), "{error}");
    }
}

#[test]
fn every_instance_of_a_module_counts_toward_the_footprint() {
    for (fields, each) in [
        ("(global i64 (i64.const 0))".repeat(1000), (0, 16_000)),
        ("(table 100 funcref)".into(), (800, 0)),
        ("(func (export \"a\")) (func (export \"b\"))".into(), (0, 64)),
    ] {
        for instances in [0, 1, 900] {
            let footprint = Package::parse(soft(&fields, instances as usize)).unwrap().footprint();
            let (tables, fixed) = (instances * each.0, 32 + instances * each.1);
            assert_eq!((footprint.memory, footprint.tables, footprint.fixed), (65_536, tables, fixed), "{fields}");
        }
    }
}

#[test]
fn a_module_that_imports_a_function_twice_can_be_parsed() {
    let import = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
    let text = format!(
        r#"(module {import} {import} {import} (memory (export "memory") 1)
             (func (export "wasmop:controller/guest@0.1.0#step") (drop (call 0)) (drop (call 2))))"#
    );
    let bytes = crate::assemble(&wat::parse_str(text).unwrap(), &manifest()).unwrap();
    Package::parse(bytes).unwrap().check_code().unwrap();
}
