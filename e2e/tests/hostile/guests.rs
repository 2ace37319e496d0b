//! The hostile guests, and the outcome that each must have.

use anyhow::Result;
use wasmop_e2e::wat_guest::{Code, FINISH_WHEN_ANSWERED, NAMESPACE, spec};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;

/// A hostile or careless guest.
pub struct Guest {
    /// The name of its controller and of its object.
    pub name: &'static str,
    /// Its row in the table.
    pub row: &'static str,
    pub code: Code,
    pub limits: Limits,
    pub outcome: Outcome,
}

/// The expected outcome.
pub enum Outcome {
    /// The host emits an Event with this reason, about the object or the host's namespace, and keeps a last error. Both
    /// contain the text `says`.
    Reported { reason: &'static str, on_object: bool, says: &'static str },
    /// The guest is within its rights: it keeps reconciling, and the host reports nothing.
    KeepsRunning,
}

use Outcome::KeepsRunning;

fn reported(reason: &'static str, says: &'static str) -> Outcome {
    Outcome::Reported { reason, on_object: false, says }
}

fn reported_on_object(reason: &'static str, says: &'static str) -> Outcome {
    Outcome::Reported { reason, on_object: true, says }
}

/// Small limits, so that the part needs little of the machine.
const LIMITS: Limits =
    Limits { memory_bytes: 16 << 20, cpu_per_step_ns: 100_000_000, cpu_share_millis: 1000, ..Limits::USUAL };
const LITTLE_CPU: Limits = Limits { cpu_share_millis: 20, ..LIMITS };
const FEW_REQUESTS: Limits = Limits { api_requests_per_second: 5, api_burst: 10, ..LIMITS };

/// Bytes of a registration in memory that has several forms.
const VARIANT: usize = 2048;

const LOOP: &str = "(loop $ever (br $ever))";
const GROW: &str =
    "(loop $more (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable))) (br $more))";
/// A path of 48 bytes at 2048: a long-lived watch.
const WATCH_PATH: &str = r#"(data (i32.const 2048) "/api/v1/namespaces/hostile/configmaps?watch=true")"#;
const FINISH: &str = "(call $finish (local.get $task))";

/// Registers for all ConfigMaps, with a predicate that rejects every change at nearly the highest allowed cost.
fn judging(name: &str) -> String {
    let loops: String = ["a", "b", "c", "d"].map(|turn| format!("[1,2,3,4,5,6].all({turn}, ")).concat();
    let predicate = format!("!{loops}a + b + c + d > 0))))");
    format!(
        r#"{{"name":"{name}","primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps","predicate":"{predicate}"}},"watches":[]}}"#
    )
}

/// Registers for the ConfigMaps with its label, and also watches them with a map function.
fn mapping(name: &str) -> String {
    let watch = format!(
        r#"{{"version":"v1","kind":"ConfigMap","plural":"configmaps","labelSelector":"guest={name}","relation":"map"}}"#
    );
    spec(name, &watch)
}

/// Registrations for the ConfigMap of this name, with 0 to 7 more watches of it. Each takes [`VARIANT`] bytes.
fn variants(name: &str) -> String {
    let kind = format!(r#"{{"version":"v1","kind":"ConfigMap","plural":"configmaps","labelSelector":"guest={name}"}}"#);
    let variant = |n: usize| {
        let watches = vec![&*kind; n].join(",");
        let spec = format!(r#"{{"name":"{name}","namespace":"{NAMESPACE}","primary":{kind},"watches":[{watches}]}}"#);
        let text = format!("{spec:VARIANT$}").replace('"', "\\\"");
        format!("(data (i32.const {}) \"{text}\")", 32_768 + n * VARIANT)
    };
    (0..8).map(variant).collect()
}

/// `count` functions that nothing calls.
fn functions(count: usize) -> String {
    (0..count).map(|n| format!("(func (result i32) (i32.const {n}))")).collect()
}

fn guest(name: &'static str, row: &'static str, limits: Limits, outcome: Outcome, code: Code) -> Guest {
    Guest { name, row, code, limits, outcome }
}

#[rustfmt::skip]
pub fn all() -> Vec<Guest> {
    let code = Code::default;
    vec![
        guest("init-traps", "init: traps", LIMITS,
            reported("InstallFailed", "failed to initialise: panic"), Code { init: "(unreachable)", ..code() }),
        guest("init-loops", "init: loops forever", LIMITS,
            reported("InstallFailed", "failed to initialise: cpu-limit"), Code { init: LOOP, ..code() }),
        guest("init-grows", "init: allocates all memory", LIMITS,
            reported("InstallFailed", "failed to initialise: memory-limit"), Code { init: GROW, ..code() }),
        guest("start-traps", "start: traps", LIMITS,
            reported("CrashLoop", "begins anew"), Code { start: "(unreachable)", ..code() }),
        guest("start-loops", "start: loops forever", LIMITS,
            reported("StepCpuLimit", "used the CPU for more than 100ms"), Code { start: LOOP, ..code() }),
        guest("traps", "reconcile: traps", LIMITS,
            reported_on_object("StepPanicked", "panic"), Code { reconcile: "(unreachable)", ..code() }),
        guest("divides", "reconcile: divides by zero", LIMITS,
            reported_on_object("StepTrapped", "integer divide by zero"),
            Code { reconcile: "(drop (i64.div_u (i64.const 1) (i64.const 0)))", ..code() }),
        guest("loops", "reconcile: loops forever", LIMITS,
            reported_on_object("StepCpuLimit", "used the CPU for more than 100ms"), Code { reconcile: LOOP, ..code() }),
        guest("grows", "reconcile: allocates all memory", LIMITS,
            reported_on_object("StepMemoryLimit", "memory-limit"), Code { reconcile: GROW, ..code() }),
        guest("fills", "reconcile: keeps nearly all of its memory", LIMITS,
            reported("MemoryNearlyFull", "its memory is nearly full"),
            Code { reconcile: "(if (i32.lt_u (memory.size) (i32.const 226)) (then (drop (memory.grow (i32.const 224))))) (call $finish (local.get $task))", ..code() }),
        guest("recurses", "reconcile: recurses without end", LIMITS,
            reported_on_object("StepTrapped", "call stack exhausted"), Code { reconcile: "(call $reconcile (i64.add (local.get $task) (i64.const 1))) (global.set $task (local.get $task))", ..code() }),
        guest("watches", "register: a million times", LIMITS,
            reported("StepActionLimit", "actions"),
            Code { start: "(local $n i32) (loop $more (drop (call $register (i32.const 16384) (i32.const {spec-len}))) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))", ..code() }),
        guest("watches-much", "register: a hundred watches at once", LIMITS,
            reported("InterfaceMisused", "101 watches"),
            Code { spec: Some(spec("watches-much", &vec![r#"{"version":"v1","kind":"Secret","plural":"secrets"}"#; 100].join(","))), ..code() }),
        guest("registers-anew", "register: differently after each restart, then traps in a timer", LIMITS,
            reported("CrashLoop", "begins anew"),
            Code { fields: format!("(global $seen (mut i32) (i32.const 0)) {}", variants("registers-anew")),
                   start: "(local $n i32) (loop $more (drop (call $register (i32.add (i32.const 32768) (i32.mul (i32.const 2048) (i32.and (i32.wrap_i64 (call $random)) (i32.const 7)))) (i32.const 2048))) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 7)))) (global.set $seen (i32.const 1))",
                   reconcile: "(global.set $seen (i32.const 1)) (call $finish (local.get $task))",
                   event: "(global.set $seen (i32.const 1))",
                   end: "(if (i32.eqz (global.get $seen)) (then (unreachable))) (global.set $seen (i32.const 0)) (call $park (i64.const 100000000))", ..code() }),
        guest("registers-nonsense", "register: invalid JSON", LIMITS,
            reported("InterfaceMisused", "not a controller spec"), Code { spec: Some("watch everything".into()), ..code() }),
        guest("calls", "requests: two thousand in each step", FEW_REQUESTS,
            reported("RequestRateLimited", "more than 5 requests a second"),
            Code { start: "(local $n i64) (loop $more (call $get (local.get $n) (i64.const 0)) (br_if $more (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 2000))))", ..code() }),
        guest("calls-more", "requests: more in flight than allowed", Limits { api_requests_per_second: 1_000_000, api_burst: 1_000_000, ..LIMITS },
            reported("InterfaceMisused", "too many calls in flight"),
            Code { start: "(local $n i64) (loop $more (call $get (local.get $n) (i64.const 0)) (br_if $more (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 5000))))", ..code() }),
        guest("calls-twice", "requests: reuses the id of an open request", LIMITS,
            reported("InterfaceMisused", "this call id is in use"),
            Code { start: "(call $get (i64.const 1) (i64.const 0)) (call $get (i64.const 1) (i64.const 0))", ..code() }),
        guest("calls-large", "requests: 32 MiB in one step", Limits { memory_bytes: 64 << 20, ..LIMITS },
            reported_on_object("StepActionLimit", "bytes"),
            Code { pages: 512, reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 33554432))", ..code() }),
        guest("streams", "requests: opens a hundred watches", Limits { api_in_flight: 4, ..LIMITS },
            reported("RequestsInFlightLimited", "4 watches or logs are open"),
            Code { fields: WATCH_PATH.into(), start: "(local $n i64) (loop $more (call $call (local.get $n) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 2048) (i32.const 48) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (br_if $more (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 100))))", ..code() }),
        guest("path", "requests: a path of 60,000 bytes", LIMITS, KeepsRunning,
            Code { reconcile: "(memory.fill (i32.const 1025) (i32.const 97) (i32.const 14000)) (memory.fill (i32.const 65536) (i32.const 97) (i32.const 60000)) (i32.store8 (i32.const 65536) (i32.const 47)) (call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 65536) (i32.const 60000) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
                   event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("headers", "requests: control characters in headers", LIMITS, KeepsRunning,
            Code { fields: r#"(data (i32.const 2048) "accept: \00\01\7f\0aaccept:\0a:\0a")"#.into(),
                   reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const {path-len}) (i32.const 2048) (i32.const 22) (i32.const 0) (i32.const 0))",
                   event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("method", "requests: an invented method and host", LIMITS, KeepsRunning,
            Code { fields: r#"(data (i32.const 2048) "EVIL / HTTP/1.1\0d\0a\0d\0a")"#.into(),
                   reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 2048) (i32.const 19) (i32.const 1024) (i32.const {path-len}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (call $call (i64.const 2) (local.get $task) (i32.const 1024) (i32.const {path-len}) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const {path-len}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
                   event: "(if (i64.eq (local.get $id) (i64.const 2)) (then (if (i32.ge_u (local.get $kind) (i32.const 6)) (then (call $finish (global.get $task))))))", ..code() }),
        guest("body", "requests: patches with 8 MiB of zeros", LIMITS, KeepsRunning,
            Code { pages: 128, reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 520) (i32.const 5) (i32.const 1024) (i32.const {path-len}) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 8388608))",
                   event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("logs", "log: as much as possible", Limits { log_bytes_per_second: 10 << 10, cpu_share_millis: 100, ..LIMITS },
            reported("LogLinesDropped", "more than 10240 bytes of log a second"),
            Code { end: "(local $n i32) (loop $more (call $log (i32.const 2) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 1000) (i32.const 0) (i32.const 0)) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))) (call $park (i64.const 10000000))", ..code() }),
        guest("done-unknown", "done: an unknown task", LIMITS,
            reported("InterfaceMisused", "`done` for the unknown task 999"),
            Code { reconcile: "(call $finish (i64.const 999)) (call $finish (local.get $task))", ..code() }),
        guest("done-twice", "done: the same task twice", LIMITS,
            reported("InterfaceMisused", "`done` for the unknown task"),
            Code { reconcile: "(call $finish (local.get $task)) (call $finish (local.get $task))", ..code() }),
        guest("parks-zero", "park: runs again at once, forever", LITTLE_CPU,
            reported("CpuShareUsedUp", "20m of a core"), Code { end: "(call $park (i64.const 0))", ..code() }),
        guest("requeues-zero", "requeue: at once, forever", LITTLE_CPU,
            reported("CpuShareUsedUp", "20m of a core"),
            Code { reconcile: "(call $done (local.get $task) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", ..code() }),
        guest("judges-slowly", "predicate: slow for each change", LITTLE_CPU,
            reported("CpuShareUsedUp", "20m of a core"),
            Code { reconcile: FINISH, spec: Some(judging("judges-slowly")), ..code() }),
        guest("parks-for-ever", "park: for 584 years", LIMITS, KeepsRunning,
            Code { reconcile: FINISH, end: "(call $park (i64.const -1))", ..code() }),
        guest("requeues-never", "requeue: after 584 years", LIMITS, KeepsRunning,
            Code { reconcile: "(call $done (local.get $task) (i32.const 1) (i64.const -1) (i32.const 0) (i32.const 0) (i32.const 0))", ..code() }),
        guest("reads-more", "read: claims a longer payload", LIMITS,
            reported_on_object("StepPanicked", "panic"),
            Code { reconcile: "(call $read (i32.const 65536) (i32.const 60000) (i32.const 64))", ..code() }),
        guest("reads-nothing", "read: without an event", LIMITS,
            reported("StepPanicked", "panic"), Code { end: "(call $read (i32.const 65536) (i32.const 1) (i32.const 64))", ..code() }),
        guest("reads-outside", "read: to an address outside of its memory", LIMITS,
            reported_on_object("StepTrapped", "trap"),
            Code { reconcile: "(call $read (i32.const -16) (i32.load (i32.const 28)) (i32.const 64))", ..code() }),
        guest("drops-unknown", "drop: an unknown request", LIMITS, KeepsRunning,
            Code { reconcile: "(call $drop-call (i64.const 77)) (call $finish (local.get $task))", ..code() }),
        guest("scribbles", "reconcile: overwrites all of its memory", LIMITS, KeepsRunning,
            Code { reconcile: "(memory.fill (i32.const 0) (i32.const 255) (i32.const 131072)) (call $finish (local.get $task))", ..code() }),
        guest("hangs", "reconcile: never finishes", Limits { reconcile_timeout_ns: 1_000_000_000, ..LIMITS },
            reported_on_object("ReconcileTimedOut", "longer than 1s"), code()),
        guest("maps-never", "map: never finishes", Limits { reconcile_timeout_ns: 1_000_000_000, ..LIMITS },
            reported("ReconcileTimedOut", "the map function was cancelled: it took longer than 1s"),
            Code { reconcile: FINISH, spec: Some(mapping("maps-never")), ..code() }),
        // A second reconcile of its object happens only because the map function failed.
        guest("maps-growing", "map: allocates all memory, then the reconcile traps", LIMITS,
            reported_on_object("StepPanicked", "panic"),
            Code { reconcile: "(if (i64.ne (global.get $count) (i64.const 0)) (then (unreachable))) (global.set $count (i64.const 1)) (call $finish (local.get $task))",
                   event: GROW, spec: Some(mapping("maps-growing")), ..code() }),
        guest("changes-itself", "reconcile: changes its own object", FEW_REQUESTS,
            reported("RequestRateLimited", "more than 5 requests a second"),
            Code { fields: r#"(data (i32.const 2048) "content-type: application/merge-patch+json\0a") (data (i32.const 2304) "{\"data\":{\"n\":\"aaaaaaaa\"}}")"#.into(),
                   reconcile: "(global.set $count (i64.add (global.get $count) (i64.const 1))) (i32.store8 (i32.const 2319) (i32.add (i32.const 97) (i32.and (i32.wrap_i64 (global.get $count)) (i32.const 15)))) (call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 520) (i32.const 5) (i32.const 1024) (i32.const {path-len}) (i32.const 2048) (i32.const 43) (i32.const 2304) (i32.const 25))",
                   event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("reads-large", "requests: reads an object above the response limit", Limits { response_bytes: 64 << 10, ..LIMITS },
            reported_on_object("ResponseTooLarge", "more than 65536 bytes"),
            Code { reconcile: "(call $get (i64.const 1) (local.get $task))", event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("watches-large", "requests: watches an object above the response limit", Limits { response_bytes: 64 << 10, ..LIMITS },
            reported_on_object("ResponseTooLarge", "more than 65536 bytes"),
            Code { reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const {watch-path-len}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("follows-large", "requests: follows an object above the response limit", Limits { response_bytes: 64 << 10, ..LIMITS },
            reported_on_object("ResponseTooLarge", "more than 65536 bytes"),
            Code { fields: r#"(data (i32.const 2048) "/api/v1/namespaces/hostile/configmaps/follows-large?follow=1")"#.into(),
                   reconcile: "(call $call (i64.const 1) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 2048) (i32.const 60) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", event: FINISH_WHEN_ANSWERED, ..code() }),
        guest("duplicates", "requests: reuses an open id 16,000 times a step", Limits { cpu_share_millis: 100, ..LIMITS },
            reported("InterfaceMisused", "this call id is in use"),
            Code { fields: WATCH_PATH.into(), end: "(local $n i32) (loop $more (call $call (i64.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 2048) (i32.const 48) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16000)))) (call $park (i64.const 0))", ..code() }),
        guest("overdraws", "requests: sends forever and reads no response", Limits { cpu_share_millis: 100, ..FEW_REQUESTS },
            reported("CrashLoop", "does not take the answers"),
            Code { end: "(local $n i32) (loop $more (global.set $count (i64.add (global.get $count) (i64.const 1))) (call $get (global.get $count) (i64.const 0)) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16000)))) (call $park (i64.const 0))", ..code() }),
        guest("denied", "requests: a denied name of 7,900 bytes, all the time", Limits { log_bytes_per_second: 10 << 10, ..LIMITS },
            reported("LogLinesDropped", "more than 10240 bytes of log a second"),
            Code { fields: r#"(data (i32.const 32768) "/api/v1/secrets/") (global $open (mut i32) (i32.const 0))"#.into(),
                   init: "(memory.fill (i32.const 32784) (i32.const 97) (i32.const 7900))",
                   event: "(if (i32.ge_u (local.get $kind) (i32.const 6)) (then (global.set $open (i32.sub (global.get $open) (i32.const 1)))))",
                   end: "(loop $more (if (i32.lt_s (global.get $open) (i32.const 16)) (then (global.set $open (i32.add (global.get $open) (i32.const 1))) (global.set $count (i64.add (global.get $count) (i64.const 1))) (call $call (global.get $count) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 32768) (i32.const 7916) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (br $more)))) (call $park (i64.const 100000000))", ..code() }),
        guest("large", "snapshot: larger than the disk limit", Limits { disk_bytes: 1 << 20, ..LIMITS },
            reported("SnapshotTooLarge", "limits.disk is 1048576"),
            Code { pages: 64, reconcile: "(memory.fill (i32.const 65536) (i32.const 7) (i32.const 4194304)) (call $finish (local.get $task))", ..code() }),
        guest("functions", "package: a hundred thousand functions", LIMITS, KeepsRunning,
            Code { fields: functions(100_000), reconcile: FINISH, ..code() }),
    ]
}

/// Requests a list of some megabytes 32 times, and uses up its CPU share before it reads the responses.
pub fn hog(name: &str) -> Result<Package> {
    let code = Code {
        fields: r#"(data (i32.const 2048) "/api/v1/namespaces/hostile/configmaps?labelSelector=large")"#.into(),
        start: "(local $n i64) (loop $more (call $call (local.get $n) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 2048) (i32.const 57) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (br_if $more (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 32)))) (local.set $n (i64.const 1500000000)) (loop $spin (br_if $spin (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))",
        ..Code::default()
    };
    code.package(name, Limits { cpu_share_millis: 10, ..Limits::USUAL })
}

/// Modules that packaging rejects, and the text that the error contains.
pub const REFUSED: [(&str, &str, &str); 9] = [
    (
        "packaging rejects: writes to a table",
        r#"(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"#,
        "table.set",
    ),
    (
        "packaging rejects: growth of a table",
        r#"(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))"#,
        "table.grow",
    ),
    (
        "packaging rejects: copies into a table",
        r#"(table 2 funcref) (func (table.copy (i32.const 0) (i32.const 1) (i32.const 1)))"#,
        "table.copy",
    ),
    ("packaging rejects: a dropped data segment", r#"(data $d "x") (func (data.drop $d))"#, "data.drop"),
    (
        "packaging rejects: tables above the memory limit",
        "(table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref) (table 9000000 funcref)",
        "bytes of memory and tables",
    ),
    ("packaging rejects: a second memory", "(memory 1)", "memor"),
    ("packaging rejects: references in globals", "(global (mut funcref) (ref.null func))", "global"),
    ("packaging rejects: an unknown import", r#"(import "env" "system" (func))"#, "system"),
    ("packaging rejects: data outside of memory", r#"(data (i32.const 65535) "xx")"#, "data"),
];
