//! Small guests in WebAssembly text: code for each event, in a frame that all guests share.

use anyhow::Result;
use wasmop_package::Package;
use wasmop_package::manifest::{Language, Limits, Manifest, PolicyRule, Sdk, Toolchain};

/// The namespace of their objects.
pub const NAMESPACE: &str = "hostile";

/// Code for each event; empty code does nothing. It may call the functions of the frame.
#[derive(Default)]
pub struct Code {
    /// Initial memory in pages of 64 KiB, in addition to the two of the frame.
    pub pages: u32,
    /// More fields of the module.
    pub fields: String,
    pub init: &'static str,
    /// Runs after the registration.
    pub start: &'static str,
    /// Runs for a reconcile; `$task` is its number.
    pub reconcile: &'static str,
    /// Runs for any other event; `$kind` and `$id` describe it.
    pub event: &'static str,
    /// Runs at the end of each step.
    pub end: &'static str,
    /// Replaces the default registration.
    pub spec: Option<String>,
}

/// Finishes the current reconcile on any response to its call.
pub const FINISH_WHEN_ANSWERED: &str =
    "(if (i32.ge_u (local.get $kind) (i32.const 6)) (then (call $finish (global.get $task))))";

/// `$get ID TASK` reads the own object, `$finish TASK` ends a reconcile successfully. `{…}` are placeholders.
const FRAME: &str = r#"(module
  (import "wasmop:controller/runtime@0.1.0" "next" (func $next (param i32)))
  (import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
  (import "wasmop:controller/runtime@0.1.0" "call"
    (func $call (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmop:controller/runtime@0.1.0" "drop-call" (func $drop-call (param i64)))
  (import "wasmop:controller/runtime@0.1.0" "done" (func $done (param i64 i32 i64 i32 i32 i32)))
  (import "wasmop:controller/sys@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmop:controller/sys@0.1.0" "park" (func $park (param i64)))
  (import "wasmop:controller/sys@0.1.0" "random" (func $random (result i64)))
  (import "wasmop_rt" "read" (func $read (param i32 i32 i32)))
  (memory (export "memory") {pages})
  (global $task (mut i64) (i64.const 0))
  (global $count (mut i64) (i64.const 0))
  (data (i32.const 512) "GET")
  (data (i32.const 520) "PATCH")
  (data (i32.const 1024) "/api/v1/namespaces/hostile/configmaps/{name}{watch}")
  (data (i32.const 16384) "{spec}")
  {fields}
  (func $get (param $id i64) (param $task i64)
    (call $call (local.get $id) (local.get $task) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 3)
      (i32.const 1024) (i32.const {path-len}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func $finish (param $task i64)
    (call $done (local.get $task) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "_initialize") {init})
  (func $start {start})
  (func $reconcile (param $task i64) (global.set $task (local.get $task)) {reconcile})
  (func $event (param $kind i32) (param $id i64) {event})
  (func $end {end})
  (func (export "wasmop:controller/guest@0.1.0#step") (local $kind i32)
    (loop $again
      (call $next (i32.const 8))
      (local.set $kind (i32.load8_u (i32.const 8)))
      (if (i32.eq (local.get $kind) (i32.const 1))
        (then (drop (call $register (i32.const 16384) (i32.const {spec-len}))) (call $start)))
      (if (i32.eq (local.get $kind) (i32.const 2)) (then (call $reconcile (i64.load (i32.const 16)))))
      (if (i32.gt_u (local.get $kind) (i32.const 2)) (then (call $event (local.get $kind) (i64.load (i32.const 16)))))
      (br_if $again (local.get $kind)))
    (call $end)))"#;

/// A registration for the ConfigMaps with the label `guest={name}`.
pub fn spec(name: &str, watches: &str) -> String {
    format!(
        r#"{{"name":"{name}","namespace":"{NAMESPACE}","primary":{{"version":"v1","kind":"ConfigMap","plural":"configmaps","labelSelector":"guest={name}"}},"watches":[{watches}]}}"#
    )
}

impl Code {
    /// The module as text.
    fn text(&self, name: &str) -> String {
        let spec = self.spec.clone().unwrap_or_else(|| spec(name, ""));
        let watch = "?watch=true";
        let path_len = format!("/api/v1/namespaces/hostile/configmaps/{name}").len();
        FRAME
            .replace("{init}", self.init)
            .replace("{start}", self.start)
            .replace("{reconcile}", self.reconcile)
            .replace("{event}", self.event)
            .replace("{end}", self.end)
            .replace("{fields}", &self.fields)
            .replace("{pages}", &(2 + self.pages).to_string())
            .replace("{name}", name)
            .replace("{watch}", watch)
            .replace("{path-len}", &path_len.to_string())
            .replace("{watch-path-len}", &(path_len + watch.len()).to_string())
            .replace("{spec-len}", &spec.len().to_string())
            .replace("{spec}", &spec.replace('"', "\\\""))
    }

    /// The package of the guest.
    pub fn package(&self, name: &str, limits: Limits) -> Result<Package> {
        package(name, &self.text(name), limits)
    }
}

/// Packages a module in text form, with permissions to read, watch and patch ConfigMaps and Probes.
pub fn package(name: &str, text: &str, limits: Limits) -> Result<Package> {
    let rule = PolicyRule {
        api_groups: vec!["".into(), "e2e.wasmop.dev".into()],
        resources: vec!["configmaps".into(), "probes".into()],
        verbs: ["get", "list", "watch", "patch"].map(String::from).into(),
        ..PolicyRule::default()
    };
    let manifest = Manifest {
        permissions: vec![rule],
        limits,
        ..Manifest::new(name, "0.0.0", Language::Other, Toolchain::Component, Sdk::new("none", "0.0.0"))
    };
    Ok(Package::parse(wasmop_package::assemble(&wat::parse_str(text)?, &manifest)?)?)
}
