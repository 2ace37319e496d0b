//! Packages that exceed limits, and packages that no build tool made.

use proptest::prelude::*;
use wasmop_package::manifest::{Language, Sdk, Toolchain};

use super::*;

/// Has a bit of everything that a package can have, so that a random edit hits something.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table 2 funcref)
  (elem (i32.const 0) $step $init)
  (global $count (mut i64) (i64.const 7))
  (global (mut f32) (f32.const 1))
  (data (i32.const 100) "what it begins with")
  (func $init (export "_initialize") (drop (call $random (i32.const 8) (i32.const 8))))
  (func $step (export "wasmop:controller/guest@0.1.0#step")
    (global.set $count (i64.add (global.get $count) (i64.const 1)))))"#;

fn packed(text: &str, limits: Limits) -> Vec<u8> {
    let sdk = Sdk::new("none", "0.0.0");
    let manifest = Manifest { limits, ..Manifest::new("made", "0.0.0", Language::Other, Toolchain::Component, sdk) };
    wasmop_package::assemble(&wat::parse_str(text).unwrap(), &manifest).unwrap()
}

/// Installs on a host with a state directory of its own.
fn install(package: &Package, cap: &Limits) -> Result<InstalledPackage, InstallError> {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    InstalledPackage::install(&Engine::for_one_run().unwrap(), &state, package, cap)
}

#[test]
fn tables_and_compiled_code_count_against_the_limits() {
    let tables = MODULE.replace("(table 2 funcref)", "(table 2 funcref) (table 100000 funcref)");
    let bytes = packed(&tables, Limits::USUAL);
    let limited = |memory_bytes| {
        let manifest = Package::parse(bytes.clone()).unwrap().manifest;
        let manifest = Manifest { limits: Limits { memory_bytes, ..Limits::USUAL }, ..manifest };
        Package::parse(wasmop_package::with_manifest(&bytes, &manifest).unwrap()).unwrap()
    };
    // The error names the lower of the two limits.
    for (own, cap, place) in [
        (1 << 20, 500_000, "`memory = \"500000B\"` under [limits] in the host's configuration file"),
        (500_000, 1 << 20, "raise `memory` under [limits] in wasmop.toml"),
        (500_000, u64::MAX, "raise `memory` under [limits] in wasmop.toml"),
    ] {
        let cap = Limits { memory_bytes: cap, ..Limits::NONE };
        let error = install(&limited(own), &cap).err().unwrap().to_string();
        let (what, help) = error.split_once("\nhelp: ").unwrap();
        assert!(what.contains("bytes of memory, tables and globals, more than the 500000"), "{error}");
        assert!(help.contains(place), "{error}");
    }

    assert!(check_code_size("made", MAX_CODE_BYTES).is_ok());
    let error = check_code_size("made", MAX_CODE_BYTES + 1).unwrap_err().to_string();
    assert!(error.contains("made takes 1073741825 bytes") && error.contains("\nhelp: "), "{error}");
    let package = Package::parse(packed(MODULE, Limits::USUAL)).unwrap();
    assert!(install(&package, &Limits::USUAL).unwrap().code_bytes() > 0);
}

#[test]
fn install_refuses_code_that_build_refuses() {
    // Replace an accepted operator by a refused one of the same length.
    let mut bytes =
        packed(&MODULE.replace("(func $init", "(func (drop (table.get (i32.const 0)))) (func $init"), Limits::USUAL);
    let get = [0x41, 0x00, 0x25, 0x00, 0x1a];
    let at = bytes.windows(get.len()).position(|window| window == get).unwrap();
    // elem.drop 0 and two no-ops are five bytes, like i32.const 0, table.get and drop.
    bytes[at..at + 5].copy_from_slice(&[0xfc, 0x0d, 0x00, 0x01, 0x01]);
    let package = Package::parse(bytes).unwrap();
    let error = install(&package, &Limits::USUAL).err().unwrap().to_string();
    assert!(error.contains("`elem.drop`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A damaged package is refused by the parser, or by an install error of its own.
    #[test]
    fn a_damaged_package_is_refused_or_installs_within_its_limits(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        thread_local!(static HOST: (Engine, Vec<u8>) = (Engine::for_one_run().unwrap(), packed(MODULE, Limits::USUAL)));
        let (engine, mut bytes) = HOST.with(Clone::clone);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(package) = Package::parse(bytes) {
            let dir = tempfile::tempdir().unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            if let Err(error) = InstalledPackage::install(&engine, &state, &package, &Limits::USUAL) {
                prop_assert!(!error.concerns_all(), "{}", error);
            }
        }
    }
}
