//! A place of its own for each test, packages made without a toolchain, and how a refusal looks.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};

pub const GO_PROJECT: &str = "# A project\n[package]\nname = \"web\"\nversion = \"0.1.0\"\nlanguage = \"go\"\n";

/// The smallest controller: it does nothing when it is stepped.
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

/// A core module with what a controller must have; `step` is the body of its `step`.
pub fn module(items: &str, step: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {items} (memory (export "memory") 1) (func (export "wasmop:controller/guest@0.1.0#step") {step}))"#
    );
    wat::parse_str(text).expect("valid text")
}

/// A component that has nothing to do with wasmop.
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
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["home", "path"] {
            fs::create_dir(dir.path().join(name)).expect("makes it");
        }
        Place { dir }
    }

    /// Lets other users in.
    pub fn is_open_to_all(&self) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).expect("is ours");
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("is UTF-8").to_owned()
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: &[u8]) -> String {
        let path = PathBuf::from(self.path(name));
        fs::create_dir_all(path.parent().expect("is below the place")).expect("makes it");
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

    /// A Go project in `p`, and on the PATH a `go` whose `build` gives `module`.
    pub fn project_built_by_fake_go(&self, module: &[u8]) {
        self.write("p/wasmop.toml", GO_PROJECT.as_bytes());
        self.write("p/go.mod", b"module example.com/web\n");
        let module = self.write("module.wasm", module);
        // What follows `-o` is the output.
        self.fake_go(&format!(r#"while [ "$1" != -o ]; do shift; done; /bin/cp '{module}' "$2""#));
    }

    /// Puts a `go` on the PATH that answers questions, and runs `build` as a shell script for `go build`. If there is
    /// a file `go.work` in this place, it is a workspace around the project: its content is what `go work edit -json`
    /// says, and the SDK is not found unless the workspace is switched off.
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

    /// A run of the program in this place, with nothing of the surrounding environment.
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

    /// Runs it as another user. Only root can.
    pub fn with_user(mut self, user: u32, group: u32) -> Run {
        self.command.uid(user).gid(group);
        self
    }

    /// It ends with 0; returns its stdout and stderr.
    pub fn succeeds(self) -> (String, String) {
        self.ends_with(0)
    }

    /// It ends with `code`; returns its stdout and stderr.
    pub fn ends_with(mut self, code: i32) -> (String, String) {
        let (output, shown) = self.output();
        assert_eq!(output.status.code(), Some(code), "{shown}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Starts it and does not wait.
    pub fn spawn(mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
    }

    /// It ends with `code`, says each of `needles`, and offers a remedy; stdout stays empty.
    pub fn fails_with(mut self, code: i32, needles: &[&str]) {
        let (output, shown) = self.output();
        // Not in what is shown, which has the command line as well.
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
