use super::*;
use crate::validate::validate;

fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

#[test]
fn a_count_keeps_its_width_when_the_sum_fits() {
    let added = added_types();
    // Count as found, and whether it keeps its width.
    let cases: &[(Vec<u8>, u32, bool)] = &[
        (leb(0), 4, true),
        (leb(123), 127, true),
        (leb(124), 128, false),
        (leb(128), 132, true),
        (leb(16_379), 16_383, true),
        (leb(16_380), 16_384, false),
        (vec![0x85, 0x80, 0x80, 0x80, 0x00], 9, true), // padded by a linker
    ];
    for (count, sum, same) in cases {
        let raw = [&count[..], b"items"].concat();
        let (content, same_width) = extended(&raw, &added).unwrap();
        let (found, items) = leb_u32(&content, 0).unwrap();
        assert_eq!((found, same_width), (*sum, *same), "{count:?}");
        assert_eq!(items == count.len(), *same, "{count:?}");
        assert!(content[items..].starts_with(b"items"));
    }
}

#[test]
fn malformed_vectors_are_an_error() {
    for raw in [&[][..], &[0x80], &[0xff, 0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert!(extended(raw, &added_types()).is_none(), "{raw:?}");
    }
}

#[test]
fn function_bodies_and_custom_sections_are_copied_byte_for_byte() {
    let text = r#"(module
        (memory (export "memory") 1)
        (func $one (result i32) (i32.const 1))
        (func $step (export "wasmop:controller/guest@0.1.0#step") (drop (call $one)))
        (@custom "producers" (after data) "some bytes")
        (@custom "component-type:foreign" (after data) "some bytes"))"#;
    let wasm = wat::parse_str(text).unwrap();
    let instrumented = instrument(&wasm, &validate(&wasm).unwrap()).unwrap().module;
    let section = |wasm: &[u8], id: u8, name: &str| {
        let found = crate::section::sections(wasm).map(Result::unwrap).find(|s| s.id == id && s.name == name);
        found.map(|section| wasm[section.content].to_vec())
    };
    for name in ["producers", "name"] {
        assert_eq!(section(&wasm, 0, name), section(&instrumented, 0, name), "{name}");
    }
    assert_eq!(section(&instrumented, 0, "component-type:foreign"), None);
    let before = section(&wasm, CODE, "").unwrap();
    let after = section(&instrumented, CODE, "").unwrap();
    assert_eq!(before[1..], after[1..before.len()]);
}
