//! Tests of the bundled adapters with controllers in WAT.

use crate::harness::{Guest, Level, Line, World, controller, instantiate, package};

const FD_WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (global $errno (mut i32) (i32.const -1)) (global $written (mut i32) (i32.const 0))
    (global $iovec (mut i64) (i64.const 0))"#;

/// Returns code for a step that stores `bytes` at `at`. The test cannot access the memory of a component.
fn store(at: usize, bytes: &[u8]) -> String {
    bytes
        .iter()
        .enumerate()
        .map(|(index, byte)| format!("(i32.store8 (i32.const {}) (i32.const {byte}))", at + index))
        .collect()
}

/// Writes `pieces` as iovecs at 0 to `fd`. Returns errno, the bytes written, the first iovec afterward, and the log.
fn write(fd: i32, pieces: &[&[u8]]) -> (Vec<u64>, Vec<Line>) {
    let mut body = String::new();
    let mut at = 1024;
    for (index, piece) in pieces.iter().enumerate() {
        body.push_str(&store(at, piece));
        body.push_str(&store(index * 8, &(at as u32).to_le_bytes()));
        body.push_str(&store(index * 8 + 4, &(piece.len() as u32).to_le_bytes()));
        at += piece.len();
    }
    body.push_str(&format!(
        "(global.set $errno (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const {}) (i32.const 512)))
         (global.set $written (i32.load (i32.const 512)))
         (global.set $iovec (i64.load (i32.const 0)))",
        pieces.len()
    ));
    let mut guest = Guest::started(&controller(FD_WRITE, &body));
    guest.step().unwrap();
    (guest.globals(), std::mem::take(&mut guest.store.data_mut().logs))
}

fn text(logs: &[Line]) -> String {
    logs.iter().map(|(_, _, message, _)| message.as_str()).collect()
}

#[test]
fn stdout_and_stderr_are_logged_piece_by_piece() {
    let (globals, logs) = write(1, &[b"hello ", b"", b"world\n"]);
    assert_eq!(globals, [0, 12, 1024 | 6 << 32], "errno, bytes, the iovec as it was");
    let line = |message: &str| (Level::Info, "stdout".to_string(), message.to_string(), String::new());
    assert_eq!(logs, [line("hello "), line("world\n")]);
    let (_, logs) = write(2, &[b"oops\n"]);
    assert_eq!(logs, [(Level::Info, "stderr".to_string(), "oops\n".to_string(), String::new())]);
}

#[test]
fn other_descriptors_return_ebadf() {
    for fd in [0, 3, -1] {
        let (globals, logs) = write(fd, &[b"x"]);
        assert_eq!((globals[0], logs.len()), (8, 0), "{fd}");
    }
}

#[test]
fn invalid_utf_8_is_replaced_and_does_not_trap() {
    let long = "ü€🦀 plain ascii text, long enough for eight bytes at once · ".repeat(20);
    let cases: &[(&[u8], &str)] = &[
        (long.as_bytes(), &long),
        (b"\xff", "?"),
        (b"a\xffb", "a?b"),
        (b"cut \xe2\x82", "cut ??"),
        (b"cut \xf0\x9f\xa6", "cut ???"),
        (b"overlong \xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "overlong ?? ??? ????"),
        (b"surrogate \xed\xa0\x80", "surrogate ???"),
        (b"too high \xf4\x90\x80\x80 \xf5", "too high ???? ?"),
        (
            "edge \u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
            "edge \u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}",
        ),
    ];
    for (bytes, expected) in cases {
        let (globals, logs) = write(1, &[bytes]);
        assert_eq!((globals[0], globals[1] as usize), (0, bytes.len()));
        assert_eq!(text(&logs), *expected);
    }
}

const POLL: &str = r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (global $errno (mut i32) (i32.const -1)) (global $ready (mut i32) (i32.const 0))
    (global $userdata (mut i64) (i64.const 0)) (global $kind (mut i64) (i64.const 0))"#;

/// Tag, clock ID, timeout and flags.
type Subscription = (u8, u32, u64, u16);

fn poll(subscriptions: &[Subscription]) -> (Vec<u64>, Vec<u64>) {
    let mut body = String::new();
    for (index, (tag, clock, timeout, flags)) in subscriptions.iter().enumerate() {
        let at = 4096 + index * 48;
        body.push_str(&store(at, &(index as u64 + 100).to_le_bytes()));
        body.push_str(&store(at + 8, &[*tag]));
        body.push_str(&store(at + 16, &clock.to_le_bytes()));
        body.push_str(&store(at + 24, &timeout.to_le_bytes()));
        body.push_str(&store(at + 40, &flags.to_le_bytes()));
    }
    let count = subscriptions.len();
    let last = 8192 + count.saturating_sub(1) * 32;
    body.push_str(&format!(
        "(global.set $errno (call $poll (i32.const 4096) (i32.const 8192) (i32.const {count}) (i32.const 0)))
         (global.set $ready (i32.load (i32.const 0)))
         (global.set $userdata (i64.load (i32.const {last})))
         (global.set $kind (i64.load offset=8 (i32.const {last})))"
    ));
    let world = World { now: 1_000_000, monotonic: 500, ..World::default() };
    let mut guest = instantiate(&package(&controller(POLL, &body)), world);
    guest.step().unwrap();
    (guest.globals(), guest.store.data().parks.clone())
}

#[test]
fn poll_parks_until_the_earliest_clock_and_reports_all_subscriptions_as_ready() {
    let cases: &[(&[Subscription], &[u64])] = &[
        (&[(0, 1, 70, 0)], &[70]),
        (&[(0, 1, 70, 0), (0, 1, 30, 0), (0, 1, 50, 0)], &[30]),
        (&[(1, 0, 5, 0), (0, 1, 40, 0)], &[40]),
        (&[(0, 1, 620, 1)], &[120]),     // absolute, monotonic clock
        (&[(0, 0, 1_000_007, 1)], &[7]), // absolute, wall clock
        (&[(0, 1, 400, 1)], &[0]),       // absolute, in the past
        (&[(0, 1, 620, 1), (0, 1, 90, 0)], &[90]),
        (&[(0, 1, u64::MAX, 0)], &[u64::MAX]),
        (&[(1, 0, 5, 0), (2, 0, 5, 0)], &[]), // descriptors only: no deadline
    ];
    for (subscriptions, expected) in cases {
        let (globals, parks) = poll(subscriptions);
        let count = subscriptions.len() as u64;
        let last_tag = u64::from(subscriptions[subscriptions.len() - 1].0);
        assert_eq!(parks, *expected, "{subscriptions:?}");
        assert_eq!(globals, [0, count, 100 + count - 1, last_tag << 16], "{subscriptions:?}");
    }
}

#[test]
fn poll_without_subscriptions_returns_einval() {
    let (globals, parks) = poll(&[]);
    assert_eq!((globals[0], parks.len()), (28, 0));
}

#[test]
fn clocks_random_numbers_and_arguments_come_from_the_world() {
    let fields = r#"
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (global $wall (mut i64) (i64.const 0)) (global $mono (mut i64) (i64.const 0))
        (global $random9 (mut i64) (i64.const 0)) (global $random1 (mut i32) (i32.const 0))
        (global $argv (mut i64) (i64.const 0)) (global $argc (mut i32) (i32.const 0))
        (global $env (mut i32) (i32.const 9)) (global $preopen (mut i32) (i32.const 0)) (global $errno (mut i32) (i32.const 0))"#;
    let body = r#"
        (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 0))) (global.set $wall (i64.load (i32.const 0)))
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0))) (global.set $mono (i64.load (i32.const 0)))
        (global.set $errno (call $clock (i32.const 4) (i64.const 0) (i32.const 0)))
        (drop (call $random (i32.const 0) (i32.const 9)))
        (global.set $random9 (i64.load (i32.const 0))) (global.set $random1 (i32.load offset=8 (i32.const 0)))
        (drop (call $args_sizes (i32.const 64) (i32.const 68))) (global.set $argc (i32.load (i32.const 64)))
        (drop (call $args (i32.const 64) (i32.const 72))) (global.set $argv (i64.load (i32.load (i32.const 64))))
        (drop (call $environ (i32.const 64) (i32.const 68))) (global.set $env (i32.load (i32.const 64)))
        (global.set $preopen (call $prestat (i32.const 3) (i32.const 0)))"#;
    let world = World { now: 11, monotonic: 22, ..World::default() };
    let mut guest = instantiate(&package(&controller(fields, body)), world);
    guest.step().unwrap();
    let argv = u64::from_le_bytes(*b"wasmop\0\0");
    assert_eq!(guest.globals(), [11, 22, 1, 2, argv, 1, 0, 8, 28]);
}

/// Returns the results of `sizes` and `get`: the count, the bytes, the strings, and the byte after the last string.
fn startup(which: &str, world: World) -> (u64, u64, Vec<String>, u64) {
    let fields = format!(
        r#"(import "wasi_snapshot_preview1" "{which}_sizes_get" (func $sizes (param i32 i32) (result i32)))
           (import "wasi_snapshot_preview1" "{which}_get" (func $get (param i32 i32) (result i32)))
           (global $count (mut i32) (i32.const -1)) (global $size (mut i32) (i32.const -1)) (global $behind (mut i32) (i32.const 0))
           (global $errno (mut i32) (i32.const -1))
           {}"#,
        (0..64).map(|i| format!("(global $w{i} (mut i64) (i64.const 0))")).collect::<String>()
    );
    let words: String =
        (0..64).map(|i| format!("(global.set $w{i} (i64.load (i32.const {})))", 1000 + 8 * i)).collect();
    let body = format!(
        "(drop (call $sizes (i32.const 0) (i32.const 4)))
         (global.set $count (i32.load (i32.const 0))) (global.set $size (i32.load (i32.const 4)))
         (memory.fill (i32.const 1000) (i32.const 0x2a) (i32.const 512))
         (global.set $errno (call $get (i32.const 1000) (i32.const 1064)))
         (global.set $behind (i32.load8_u (i32.add (i32.const 1064) (global.get $size)))) {words}"
    );
    let mut guest = instantiate(&package(&controller(&fields, &body)), world);
    guest.step().unwrap();
    let globals = guest.globals();
    assert_eq!(globals[3], 0, "errno");
    let memory: Vec<u8> = globals[4..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let string = |index: usize| {
        let at = u32::from_le_bytes(memory[4 * index..][..4].try_into().unwrap()) as usize - 1000;
        let bytes = memory[at..].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    (globals[0], globals[1], (0..globals[0] as usize).map(string).collect(), globals[2])
}

#[test]
fn arguments_follow_the_program_name() {
    for (arguments, expected) in [
        (vec![], vec!["wasmop"]),
        (vec!["-v\0"], vec!["wasmop", "-v"]),
        (
            vec!["--image=registry/x:1\0", "\0", "ü\0", "1234567\0"],
            vec!["wasmop", "--image=registry/x:1", "", "ü", "1234567"],
        ),
    ] {
        let world = World { arguments, ..World::default() };
        let (count, size, strings, behind) = startup("args", world);
        assert_eq!(strings, expected);
        let bytes: usize = expected.iter().map(|text| text.len() + 1).sum();
        assert_eq!(
            (count, size, behind),
            (expected.len() as u64, bytes as u64, 0x2a),
            "nothing is written behind them"
        );
    }
}

#[test]
fn the_environment_comes_from_the_world() {
    let world = World { environment: vec!["A=1\0", "LONG_NAME=a value of some length\0"], ..World::default() };
    let (count, size, strings, behind) = startup("environ", world);
    assert_eq!(strings, ["A=1", "LONG_NAME=a value of some length"]);
    assert_eq!((count, size, behind), (2, 37, 0x2a));
    assert_eq!(startup("environ", World::default()).0, 0);
}

#[test]
fn exiting_traps() {
    let fields = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
    assert!(Guest::started(&controller(fields, "(call $exit (i32.const 0))")).step().is_err());
}

fn reading(len: u32, payload: &[u8]) -> wasmtime::Result<u64> {
    let fields =
        r#"(import "wasmop_rt" "read" (func $read (param i32 i32 i32))) (global $bytes (mut i64) (i64.const 0))"#;
    let body = format!(
        "(call $read (i32.const 1000) (i32.const {len}) (i32.const 16)) (global.set $bytes (i64.load (i32.const 1000)))"
    );
    let world = World { payload: payload.to_vec(), ..World::default() };
    let mut guest = instantiate(&package(&controller(fields, &body)), world);
    guest.step()?;
    guest.global(0)
}

#[test]
fn a_payload_is_read_into_the_buffer_of_the_guest() {
    assert_eq!(reading(6, b"abcdef").unwrap(), u64::from_le_bytes(*b"abcdef\0\0"));
}

#[test]
fn a_payload_of_another_length_traps_and_is_not_written() {
    assert!(reading(5, b"abcdef").is_err());
    assert!(reading(7, b"abcdef").is_err());
}
