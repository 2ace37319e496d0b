use proptest::prelude::*;

use super::*;
use crate::manifest::{ControllerSpec, Language, Limits, Mode, Sdk, Toolchain};

fn manifest() -> Manifest {
    Manifest {
        crds: vec!["kind: CustomResourceDefinition".into()],
        external_hosts: vec!["https://*.example.com:8443".parse().unwrap()],
        ..Manifest::new("website", "1.2.3", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
    }
}

fn core_module() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
            (memory (export "memory") 2)
            (global (mut i32) (i32.const 0))
            (data (i32.const 100) "hello")
            (data (i32.const 70000) "world")
            (func (export "wasmop:controller/guest@0.1.0#step") (drop (call 0 (i32.const 0) (i32.const 4)))))"#,
    )
    .unwrap()
}

fn package() -> Vec<u8> {
    crate::assemble(&core_module(), &manifest()).unwrap()
}

#[test]
fn an_assembled_package_can_be_parsed() {
    let bytes = package();
    let package = Package::parse(bytes.clone()).unwrap();
    assert_eq!(package.manifest, manifest());
    assert_eq!(package.bytes(), bytes);
    assert_eq!(package.digest_hex().len(), 64);
    assert_eq!(package.tier(), Tier::Full);
    let image = package.image().unwrap();
    assert_eq!(image.size, 73_728);
    assert_eq!(image.runs().collect::<Vec<_>>(), [(100, &b"hello"[..]), (70_000, &b"world"[..])]);
    wasmparser::Validator::new().validate_all(package.component()).unwrap();
    wasmparser::Validator::new().validate_all(package.bytes()).unwrap();
}

#[test]
fn external_hosts_default_to_none_and_malformed_ones_are_refused() {
    let mut json = serde_json::to_value(manifest()).unwrap();
    assert_eq!(json["externalHosts"], serde_json::json!(["https://*.example.com:8443"]));
    json["externalHosts"] = serde_json::json!(["https://a.example/path"]);
    let error = Manifest::from_section(json.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.contains("https://a.example/path") && error.contains("nothing may follow"), "{error}");
    json.as_object_mut().unwrap().remove("externalHosts");
    assert_eq!(Manifest::from_section(json.to_string().as_bytes()).unwrap().external_hosts, []);
}

#[test]
fn assembling_is_deterministic() {
    assert_eq!(package(), package());
}

#[test]
fn a_module_whose_initial_memory_exceeds_the_limit_is_refused() {
    let limits = Limits { memory_bytes: 100_000, ..Limits::default() };
    // Two pages, a global, and two imported or exported functions.
    let error = crate::assemble(&core_module(), &Manifest { limits, ..manifest() }).unwrap_err().to_string();
    assert!(error.contains("begins with 131152 bytes") && error.contains("`memory` under [limits]"), "{error}");
}

#[test]
fn a_damaged_name_section_is_dropped() {
    let core = core_module();
    for names in [
        &b"\x01\x04\x01\x00\x01\xff"[..],
        b"\x07\x04\x01\x00\x01\xff",
        b"\x02\x06\x01\x00\x01\x00\x01\xff",
        b"\x01\x7f",
    ] {
        let mut damaged = core.clone();
        section::push_custom(&mut damaged, "name", names);
        let package = crate::assemble(&damaged, &manifest()).unwrap_or_else(|error| panic!("{names:?}: {error}"));
        Package::parse(package).unwrap();
    }
}

#[test]
fn replacing_the_manifest_keeps_code_and_image() {
    let before = Package::parse(package()).unwrap();
    let renamed = Manifest { name: "other".into(), crds: vec![], ..manifest() };
    let after = Package::parse(with_manifest(before.bytes(), &renamed).unwrap()).unwrap();
    assert_eq!(after.manifest, renamed);
    assert_eq!(after.component(), before.component());
    assert_eq!(after.code_digest(), before.code_digest());
    assert_ne!(after.digest, before.digest);
    assert_eq!(with_manifest(after.bytes(), &manifest()).unwrap(), before.bytes());
}

#[test]
fn sections_of_other_tools_are_kept_and_ignored() {
    let mut bytes = package();
    section::push_custom(&mut bytes, "producers", b"whatever");
    let package = Package::parse(bytes.clone()).unwrap();
    assert_eq!(with_manifest(&bytes, &package.manifest).unwrap(), bytes);
}

#[test]
fn invalid_packages_are_refused() {
    let good = package();
    let layout = Layout::of(&good).unwrap();
    let component = good[..layout.component_end].to_vec();
    let with = |sections: &[(&str, &[u8])]| {
        let mut bytes = component.clone();
        for (name, content) in sections {
            section::push_custom(&mut bytes, name, content);
        }
        bytes
    };
    let image = &good[layout.image.clone().unwrap()];
    let json = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(manifest()).unwrap();
        edit(&mut value);
        let text = serde_json::to_vec(&value).unwrap();
        with(&[(IMAGE_SECTION, image), (MANIFEST_SECTION, &text)])
    };
    let text = serde_json::to_vec(&manifest()).unwrap();
    let empty_component = |sections: &str| {
        let mut bytes = wat::parse_str(format!("(component {sections})")).unwrap();
        section::push_custom(&mut bytes, IMAGE_SECTION, image);
        section::push_custom(&mut bytes, MANIFEST_SECTION, &text);
        bytes
    };
    let mut code_after = good.clone();
    code_after.extend_from_slice(&[1, 8, 0, b'a', b's', b'm', 1, 0, 0, 0]);

    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "nothing (it is empty)"),
        ("text", b"apiVersion: v1".to_vec(), "begins with \"apiV\""),
        ("core module", core_module(), "this is a core module, not a package\nhelp: run `wasmop build`"),
        ("header cut", good[..6].to_vec(), "truncated"),
        ("layer", b"\0asm\x0d\0\x02\0".to_vec(), "unknown version or layer (0d000200)"),
        ("truncated", good[..good.len() - 10].to_vec(), "truncated or damaged"),
        ("truncated in the code", good[..100].to_vec(), "truncated or damaged"),
        ("another component", wat::parse_str("(component)").unwrap(), "no section `wasmop:manifest`"),
        ("no image", with(&[(MANIFEST_SECTION, &text)]), "no section `wasmop:memory-image`"),
        (
            "two manifests",
            with(&[(IMAGE_SECTION, image), (MANIFEST_SECTION, &text), (MANIFEST_SECTION, &text)]),
            "more than one section `wasmop:manifest`",
        ),
        ("code at the end", code_after, "code follows"),
        ("image damaged", with(&[(IMAGE_SECTION, b"wmim"), (MANIFEST_SECTION, &text)]), "memory image is invalid"),
        ("manifest no JSON", with(&[(IMAGE_SECTION, image), (MANIFEST_SECTION, b"{")]), "manifest can't be read"),
        (
            "manifest without name",
            json(&|value| drop(value.as_object_mut().unwrap().remove("name"))),
            "missing field `name`",
        ),
        ("manifest of tomorrow", json(&|value| value["manifestVersion"] = 9.into()), "manifest has version 9"),
        ("name is a path", json(&|value| value["name"] = "../etc".into()), "`../etc` can't be a package's name"),
        ("no memory", json(&|value| value["limits"]["memoryBytes"] = 0.into()), "limit memory is 0"),
        (
            "foreign import",
            empty_component(r#"(import "wasi:cli/exit@0.2.0" (instance))"#),
            "imports `wasi:cli/exit@0.2.0`",
        ),
        ("another world", empty_component(""), "does not export `wasmop:controller/guest@0.1.0`"),
    ];
    for (case, bytes, expected) in cases {
        let message = Package::parse(bytes.clone()).expect_err(case).to_string();
        assert!(message.contains(expected) && message.contains("\nhelp: "), "{case}: {message}");
    }
}

#[test]
fn an_inspection_shows_the_suspend_policy_if_there_is_one() {
    let manifest = Manifest { suspend_policy: Some("after=5s".parse().unwrap()), ..manifest() };
    let said = crate::inspect(&with_manifest(&package(), &manifest).unwrap()).unwrap();
    assert!(said.render().contains("\nsuspended     after=5s\n"), "{}", said.render());
    assert!(!crate::inspect(&package()).unwrap().render().contains("suspended"));
}

#[test]
fn an_inspection_shows_the_mode_and_the_reason_for_it() {
    let reason = "the program calls Controller::store".to_owned();
    let manifest = Manifest { mode: Mode::GuestDriven, mode_reason: Some(reason), unmodified: true, ..manifest() };
    let said = crate::inspect(&with_manifest(&package(), &manifest).unwrap()).unwrap();
    let line = "\nmode          guest-driven: the program calls Controller::store\n";
    assert!(said.render().contains(line), "{}", said.render());
    assert!(crate::inspect(&package()).unwrap().render().contains("\nmode          host-driven\n"));
}

#[test]
fn an_inspection_accounts_for_every_byte() {
    let bytes = package();
    let inspection = crate::inspect(&bytes).unwrap();
    let sizes = inspection.sizes;
    let parts = [sizes.code, sizes.names, sizes.debug, sizes.memory_image, sizes.manifest, sizes.custom, sizes.other];
    assert_eq!(parts.iter().sum::<u64>(), bytes.len() as u64);
    assert!(sizes.code > 0 && sizes.memory_image > 10 && sizes.manifest > 100);
    assert_eq!(inspection.imports, [world::SYS]);
    assert_eq!(inspection.exports, [world::GUEST, world::STATE]);
    assert_eq!(inspection.tier, Tier::Full);
    let text = inspection.render();
    for expected in [
        "website",
        "1.2.3",
        "rust with cargo",
        "wasmop 0.1.0",
        "memory 256.0 MiB, snapshot 1.0 GiB",
        "CPU 2s per step, 500m of a core sustained",
        "API 200 requests/s, 1000 at once, 32 in flight, response 64.0 MiB",
        "1 embedded",
        "memory image",
        "tier          full: memory and globals are its whole state",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    assert!(serde_json::to_value(&inspection).unwrap()["sizes"]["memoryImage"].is_u64());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Truncates, flips bits, damages lengths, and removes or duplicates parts.
    #[test]
    fn parsing_a_damaged_package_does_not_panic(
        edits in prop::collection::vec((0u8..5, any::<prop::sample::Index>(), any::<u8>(), 1usize..64), 1..6)
    ) {
        thread_local!(static GOOD: Vec<u8> = package());
        let mut bytes = GOOD.with(Clone::clone);
        for (kind, at, byte, len) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let to = (at + len).min(bytes.len());
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => drop(bytes.drain(at..to)),
                3 => {
                    let piece = bytes[at..to].to_vec();
                    bytes.splice(at..at, piece);
                }
                // Random offsets rarely hit the few length bytes of sections. Damage one explicitly.
                _ => {
                    let starts: Vec<usize> = section::sections(&bytes).map_while(Result::ok).map(|s| s.whole.start).collect();
                    if let Some(start) = starts.get(usize::from(byte) % starts.len().max(1))
                        && let Some(length) = bytes.get_mut(start + 1)
                    {
                        *length = length.wrapping_add(len as u8);
                    }
                }
            }
        }
        if let Ok(package) = Package::parse(bytes.clone()) {
            let image = package.image();
            prop_assert!(image.is_none_or(|image| image.runs().all(|(at, run)| at + run.len() as u64 <= image.size)));
            prop_assert!(!crate::inspect(&bytes).unwrap().render().is_empty());
            prop_assert!(with_manifest(&bytes, &manifest()).is_ok());
        }
        // The other parser of untrusted bytes.
        let _ = crate::assemble(&bytes, &manifest());
    }

    #[test]
    fn assembling_a_damaged_module_does_not_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in prop::option::of(any::<prop::sample::Index>())
    ) {
        let mut bytes = core_module();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(package) = crate::assemble(&bytes, &manifest()) {
            prop_assert!(Package::parse(package).is_ok());
        }
    }
}

#[test]
fn a_watch_counts_once_per_namespace() {
    for (controller, primary, watch, expected) in [
        ("", "", "", 2),
        (r#", "namespace": "a""#, "", r#", "namespace": "b""#, 2),
        (r#", "namespaces": ["a", "b", "c"]"#, "", "", 6),
        (r#", "namespaces": ["a", "b", "c"]"#, "", r#", "namespace": """#, 4),
        (r#", "namespace": "a""#, r#", "namespaces": ["x", "y"]"#, "", 3),
        (r#", "namespaces": ["a", "b", "c"]"#, "", r#", "namespaces": ["x", "y"]"#, 5),
    ] {
        let text = format!(
            r#"{{ "name": "a" {controller}, "primary": {{ "version": "v1", "kind": "A" {primary} }},
                "watches": [{{ "version": "v1", "kind": "B" {watch} }}] }}"#
        );
        let spec: ControllerSpec = serde_json::from_str(&text).unwrap();
        assert_eq!(spec.watch_count(), expected, "{text}");
        let again: ControllerSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }
}
