//! A directory for each test, packages without a toolchain, and the checks of an error message.

// Each test program uses a part of this module.
#![allow(dead_code)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};

pub const GO_PROJECT: &str = "# A project\n[package]\nname = \"web\"\nversion = \"0.1.0\"\nlanguage = \"go\"\n";

/// The smallest controller, whose step does nothing.
pub fn guest() -> Vec<u8> {
    module("", "")
}

/// A controller that registers `spec` in each step.
pub fn registering(spec: &str) -> Vec<u8> {
    let data = spec.replace('\\', "\\\\").replace('"', "\\\"");
    let length = spec.len();
    module(
        &format!(
            r#"(import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
               (data (i32.const 64) "{data}")"#
        ),
        &format!("(drop (call $register (i32.const 64) (i32.const {length})))"),
    )
}

/// A core module with the exports of a controller. `step` is the body of its `step`.
pub fn module(items: &str, step: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {items} (memory (export "memory") 1) (func (export "wasmop:controller/guest@0.1.0#step") {step}))"#
    );
    wat::parse_str(text).expect("valid text")
}

/// A component of another world.
pub fn component() -> Vec<u8> {
    wat::parse_str(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#).expect("valid text")
}

pub fn package(name: &str) -> Vec<u8> {
    let manifest = Manifest::new(name, "0.1.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"));
    wasmop_package::assemble(&guest(), &manifest).expect("is a controller")
}

/// A port that nothing listens on.
pub fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has one").port()
}

/// A directory that is removed after the test, with an empty home and an empty PATH.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["home", "path"] {
            fs::create_dir(dir.path().join(name)).expect("makes it");
        }
        Sandbox { dir }
    }

    /// Lets other users read the directory.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).expect("is ours");
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("is UTF-8").to_owned()
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: &[u8]) -> String {
        let path = PathBuf::from(self.path(name));
        fs::create_dir_all(path.parent().expect("is below the sandbox")).expect("makes it");
        fs::write(&path, content).expect("writes");
        self.path(name)
    }

    /// A kubeconfig with one context, `test`.
    pub fn kubeconfig(&self, server: &str) -> String {
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {"token": "t"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        self.write("kubeconfig", text.to_string().as_bytes())
    }

    /// A Go project in `p`, and a `go` on the PATH whose `build` returns `module`.
    pub fn project_built_by_fake_go(&self, module: &[u8]) {
        self.write("p/wasmop.toml", GO_PROJECT.as_bytes());
        self.write("p/go.mod", b"module example.com/web\n");
        let module = self.write("module.wasm", module);
        // The output follows `-o`.
        self.fake_go(&format!(r#"while [ "$1" != -o ]; do shift; done; /bin/cp '{module}' "$2""#));
    }

    /// Puts a fake `go` on the PATH that runs `build` as a shell script for `go build`. A file `go.work` in the sandbox
    /// is an enclosing workspace: its content is the output of `go work edit -json`, and `go` finds the SDK only if the
    /// workspace is switched off.
    pub fn fake_go(&self, build: &str) {
        let work = self.path("go.work");
        let script = format!(
            r#"#!/bin/sh
case "$1 $2" in
"env GOVERSION") echo go1.27.0;;
"env GOWORK") if [ -e '{work}' ]; then echo '{work}'; fi;;
"work edit") /bin/cat "$4";;
"list "*) if [ -e '{work}' ] && [ "$GOWORK" != off ]; then echo not in the workspace >&2; exit 1; fi
  echo '{{"Version": "v0.1.0"}}';;
"build "*) {build};;
esac
"#
        );
        let go = self.write("path/go", script.as_bytes());
        fs::set_permissions(go, fs::Permissions::from_mode(0o755)).expect("is ours");
    }

    /// A run of the program in this sandbox, without the surrounding environment.
    pub fn wasmop(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_wasmop")));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", self.path("path"))
            .stdin(Stdio::null());
        Run { command }
    }
}

pub struct Run {
    command: Command,
}

impl Run {
    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Run {
        self.command.env_remove(name);
        self
    }

    /// Runs it as another user, which needs root.
    pub fn with_user(mut self, user: u32, group: u32) -> Run {
        self.command.uid(user).gid(group);
        self
    }

    /// Expects exit code 0. Returns stdout and stderr.
    pub fn succeeds(self) -> (String, String) {
        self.ends_with(0)
    }

    /// Expects exit code `code`. Returns stdout and stderr.
    pub fn ends_with(mut self, code: i32) -> (String, String) {
        let (output, shown) = self.output();
        assert_eq!(output.status.code(), Some(code), "{shown}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Starts it without waiting.
    pub fn spawn(mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
    }

    /// Expects exit code `code`, each of `needles` and a remedy on stderr, and an empty stdout.
    pub fn fails_with(mut self, code: i32, needles: &[&str]) {
        let (output, shown) = self.output();
        // Without the command line, which `shown` includes.
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert_eq!(output.stdout, b"", "stdout is for data\n{shown}");
        for needle in ["error: ", "\nhelp: "].iter().chain(needles) {
            assert!(said.contains(needle), "{needle:?} is missing in\n{shown}");
        }
        for unwanted in ["panicked", "\u{1b}", "Error {"] {
            assert!(!said.contains(unwanted), "{unwanted:?} is in\n{shown}");
        }
    }

    fn output(&mut self) -> (Output, String) {
        let output = self.command.output().expect("the program runs");
        let shown = format!("{:?}\n{}", self.command, String::from_utf8_lossy(&output.stderr));
        (output, shown)
    }
}
