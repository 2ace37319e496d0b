//! The seeds of the corpus. The program `fuzz-seeds` writes them to `fuzz/corpus/`.

use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};
use wasmop_package::{Package, assemble};

use crate::host::snapshot::format::{Extent, FileKind, ImageHeader, PageRun, StateHeader, prefix};

/// A module that uses everything that instrumentation handles.
const FULL_MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasmop_rt" "read" (func (param i32 i32 i32)))
  (memory (export "memory") 1)
  (global $stack (mut i32) (i32.const 1024))
  (global $bits (mut f64) (f64.const 0))
  (table 2 funcref)
  (elem (i32.const 0) func $helper)
  (data (i32.const 16) "hello")
  (func $helper (global.set $stack (i32.const 7)))
  (func (export "_initialize") (call $helper))
  (func (export "wasmop:controller/guest@0.1.0#step") (call_indirect (i32.const 0))))"#;

/// The smallest module that is accepted.
const SMALL_MODULE: &str =
    r#"(module (memory (export "memory") 1) (func (export "wasmop:controller/guest@0.1.0#step")))"#;

/// A component of the soft tier.
const COMPONENT: &str = r#"(component
  (core module $m (memory 1) (func (export "step")))
  (core instance $i (instantiate $m))
  (func $step (canon lift (core func $i "step")))
  (instance $guest (export "step" (func $step)))
  (export "wasmop:controller/guest@0.1.0" (instance $guest)))"#;

const KUBECONFIG: &str = r#"apiVersion: v1
kind: Config
current-context: dev
clusters:
- name: dev
  cluster:
    server: 127.0.0.1:6443
    certificate-authority-data: ""
    proxy-url: http://proxy.example:3128
contexts:
- name: dev
  context: {cluster: dev, user: me, namespace: web}
users:
- name: me
  user: {token: secret, username: "", password: ""}
"#;

const REGISTRATION: &str = r#"{
  "name": "website", "namespaces": ["a", "b"], "maxConcurrentReconciles": 2,
  "primary": {"group": "example.com", "version": "v1", "kind": "Website", "plural": "websites", "relation": "own",
    "generationChanged": true, "predicate": "object.spec != oldObject.spec"},
  "watches": [{"version": "v1", "kind": "ConfigMap", "plural": "configmaps", "relation": "map", "namespace": "",
    "labelSelector": "app=web", "cached": true, "ignoreOwnWrites": true}]}"#;

/// Returns the seeds of a target by name.
pub fn seeds(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    match target {
        "activity_trace" => vec![
            ("seconds", text("time,controller,known\n0.000,web,0\n5.217,web,1\n65,web,0\n65.1,db,0\n")),
            ("dates", text("# recorded\n2026-03-01T12:00:00Z,a\n2026-03-01T13:00:01.5+01:00,a\n")),
            ("columns", text("controller,time\r\n\"a\",1\r\n\"a\",2.5\r\n")),
        ],
        "cel_bounds" => vec![
            ("fields", text("object.spec != oldObject.spec && has(object.metadata.labels)")),
            ("loops", text("object.spec.n.all(a, object.spec.s.exists(b, b == string(a) || a in object.spec.n))")),
            ("matches", text("object.spec.t.matches('^(te|xt)+$') ? size(object.spec.s) == 2 : false")),
            ("object", text("object.a[0] + object.b == 'x' + string(1)\n{\"a\":[\"p\"],\"b\":\"q\"}")),
        ],
        "core_module" => vec![("full", wat(FULL_MODULE)), ("small", wat(SMALL_MODULE)), ("component", wat(COMPONENT))],
        "external_host" => vec![
            ("name", text("https://api.example.com:8443\napi.example.com:8443\nhttps://*.example.com:8443")),
            ("address", text("http://[::ffff:10.0.0.7]:9000\nhttp://10.0.0.7:9000\nhttp://[2001:db8::1]")),
            ("refused", text("https://user@api.example.com/#@evil.example\nhttps://0x7f.1")),
        ],
        "guest_log" => vec![
            ("klog", text("I1129 12:00:00.000001 1 main.go:12] \"Synced\" key=\"a/b\" n=3\n")),
            ("json", text("{\"level\":\"info\",\"logger\":\"setup\",\"msg\":\"starting\",\"a\":{\"b\":1}}\n")),
            ("console", text("2026-11-29T12:00:00Z\tERROR\tsetup\tfailed\t{\"a\":1}\nmain.main\n\t/main.go:7\n")),
            ("logfmt", text("time=\"x\" level=warning msg=\"no \\\"x\\\"\" count=2\n")),
            (
                "text",
                text("\u{1b}[2m2026-11-29T12:00:00Z\u{1b}[0m  INFO app::sync: begins\n2026/11/29 12:00:00 WARN slow\n"),
            ),
        ],
        "guest_watch" => vec![
            (
                "after",
                text(
                    "/api/v1/pods?watch=true&resourceVersion=5&labelSelector=app%3Dx\napplication/json\n{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"6\"}}}\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
                ),
            ),
            (
                "list",
                text(
                    "/apis/a.dev/v1/bs?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeout=5m\napplication/vnd.kubernetes.protobuf, */*\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n{\"type\":\"ERROR\",\"object\":{}}\n",
                ),
            ),
        ],
        "journal" => vec![("empty", Vec::new()), ("prefix", b"WASMOPWA\x01\0\0\0".to_vec())],
        "kubeconfig" => vec![("token", text(KUBECONFIG)), ("no-context", text("apiVersion: v1\nclusters: []\n"))],
        "manifest" => vec![("full", manifest().to_section().expect("a valid manifest"))],
        "memory_image" => {
            let package = Package::parse(package(FULL_MODULE)).expect("an assembled package is valid");
            let component = package.component().len();
            let manifest = section_start(package.bytes(), b"wasmop:manifest");
            let image = &package.bytes()[component..manifest];
            let start = image.windows(4).position(|four| four == b"wmim").expect("the package has an image");
            vec![("package", image[start..].to_vec()), ("base", image_header().encode())]
        }
        "package_parse" => {
            vec![("full", package(FULL_MODULE)), ("small", package(SMALL_MODULE)), ("soft", package(COMPONENT))]
        }
        "request_path" => vec![
            ("get", text("GET /api/v1/namespaces/web/pods/a?resourceVersion=0\naccept: application/json\n\n")),
            ("watch", text("GET /apis/apps/v1/deployments?watch=true&fieldSelector=metadata.name%3Dweb")),
            ("create", text("POST /api/v1/namespaces/web/configmaps\n\n\n{\"metadata\":{\"name\":\"a\"}}")),
            (
                "role",
                text(
                    "PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/b\ncontent-type: application/apply-patch+yaml\n\n{}",
                ),
            ),
            ("exec", text("POST /api/v1/namespaces/web/pods/a/exec?command=sh")),
            ("refused", text("GET /api/v1/../apis//x/%2e%2e/%2F?watch=1&watch=0")),
        ],
        "snapshot_header" => {
            let header = state_header().encode();
            let file = [&prefix(FileKind::State, 3, &header, 0, None)[..], &header].concat();
            vec![("state", file), ("state-header", header), ("image-header", image_header().encode())]
        }
        _ => Vec::new(),
    }
}

fn wat(module: &str) -> Vec<u8> {
    wat::parse_str(module).expect("the seeds are valid")
}

fn package(code: &str) -> Vec<u8> {
    assemble(&wat(code), &manifest()).expect("the seeds are valid controllers")
}

fn manifest() -> Manifest {
    Manifest {
        registrations: vec![serde_json::from_str(REGISTRATION).expect("a valid registration")],
        external_hosts: vec!["https://*.example.org".parse().expect("a valid pattern")],
        env: [("LEVEL".to_owned(), "1".to_owned())].into(),
        args: vec!["--verbose".to_owned()],
        ..Manifest::new("website", "0.1.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
    }
}

/// Returns the start of the custom section with this name.
fn section_start(bytes: &[u8], name: &[u8]) -> usize {
    let at = bytes.windows(name.len()).rposition(|window| window == name).expect("the section exists");
    // The ID, the size and the length of the name precede the name. The size takes one to five bytes.
    (0..at - 2).rev().find(|start| bytes[*start] == 0).expect("the section has an ID")
}

fn image_header() -> ImageHeader {
    ImageHeader {
        digest: [1; 32],
        memory_size: 65_536,
        globals: vec![1, 2],
        monotonic_ns: 3,
        runs: vec![PageRun { page: 0, count: 2 }, PageRun { page: 9, count: 1 }],
        data_sum: 0,
    }
}

fn state_header() -> StateHeader {
    StateHeader {
        digest: [1; 32],
        base_generation: 0,
        base_sum: 5,
        memory_size: 131_072,
        globals: vec![1, 2],
        wall_ns: 7,
        monotonic_ns: 3,
        expected: vec![PageRun { page: 1, count: 2 }],
        touched: vec![PageRun { page: 0, count: 8 }],
        known: vec![(4, 77)],
        extents: vec![Extent { page: 1, count: 2, slot: 6 }, Extent { page: 5, count: 1, slot: 0 }],
        sums: vec![11, 12],
        aead_tags: Vec::new(),
        host_state: b"host".to_vec(),
    }
}
