//! Errors of `wasmop build`, `new` and `policy` for bad input, through the program itself.

use std::fs;
use std::path::Path;

use crate::sandbox::{self, Sandbox, guest, module, package};

// wasmop.toml and the toolchains.

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_known_ones() {
    let sandbox = Sandbox::new();
    sandbox.write("p/wasmop.toml", format!("{}[limits]\nmemmory = \"64MiB\"\n", sandbox::GO_PROJECT).as_bytes());
    sandbox.wasmop(&["build", "p"]).fails_with(
        1,
        &["p/wasmop.toml:7", "unknown key `memmory` in [limits]", "did you mean `memory`?", "cpu-per-step"],
    );
}

#[test]
fn a_directory_without_a_project_is_named() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("p")).expect("makes it");
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["p/wasmop.toml", "wasmop new"]);
    sandbox.wasmop(&["build", "q"]).fails_with(1, &["there is no directory `q`"]);
    // With sources in it, the remedy is another one.
    sandbox.write("p/go.mod", b"module x\n");
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["p/wasmop.toml", "`wasmop init p` writes one"]);
}

#[test]
fn a_crd_pattern_that_matches_nothing_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("p/wasmop.toml", format!("{}[build]\ncrds = [\"crds/*.yaml\"]\n", sandbox::GO_PROJECT).as_bytes());
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["no file matches `crds/*.yaml`", "p/wasmop.toml"]);
}

#[test]
fn a_command_for_crds_that_fails_is_named() {
    let sandbox = Sandbox::new();
    for (command, needles) in [
        ("no-such-generator", ["cannot run `no-such-generator`", "correct `crds-command` in `p/wasmop.toml`"]),
        ("/bin/true", ["printed no CustomResourceDefinition", "correct `crds-command` in `p/wasmop.toml`"]),
        ("/bin/false", ["`/bin/false` failed", "correct `crds-command` in `p/wasmop.toml`"]),
    ] {
        let build = format!("[build]\ncrds-command = [\"{command}\"]\n");
        sandbox.write("p/wasmop.toml", format!("{}{build}", sandbox::GO_PROJECT).as_bytes());
        sandbox.wasmop(&["build", "p"]).fails_with(1, &needles);
    }
}

#[test]
fn an_unknown_toolchain_is_an_error_with_the_known_ones() {
    let sandbox = Sandbox::new();
    sandbox.write("p/wasmop.toml", sandbox::GO_PROJECT.replace("\"go\"", "\"go\"\ntoolchain = \"gccgo\"").as_bytes());
    sandbox
        .wasmop(&["build", "p"])
        .fails_with(1, &["p/wasmop.toml:6", "unknown toolchain `gccgo`", "cargo, go, tinygo"]);
}

#[test]
fn a_missing_toolchain_is_an_error_with_installation_instructions() {
    for (language, toolchain, beside, needle) in [
        ("go", "go", ("go.mod", "module x\n"), "go.dev"),
        ("go", "tinygo", ("go.mod", "module x\n"), "tinygo"),
        ("rust", "cargo", ("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\n"), "rustup"),
    ] {
        let sandbox = Sandbox::new();
        let project = format!(
            "[package]\nname = \"web\"\nversion = \"0.1.0\"\nlanguage = \"{language}\"\ntoolchain = \"{toolchain}\"\n"
        );
        sandbox.write("p/wasmop.toml", project.as_bytes());
        sandbox.write(&format!("p/{}", beside.0), beside.1.as_bytes());
        sandbox.write("p/main.go", b"package main\n\nfunc main() {}\n");
        sandbox.write("p/src/main.rs", b"fn main() {}\n");
        sandbox.wasmop(&["build", "p"]).fails_with(1, &["cannot run", toolchain, needle]);
    }
}

#[test]
fn build_names_a_wasi_import_that_is_not_provided() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&module(
        r#"(import "wasi_snapshot_preview1" "sock_teleport" (func (param i32) (result i32)))"#,
        "",
    ));
    sandbox
        .wasmop(&["build", "p"])
        .fails_with(1, &["`web`", "WASI function `sock_teleport`", "which library calls it"]);
    assert!(!Path::new(&sandbox.path("p/target/wasmop/web.wasm")).exists());
}

#[test]
fn build_refuses_a_program_without_the_sdk() {
    let sandbox = Sandbox::new();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).expect("valid");
    sandbox.project_built_by_fake_go(&module);
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["`web`", "it is not a controller", "SDK"]);
}

#[test]
fn build_refuses_a_controller_that_registers_nothing_or_crashes_at_the_start() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&guest());
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["`web` registered no controller", "in `main`"]);
    sandbox.project_built_by_fake_go(&module("", "unreachable"));
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["`web`: ", "failed when it was started", "trap", "main runs once"]);
    sandbox.project_built_by_fake_go(&sandbox::registering(r#"{"name": "web", "kind": "Website"}"#));
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["`web`: ", "not a controller spec", "unknown field `kind`"]);
    assert!(!Path::new(&sandbox.path("p/target/wasmop/web.wasm")).exists());
}

#[test]
fn a_failed_compiler_run_is_shown_with_its_messages() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&guest());
    sandbox.fake_go("echo 'main.go:3:1: syntax error' >&2; exit 1");
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["main.go:3:1: syntax error", "`go build", "failed", "above"]);
}

#[test]
fn a_missing_copy_of_the_sdk_is_named() {
    let sandbox = Sandbox::new();
    for language in ["go", "rust"] {
        sandbox.wasmop(&["new", language, "--lang", language]).succeeds();
        fs::remove_dir_all(sandbox.path(&format!("{language}/.wasmop"))).expect("is there");
        let missing = format!("{language}/.wasmop/sdk/{language}");
        sandbox.wasmop(&["build", language]).fails_with(1, &[&missing, "git add -f .wasmop/sdk", "wasmop new"]);
    }
}

#[test]
fn an_unwritable_output_is_an_error_before_the_compiler_runs() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&guest());
    sandbox.fake_go(&format!("echo > '{}'", sandbox.path("ran")));
    let below = format!("{}/web.wasm", sandbox.write("a-file", b""));
    let long = format!("{}.wasm", "x".repeat(300));
    for output in [below.as_str(), long.as_str(), "/proc/web.wasm"] {
        sandbox.wasmop(&["build", "p", "-o", output]).fails_with(1, &[output, "cannot write", "--output FILE"]);
    }
    assert!(!Path::new(&sandbox.path("ran")).exists());
}

// Traces and policies.

#[test]
fn an_error_in_a_trace_has_file_and_line() {
    let sandbox = Sandbox::new();
    let simulate = |file: &str| sandbox.wasmop(&["policy", "simulate", file]);
    let file = sandbox.write("trace.csv", b"time,controller\n1.5,web\nsoon,web\n");
    simulate(&file).fails_with(1, &["trace.csv", "line 3", "`soon` is not a time", "RFC 3339"]);
    let file = sandbox.write("trace.csv", b"1.5,web\n2.5\n");
    simulate(&file).fails_with(1, &["trace.csv", "line 2", "no controller"]);
    let file = sandbox.write("trace.csv", b"1.5,web\n2.5,backup\n");
    simulate(&file).fails_with(1, &["trace.csv", "no controller has two events", "record for longer"]);
    let file = sandbox.write("trace.csv", b"1.5,\xff\xfe\n");
    simulate(&file).fails_with(1, &["trace.csv", "cannot read the trace", "CSV"]);
    simulate("gone.csv").fails_with(1, &["gone.csv", "cannot read the trace", "time and controller"]);
    simulate(&sandbox.path("home")).fails_with(1, &["home", "cannot read the trace"]);
}

#[test]
fn a_simulation_without_a_trace_or_with_bad_values_is_a_usage_error() {
    let sandbox = Sandbox::new();
    sandbox.wasmop(&["policy", "simulate"]).fails_with(2, &["there is no trace", "--builtin all"]);
    for (flag, value, needles) in [
        ("--policy", "sometimes", ["`sometimes` is not a policy", "`adaptive`"]),
        ("--policy", "adaptive,after=soon", ["`after=soon` is not a policy", "`after=1s`"]),
        ("--resume-cost", "fast", ["`fast` is not a duration", "`500ms`"]),
        ("--resident-bytes", "0B", ["`0B` is nothing", "`2MiB`"]),
        ("--written-bytes", "much", ["`much` is not a size in bytes", "`64KiB`"]),
        ("--builtin", "weekly", ["weekly", "deploy-storm"]),
    ] {
        let (_, stderr) = sandbox.wasmop(&["policy", "simulate", flag, value]).ends_with(2);
        assert!(needles.iter().all(|needle| stderr.contains(needle)), "{flag} {value}: {stderr}");
    }
}

// `wasmop new` and the command line.

#[test]
fn new_never_changes_a_directory_that_is_not_empty() {
    let sandbox = Sandbox::new();
    let kept = sandbox.write("web/mine.txt", b"mine");
    sandbox.wasmop(&["new", "web", "--lang", "rust"]).fails_with(1, &["`web` is not empty", "--path"]);
    sandbox.wasmop(&["new", "a", "--lang", "go", "--path", &kept]).fails_with(1, &["mine.txt", "a file", "--path"]);
    assert_eq!(fs::read(&kept).expect("is there"), b"mine");
    assert_eq!(fs::read_dir(sandbox.path("web")).expect("is there").count(), 1);
}

#[test]
fn a_name_that_is_not_a_dns_label_is_a_usage_error() {
    let sandbox = Sandbox::new();
    for name in ["Web", "my_site", "web-", "a.b", "../web", &"x".repeat(64)] {
        sandbox.wasmop(&["new", name, "--lang", "go"]).fails_with(2, &[name, "DNS label"]);
    }
    assert!(!Path::new(&sandbox.path("web")).exists());
}

#[test]
fn a_missing_value_without_a_terminal_is_a_usage_error() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", b"");
    let (_, stderr) = sandbox.wasmop(&["run", &file, "--suspend-after", "soon"]).ends_with(2);
    assert!(stderr.contains("`soon` is not a duration; write it like `500ms`"), "{stderr}");
    sandbox.wasmop(&["new"]).fails_with(2, &["name is missing", "wasmop new"]);
    sandbox.wasmop(&["new", "web"]).fails_with(2, &["language is missing", "--lang rust|go"]);
    sandbox
        .wasmop(&["new", "web", "--lang", "rust", "--toolchain", "tinygo"])
        .fails_with(2, &["`--toolchain tinygo`", "\nhelp: for Rust use: cargo\n"]);
    sandbox
        .wasmop(&["new", "web", "--lang", "go", "--toolchain", "cargo"])
        .fails_with(2, &["`--toolchain cargo`", "\nhelp: for Go use: go, tinygo\n"]);
}

#[test]
fn a_bad_address_is_a_usage_error_that_shows_the_format() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    for arguments in [&["run", &file, "--metrics-address", "localhost"][..], &["top", "--address", "80800"]] {
        let (_, stderr) = sandbox.wasmop(arguments).ends_with(2);
        let bad = arguments[arguments.len() - 1];
        assert!(stderr.contains(&format!("`{bad}` is not an address; write HOST:PORT, :PORT or PORT")), "{stderr}");
    }
    let config = sandbox.write("host.toml", b"metrics-address = \"localhost\"");
    sandbox
        .wasmop(&["run", &file, "--config", &config])
        .fails_with(1, &["host.toml:1: `metrics-address`", "`localhost` is not an address", "HOST:PORT"]);
    // A port alone is an address, so the next error is about something else.
    sandbox.wasmop(&["run", &file, "--metrics-address", "0"]).fails_with(1, &["no kubeconfig found"]);
}

#[test]
fn a_flag_for_another_toolchain_is_a_usage_error() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&guest());
    for (flag, value) in [("--features", "a"), ("--profile", "dist")] {
        sandbox.wasmop(&["build", "p", flag, value]).fails_with(2, &[flag, "`go`", "use --tags and --ldflags"]);
    }
    sandbox.wasmop(&["build", "p", "--no-default-features"]).fails_with(2, &["--no-default-features"]);
    let rust = sandbox::GO_PROJECT.replace("\"go\"", "\"rust\"");
    sandbox.write("r/wasmop.toml", rust.as_bytes());
    sandbox.wasmop(&["build", "r", "--ldflags", "-X a.b=c"]).fails_with(2, &["--ldflags", "`cargo`", "--features"]);
    sandbox.write("r/wasmop.toml", format!("{rust}[build]\ntags = [\"a\"]\n").as_bytes());
    sandbox.wasmop(&["build", "r"]).fails_with(1, &["r/wasmop.toml:7", "unknown key `tags` in [build]", "features"]);
    sandbox.write("r/wasmop.toml", format!("{rust}[build]\nprofile = \"a b\"\n").as_bytes());
    sandbox
        .wasmop(&["build", "r"])
        .fails_with(1, &["r/wasmop.toml:7", "`a b` is not the name of a profile", "[profile]"]);
}
