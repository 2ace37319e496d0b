use super::*;

const STEP: &str = r#"(func $step (export "wasmop:controller/guest@0.1.0#step"))"#;

/// A minimal controller with additional `fields`.
fn controller(fields: &str) -> String {
    format!(r#"(module {fields} (memory (export "memory") 1) {STEP})"#)
}

fn refusal(wasm: &[u8], case: &str) -> Refusal {
    validate(wasm).expect_err(case)
}

#[test]
fn a_minimal_controller_is_accepted() {
    let wasm = wat::parse_str(controller("")).unwrap();
    let core = validate(&wasm).unwrap();
    assert_eq!((core.types, core.imported_functions, core.defined_functions, core.step), (1, 0, 1, 0));
}

#[test]
fn deterministic_features_without_hidden_state_are_accepted() {
    let accepted = [
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
        r#"(import "wasmop_rt" "read" (func (param i32 i32 i32)))"#,
        r#"(import "wasmop:controller/sys@0.1.0" "now" (func (result i64)))"#,
        r#"(global (mut f64) (f64.const 1)) (global i32 (i32.const 1)) (global v128 (v128.const i64x2 0 0))"#,
        r#"(table 2 funcref) (elem (i32.const 0) func $f) (func $f)"#,
        r#"(func (return_call 0))"#,
        r#"(func (param v128) (result i32) (i8x16.extract_lane_s 0 (local.get 0)))"#,
        r#"(data "passive") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        r#"(func (memory.copy (i32.const 0) (i32.const 0) (i32.const 1)) (memory.fill (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        r#"(func (param i32) (result i32 i32) (i32.extend8_s (local.get 0)) (i32.trunc_sat_f32_s (f32.const 1)))"#,
        r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))"#,
    ];
    for fields in accepted {
        let wasm = wat::parse_str(controller(fields)).expect(fields);
        if let Err(refusal) = validate(&wasm) {
            panic!("{fields}: {refusal}");
        }
    }
}

/// Modules and what the message must contain.
const REFUSED: &[(&str, &[&str])] = &[
    // Memories.
    (r#"(module (func (export "wasmop:controller/guest@0.1.0#step")))"#, &["has 0 memories"]),
    (
        r#"(module (memory (export "memory") 1) (memory 1) (func (export "wasmop:controller/guest@0.1.0#step")))"#,
        &["has 2 memories"],
    ),
    (
        r#"(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) (func (export "wasmop:controller/guest@0.1.0#step")))"#,
        &["imported from `env` `memory`", "--import-memory"],
    ),
    (
        r#"(module (memory (export "memory") 1 1 shared) (func (export "wasmop:controller/guest@0.1.0#step")))"#,
        &["shared between threads", "not wasm32-wasip1-threads"],
    ),
    (r#"(module (memory (export "memory") i64 1) (func (export "wasmop:controller/guest@0.1.0#step")))"#, &["64-bit"]),
    (
        r#"(module (memory (export "memory") 1 (pagesize 1)) (func (export "wasmop:controller/guest@0.1.0#step")))"#,
        &["pages of 1 bytes"],
    ),
    (
        r#"(module (memory (export "mem") 1) (func (export "wasmop:controller/guest@0.1.0#step")))"#,
        &["not exported as `memory`"],
    ),
    // Globals.
    (r#"(global i32 (i32.const 0)) (global (mut v128) (v128.const i64x2 0 0))"#, &["global 1", "v128"]),
    (r#"(global (mut funcref) (ref.null func))"#, &["global 0", "funcref"]),
    (r#"(global (mut externref) (ref.null extern))"#, &["global 0", "externref"]),
    (r#"(import "env" "__stack_pointer" (global (mut i32)))"#, &["`env` `__stack_pointer`", "link statically"]),
    // State outside memory.
    (
        r#"(table 1 funcref) (func $swap (table.set (i32.const 0) (ref.null func)))"#,
        &["`table.set`", "function `swap` (index 0)"],
    ),
    (
        r#"(table 1 funcref) (func $more (drop (table.grow (ref.null func) (i32.const 1))))"#,
        &["`table.grow`", "`more`"],
    ),
    (
        r#"(table 1 funcref) (func $all (table.fill (i32.const 0) (ref.null func) (i32.const 1)))"#,
        &["`table.fill`", "`all`"],
    ),
    (
        r#"(table 1 funcref) (func $dup (table.copy (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        &["`table.copy`", "`dup`"],
    ),
    (
        r#"(table 1 funcref) (elem func 0) (func $load (table.init 0 (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        &["`table.init`", "`load`"],
    ),
    (r#"(elem func 0) (func $gone (elem.drop 0))"#, &["`elem.drop`", "`gone`"]),
    (r#"(data "x") (func $free (data.drop 0))"#, &["`data.drop`", "`free`"]),
    (r#"(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"#, &["function 0", "--debug"]),
    // Proposals.
    (
        r#"(func $wait (drop (memory.atomic.notify (i32.const 0) (i32.const 0))))"#,
        &["`memory.atomic.notify`", "threads", "`wait`"],
    ),
    (r#"(func $add (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))"#, &["threads", "`add`"]),
    (r#"(type $s (struct)) (func $make (drop (struct.new $s)))"#, &["`struct.new`", "garbage collection", "`make`"]),
    (r#"(tag $t) (func $raise (throw $t))"#, &["`throw`", "exception handling", "`raise`"]),
    (
        r#"(func $mad (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))"#,
        &["relaxed SIMD", "`mad`"],
    ),
    (r#"(func $wide (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 1)))"#, &["wide arithmetic", "`wide`"]),
    (r#"(table 1 externref)"#, &["a feature that controllers cannot use"]),
    // Data.
    (r#"(data (i32.add (i32.const 1) (i32.const 2)) "x")"#, &["data segment 0", "not a constant"]),
    (r#"(data (i32.const 0) "x") (data (i32.const 65535) "xy")"#, &["data segment 1 ends at 65537", "65536 bytes"]),
    (r#"(data (i32.const -1) "x")"#, &["data segment 0 ends at 4294967296"]),
    // Imports.
    (
        r#"(import "wasi_snapshot_preview1" "sock_connect" (func (param i32 i32) (result i32)))"#,
        &["WASI function `sock_connect`"],
    ),
    (
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32) (result i32)))"#,
        &["`fd_write` as (i32) -> i32", "(i32, i32, i32, i32) -> i32"],
    ),
    (
        r#"(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
        &["`wasi_unstable`", "2019"],
    ),
    (
        r#"(import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func (param i32)))"#,
        &["`wasi:io/streams@0.2.0`", "not wasip2"],
    ),
    (r#"(import "env" "getaddrinfo" (func (param i32)))"#, &["`env` `getaddrinfo`", "left a function undefined"]),
    (
        r#"(import "__wbindgen_placeholder__" "__wbindgen_describe" (func (param i32)))"#,
        &["`__wbindgen_placeholder__`", "wasm-bindgen"],
    ),
    (r#"(import "gojs" "runtime.wasmExit" (func (param i32)))"#, &["GOOS=wasip1"]),
    (
        r#"(import "wasmop:controller/sys@0.2.0" "now" (func (result i64)))"#,
        &["`wasmop:controller/sys@0.2.0`", "same release"],
    ),
    (r#"(import "wasmop:controller/sys@0.1.0" "now" (func (result i32)))"#, &["`now` as () -> i32", "() -> i64"]),
    (r#"(import "wasmop:controller/runtime@0.1.0" "read" (func (param i32)))"#, &["`runtime.read`", "`wasmop_rt`"]),
    (r#"(import "wasmop_rt" "write" (func))"#, &["`wasmop_rt` `write`"]),
    (r#"(import "env" "__indirect_function_table" (table 1 funcref))"#, &["table `env` `__indirect_function_table`"]),
    (r#"(import "env" "__cpp_exception" (tag (param i32)))"#, &["exception tag `env` `__cpp_exception`"]),
    // The world.
    (
        r#"(module (memory (export "memory") 1))"#,
        &["exports no `wasmop:controller/guest@0.1.0#step`", "#[wasmop::main]"],
    ),
    (
        r#"(module (memory (export "memory") 1) (func (export "wasi:cli/run@0.2.0#run") (result i32) (i32.const 0)))"#,
        &["built for another world", "`wasi:cli/run@0.2.0#run`"],
    ),
    (
        r#"(module (memory (export "memory") 1) (func (export "wasmop:controller/guest@0.1.0#step") (param i32)))"#,
        &["as (i32)", "without parameters"],
    ),
    (
        r#"(module (memory (export "memory") 1) (global (export "wasmop:controller/guest@0.1.0#step") i32 (i32.const 0)))"#,
        &["as a global"],
    ),
    // Invalid modules.
    (r#"(func (result i32) (i64.const 0))"#, &["not a valid module", "type mismatch"]),
];

#[test]
fn every_refusal_names_the_construct_and_offers_help() {
    for (text, expected) in REFUSED {
        let text = if text.starts_with("(module") { (*text).to_string() } else { controller(text) };
        let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let message = refusal(&wasm, &text).to_string();
        for part in expected.iter().chain(&["\nhelp: "]) {
            assert!(message.contains(part), "{text}\nshould say {part:?}, says: {message}");
        }
    }
}

#[test]
fn files_that_are_not_modules_are_refused() {
    let good = wat::parse_str(controller(r#"(func $long (drop (i32.const 123456)))"#)).unwrap();
    let cases: &[(&[u8], &str)] = &[
        (b"", "nothing (it is empty)"),
        (b"hello, world", "begins with \"hell\""),
        (b"\x7fELF\x02\x01\x01\0", "begins with \"\\x7fELF\""),
        (b"\0as", "truncated"),
        (b"\0asm", "truncated"),
        (b"\0asm\x01\0\0", "truncated"),
        (b"\0asm\x07\0\0\0", "not a valid module"),
        (&good[..good.len() / 2], "truncated"),
        (&good[..good.len() - 1], "truncated"),
    ];
    for (wasm, expected) in cases {
        let message = refusal(wasm, expected).to_string();
        assert!(message.contains(expected) && message.contains("\nhelp: "), "{expected}: {message}");
    }
}
