//! Tests the state functions, the memory image and the instrumented module.

use crate::harness::{Guest, World, controller, instantiate, package, package_of};
use wasmtime::{Engine, Linker, Module, Store, WasmBacktrace};

const COUNTING: &str = r#"
    (global $start (mut i32) (i32.const 0))
    (global $initialize (mut i32) (i32.const 0))
    (global $steps (mut i32) (i32.const 0))
    (start $on-start)
    (func $on-start (global.set $start (i32.add (global.get $start) (i32.const 1))))
    (func (export "_initialize")
      (global.set $initialize (i32.add (global.get $start) (i32.const 10))))"#;
const COUNT: &str = "(global.set $steps (i32.add (global.get $steps) (i32.const 1)))";

#[test]
fn instantiating_runs_no_code_and_init_runs_start_then_initialize() {
    let mut guest = instantiate(&package(&controller(COUNTING, COUNT)), World::default());
    assert_eq!(guest.globals(), [0, 0, 0]);
    guest.init().unwrap();
    assert_eq!(guest.globals(), [1, 11, 0]);
    guest.step().unwrap();
    guest.step().unwrap();
    assert_eq!(guest.globals(), [1, 11, 2]);
}

#[test]
fn init_runs_the_start_export_of_a_command() {
    let fields = r#"(global $ran (mut i64) (i64.const 0)) (func (export "_start") (global.set $ran (i64.const 7)))"#;
    let mut guest = Guest::started(&controller(fields, ""));
    assert_eq!(guest.globals(), [7]);
}

#[test]
fn globals_of_every_type_are_copied_bit_for_bit() {
    let fields = r#"
        (global (mut i32) (i32.const -1))
        (global i32 (i32.const 5))
        (global (mut i64) (i64.const -2))
        (global (mut f32) (f32.const nan:0x200001))
        (global (mut f64) (f64.const -0))"#;
    let mut guest = Guest::started(&controller(fields, ""));
    assert_eq!(guest.globals(), [0xffff_ffff, u64::MAX - 1, 0x7fa0_0001, 0x8000_0000_0000_0000]);
    let bits = [0x8000_0001, 0x0123_4567_89ab_cdef, 0xffa0_0003, 0xfff4_0000_0000_0005];
    for (index, bits) in (0..).zip(bits) {
        guest.set_global(index, bits).unwrap();
    }
    assert_eq!(guest.globals(), bits);
    guest.set_global(0, u64::MAX).unwrap();
    assert_eq!(guest.global(0).unwrap(), 0xffff_ffff);
}

#[test]
fn accessing_a_global_out_of_range_traps() {
    let mut guest = Guest::started(&controller("(global (mut i32) (i32.const 0))", ""));
    assert!(guest.global(1).is_err());
    let mut guest = Guest::started(&controller("", ""));
    assert!(guest.globals().is_empty());
    assert!(guest.set_global(0, 0).is_err());
}

#[test]
fn a_new_instance_continues_with_the_globals_of_another() {
    let package = package(&controller(COUNTING, COUNT));
    let mut first = instantiate(&package, World::default());
    first.init().unwrap();
    first.step().unwrap();
    let saved = first.globals();
    drop(first);
    let mut second = instantiate(&package, World::default());
    for (index, bits) in (0..).zip(saved) {
        second.set_global(index, bits).unwrap();
    }
    second.step().unwrap();
    assert_eq!(second.globals(), [1, 11, 2]);
}

/// Returns the linear memory of a core module after instantiation. All imports trap.
fn memory_after_instantiation(core: &[u8]) -> Vec<u8> {
    let engine = Engine::default();
    let module = Module::new(&engine, core).unwrap();
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&module).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    memory.data(&store).to_vec()
}

#[test]
fn the_image_equals_the_memory_after_instantiating_the_original_module() {
    let cases = [
        "",
        r#"(data (i32.const 0) "a")"#,
        r#"(data (i32.const 10) "first") (data (i32.const 12) "over") (data (i32.const 65530) "\01\02\03\04\05\06")"#,
        r#"(data (i32.const 4090) "0123456789abcdef") (data (i32.const 4096) "\00\00\00")"#,
        r#"(data "passive") (data (i32.const 1) "x") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        r#"(data (i32.const 65536) "")"#,
    ];
    for fields in cases {
        let core = wat::parse_str(controller(fields, "")).unwrap();
        let expected = memory_after_instantiation(&core);
        let package = package_of(&core);
        let image = package.image().unwrap();
        let mut memory = vec![0; expected.len()];
        for (offset, run) in image.runs() {
            memory[offset as usize..][..run.len()].copy_from_slice(run);
        }
        assert!(memory == expected, "{fields}");
        assert!(image.size <= expected.len() as u64 && image.size.is_multiple_of(4096), "{fields}");
    }
}

#[test]
fn memory_init_works_with_passive_segments_and_finds_active_ones_empty() {
    // The global receives the value that memory.init wrote.
    let fields = r#"(global $seen (mut i32) (i32.const 0)) (data (i32.const 0) "active") (data "pq")"#;
    let body = r#"(memory.init 1 (i32.const 100) (i32.const 0) (i32.const 2))
                  (memory.init 0 (i32.const 200) (i32.const 0) (i32.const 0))
                  (global.set $seen (i32.load (i32.const 100)))"#;
    let mut guest = Guest::started(&controller(fields, body));
    guest.step().unwrap();
    assert_eq!(guest.globals(), [u64::from(u32::from_le_bytes(*b"pq\0\0"))]);
    let mut guest = Guest::started(&controller(fields, "(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))"));
    assert!(guest.step().is_err(), "an applied segment is empty");
}

#[test]
fn a_trap_shows_function_names() {
    let fields = "(func $explode unreachable) (func $middle (call $explode))";
    let mut guest = Guest::started(&controller(fields, "(call $middle)"));
    let error = guest.step().unwrap_err();
    let backtrace = error.downcast_ref::<WasmBacktrace>().unwrap();
    let names: Vec<_> = backtrace.frames().iter().filter_map(|frame| frame.func_name()).collect();
    assert_eq!(names, ["explode", "middle", "step"]);
}
