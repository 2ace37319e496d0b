//! A guest that makes a list of requests, byte for byte, when it starts, and logs the responses.
//!
//! A line of its log is `NNN head SSS`, `NNN body TEXT`, `NNN fail TEXT` or `NNN end`. NNN is the number of the
//! request, SSS the status.

use std::fmt::Write;

use anyhow::Result;
use wasmop_package::manifest::{Language, Manifest, PolicyRule, Sdk, Toolchain};

/// A request as the guest passes it to the host.
pub struct Request<'a> {
    pub target: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a str,
    pub body: &'a str,
}

/// The address of the strings, above the memory that the code writes.
const STRINGS: usize = 0x40000;
/// Bytes of a response that are logged.
const MAX_SHOWN: u32 = 600;

const CODE: &str = r#"
  (import "wasmop:controller/runtime@0.1.0" "next" (func $next (param i32)))
  (import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
  (import "wasmop:controller/runtime@0.1.0" "done" (func $done (param i64 i32 i64 i32 i32 i32)))
  (import "wasmop:controller/runtime@0.1.0" "call"
    (func $call (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmop:controller/sys@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmop_rt" "read" (func $read (param i32 i32 i32)))
  (memory (export "memory") 32)
  (data (i32.const 0x80) "answer")
  (data (i32.const 0x100) "000 head 000")
  (data (i32.const 0x200) "000 end")
  (data (i32.const 0x10000) "000 body ")
  (data (i32.const 0x28000) "000 fail ")
  (func (export "_initialize"))
  (func $digits (param $at i32) (param $n i32)
    (i32.store8 (local.get $at)
      (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 100)) (i32.const 10))))
    (i32.store8 offset=1 (local.get $at)
      (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
    (i32.store8 offset=2 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10)))))
  ;; Info, from the target `answer`, without fields.
  (func $say (param $at i32) (param $len i32)
    (call $log (i32.const 2) (i32.const 0x80) (i32.const 6) (local.get $at) (local.get $len) (i32.const 0) (i32.const 0)))
  ;; The payload after the nine bytes at `at`.
  (func $text (param $at i32) (param $id i32) (param $len i32)
    (call $digits (local.get $at) (local.get $id))
    (call $read (i32.add (local.get $at) (i32.const 9)) (local.get $len) (i32.const 0x40))
    (if (i32.gt_u (local.get $len) (i32.const MAX_SHOWN)) (then (local.set $len (i32.const MAX_SHOWN))))
    (call $say (local.get $at) (i32.add (local.get $len) (i32.const 9))))
  (func (export "wasmop:controller/guest@0.1.0#step") (local $kind i32) (local $id i32) (local $len i32)
    (loop $again
      (call $next (i32.const 8))
      (local.set $kind (i32.load8_u (i32.const 8)))
      (local.set $id (i32.load (i32.const 16)))
      (local.set $len (i32.load (i32.const 28)))
      (if (i32.eq (local.get $kind) (i32.const 1)) (then (call $start)))
      (if (i32.eq (local.get $kind) (i32.const 2))
        (then (call $done (i64.load (i32.const 16)) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
      (if (i32.eq (local.get $kind) (i32.const 4))
        (then
          (call $digits (i32.const 0x100) (local.get $id))
          (call $digits (i32.const 0x109) (i32.load (i32.const 24)))
          (call $say (i32.const 0x100) (i32.const 12))))
      (if (i32.eq (local.get $kind) (i32.const 5)) (then (call $text (i32.const 0x10000) (local.get $id) (local.get $len))))
      (if (i32.eq (local.get $kind) (i32.const 6))
        (then
          (call $digits (i32.const 0x200) (local.get $id))
          (call $say (i32.const 0x200) (i32.const 7))))
      (if (i32.eq (local.get $kind) (i32.const 7)) (then (call $text (i32.const 0x28000) (local.get $id) (local.get $len))))
      (br_if $again (local.get $kind))))
"#;

/// Consecutive strings in the data segment.
#[derive(Default)]
struct Strings {
    escaped: String,
    len: usize,
}

impl Strings {
    /// Adds a string; returns pointer and length as constants.
    fn add(&mut self, text: &str) -> String {
        let at = STRINGS + self.len;
        for byte in text.bytes() {
            let _ = write!(self.escaped, "\\{byte:02x}");
        }
        self.len += text.len();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }
}

/// Builds a package of this name. `spec`: its registration, if it has one.
pub fn package(
    name: &str,
    requested: Vec<PolicyRule>,
    spec: Option<&str>,
    requests: &[Request<'_>],
) -> Result<Vec<u8>> {
    let mut strings = Strings::default();
    let mut start = String::new();
    if let Some(spec) = spec {
        let _ = writeln!(start, "(drop (call $register {}))", strings.add(spec));
    }
    for (index, Request { target, method, path, headers, body }) in requests.iter().enumerate() {
        let parts = [target, method, path, headers, body].map(|part| strings.add(part)).join(" ");
        let _ = writeln!(start, "(call $call (i64.const {}) (i64.const 0) {parts})", index + 1);
    }
    let code = CODE.replace("MAX_SHOWN", &MAX_SHOWN.to_string());
    let text = format!("(module {code} (func $start {start}) (data (i32.const {STRINGS}) \"{}\"))", strings.escaped);
    let manifest = Manifest {
        permissions: requested,
        ..Manifest::new(name, "1.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
    };
    Ok(wasmop_package::assemble(&wat::parse_str(text)?, &manifest)?)
}
