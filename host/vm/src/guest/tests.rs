//! Hostile components that package checks would refuse: every call of a guest ends within the limits.

use wasmtime::component::Component;

use super::*;

/// A component with these bodies for the state interface. `fields`: further fields of the module.
fn component(count: &str, get: &str, fields: &str) -> String {
    format!(
        r#"(component
          (core module $main
            (memory (export "memory") 1)
            (func (export "step"))
            (func (export "init"))
            (func (export "count") (result i32) {count})
            (func (export "get") (param i32) (result i64) {get})
            (func (export "set") (param i32 i64))
            {fields})
          (core instance $i (instantiate $main))
          (func $step (canon lift (core func $i "step")))
          (func $init (canon lift (core func $i "init")))
          (func $count (result u32) (canon lift (core func $i "count")))
          (func $get (param "index" u32) (result u64) (canon lift (core func $i "get")))
          (func $set (param "index" u32) (param "bits" u64) (canon lift (core func $i "set")))
          (instance $guest (export "step" (func $step)))
          (instance $state (export "init" (func $init)) (export "global-count" (func $count))
            (export "global-get" (func $get)) (export "global-set" (func $set)))
          (export "wasmop:controller/guest@0.1.0" (instance $guest))
          (export "wasmop:internal/state" (instance $state)))"#
    )
}

const LIMITS: Limits = Limits { cpu_per_step_ns: 50_000_000, memory_bytes: 1 << 20, ..Limits::USUAL };

fn instantiate(component: &str) -> Result<Guest, InstantiateError> {
    let engine = Engine::new().unwrap();
    let component = Component::new(engine.wasmtime(), wat::parse_str(component).unwrap()).unwrap();
    let exports = GuestExports::new(&engine, &component, Tier::Full).unwrap();
    Guest::instantiate(&engine, &exports, &LIMITS, 0, None, None, (&WasiGrant::default(), &Startup::default()))
        .map(|(guest, _)| guest)
}

/// The limit is 1 MiB for memory, tables and fixed bytes together.
#[test]
fn memory_tables_and_fixed_bytes_count_once_against_the_limit() {
    let engine = Engine::new().unwrap();
    for (pages, entries, fixed, fits) in [
        (16, 0, 0, true),
        (16, 1, 0, false),
        (15, 8192, 0, true),
        (15, 8193, 0, false),
        (15, 4096, 32 << 10, true),
        (15, 4096, (32 << 10) + 1, false),
    ] {
        let fields = format!("(table {entries} funcref)");
        let text = component("(i32.const 0)", "(i64.const 0)", &fields)
            .replace("\"memory\") 1", &format!("\"memory\") {pages}"));
        let component = Component::new(engine.wasmtime(), wat::parse_str(text).unwrap()).unwrap();
        let exports = GuestExports::new(&engine, &component, Tier::Full).unwrap().with_fixed_bytes(fixed);
        let surroundings = (&WasiGrant::default(), &Startup::default());
        let guest = Guest::instantiate(&engine, &exports, &LIMITS, 0, None, None, surroundings);
        assert_eq!(guest.is_ok(), fits, "{pages} pages, {entries} entries, {fixed} bytes");
    }
}

const LOOP: &str = "(loop (br 0)) (unreachable)";

#[test]
fn an_endless_start_function_is_interrupted() {
    let text = component("(i32.const 0)", "(i64.const 0)", "(func $start (loop (br 0))) (start $start)");
    let error = instantiate(&text).err().expect("its start function ended").to_string();
    assert!(error.contains("used the CPU for more than 50ms"), "{error}");
}

#[test]
fn endless_state_functions_are_interrupted() {
    for (count, get) in [(LOOP, "(i64.const 0)"), ("(i32.const 1)", LOOP)] {
        let mut guest = instantiate(&component(count, get, "")).unwrap();
        let error = guest.globals().unwrap_err().to_string();
        assert!(error.contains("used the CPU for more than 50ms"), "{error}");
    }
}

#[test]
fn too_many_globals_are_refused() {
    let mut guest = instantiate(&component("(i32.const -1)", "(i64.const 0)", "")).unwrap();
    let error = guest.globals().unwrap_err().to_string();
    assert!(error.contains("4294967295 globals"), "{error}");
}

#[test]
fn tables_count_against_the_memory_limit_and_are_measured() {
    // 64 KiB of memory and 960 KiB of tables are the limit.
    for (entries, fits) in [(122_880, true), (122_881, false)] {
        let tables = format!("(table 1 funcref) (table {} funcref)", entries - 1);
        match instantiate(&component("(i32.const 0)", "(i64.const 0)", &tables)) {
            Ok(guest) => {
                assert!(fits, "{entries}");
                assert_eq!(guest.table_bytes(), entries * 8);
            }
            Err(error) => assert!(!fits && error.to_string().contains("limits"), "{entries}: {error}"),
        }
    }
}
