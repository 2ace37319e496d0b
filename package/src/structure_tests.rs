//! Packages that `wasmop build` did not make, one difference each.

use crate::manifest::{Language, Manifest, Sdk, Toolchain};
use crate::{IMAGE_SECTION, MANIFEST_SECTION, Package, PackageError, section};

/// A component of the full tier, as small as it can be.
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
fn a_component_as_build_makes_it_is_accepted() {
    let package = package(COMPONENT, &image(65_536)).unwrap();
    package.check_code().unwrap();
    let footprint = package.footprint();
    assert_eq!((footprint.memory, footprint.overhead), (65_536, 16), "one global");
}

#[test]
fn every_difference_from_what_build_makes_is_refused() {
    const COUNT: &str = "(result i32) (i32.const 1))";
    // In the main module, or at the end of the component: what is added.
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
            // The export is a difference by itself; what is looked for is the option.
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
fn a_memory_image_outside_of_the_memory_is_refused() {
    let error = package(COMPONENT, &image(65_537)).unwrap_err();
    assert_eq!(error, PackageError::ImageOutside { end: 69_632, memory: 65_536 });
}

#[test]
fn code_that_build_refuses_is_refused_before_it_is_compiled() {
    let body = "(table 1 funcref) (func $helper (table.set (i32.const 0) (ref.null func)))";
    let package = package(&COMPONENT.replace("(func $helper)", body), &image(65_536)).unwrap();
    let error = package.check_code().unwrap_err().to_string();
    assert!(error.contains("`table.set`"), "{error}");
    assert_eq!(package.footprint().overhead, 16 + 8);
}

#[test]
fn a_module_that_imports_a_function_twice_is_read_back() {
    let import = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
    let text = format!(
        r#"(module {import} {import} {import} (memory (export "memory") 1)
             (func (export "wasmop:controller/guest@0.1.0#step") (drop (call 0)) (drop (call 2))))"#
    );
    let bytes = crate::assemble(&wat::parse_str(text).unwrap(), &manifest()).unwrap();
    Package::parse(bytes).unwrap().check_code().unwrap();
}
