//! Each verb with good input, through the program itself. `build` uses a fake `go` that returns a handwritten module;
//! everything after the compiler is real.

mod sandbox;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox::{Sandbox, package, registering};
use serde_json::Value;
use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};

/// A controller that reconciles Websites and watches the ConfigMaps they own.
const SPEC: &str = r#"{"name":"web","primary":{"group":"web.wasmop.dev","version":"v1","kind":"Website","plural":"websites"},"watches":[{"version":"v1","kind":"ConfigMap","relation":"controller"}]}"#;

#[test]
fn build_writes_a_package_with_its_registrations() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    let (stdout, stderr) = sandbox.wasmop(&["build", "p", "--json"]).succeeds();
    let made: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(made["package"], "p/target/wasmop/web.wasm");
    assert_eq!(made["registrations"][0]["primary"]["kind"], "Website");
    let file = fs::read(sandbox.path("p/target/wasmop/web.wasm")).expect("is there");
    assert_eq!(made["bytes"], file.len());
    for needle in ["reconciles Website (web.wasmop.dev/v1)", "memory image", "wasmop run p/target/wasmop/web.wasm"] {
        assert!(stderr.contains(needle), "{needle:?} is missing in\n{stderr}");
    }

    let (text, _) = sandbox.wasmop(&["inspect", "p/target/wasmop/web.wasm"]).succeeds();
    for needle in ["web", "Website", "ConfigMap", "wasmop:controller/runtime@0.1.0"] {
        assert!(text.contains(needle), "{needle:?} is missing in\n{text}");
    }
    let (json, _) = sandbox.wasmop(&["inspect", "p/target/wasmop/web.wasm", "--json"]).succeeds();
    let inspection: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(inspection["registrations"], made["registrations"]);
    assert_eq!(inspection["sizes"], made["sizes"]);
}

#[test]
fn without_a_terminal_build_prints_each_step_when_it_begins() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    let (_, stderr) = sandbox.wasmop(&["build", "p"]).succeeds();
    let steps = ["Compiling web with go …", "✓ Compiled", "Packaging …", "✓ Packaged", "Starting once", "✓ Started"];
    let places: Vec<_> = steps.map(|step| stderr.find(step).unwrap_or_else(|| panic!("no {step}: {stderr}"))).into();
    assert!(places.is_sorted(), "{stderr}");
}

#[test]
fn build_passes_tags_and_linker_flags_to_go() {
    let sandbox = Sandbox::new();
    let arguments = sandbox.path("arguments");
    let go = |build: &[&str]| {
        sandbox.project_built_by_fake_go(&registering(SPEC));
        let module = sandbox.path("module.wasm");
        sandbox.fake_go(&format!(
            r#"echo "$@" > '{arguments}'; while [ "$1" != -o ]; do shift; done; /bin/cp '{module}' "$2""#
        ));
        let toml = format!("{}[build]\ntags = [\"a\", \"b\"]\nldflags = \"-X main.v=1\"\n", sandbox::GO_PROJECT);
        sandbox.write("p/wasmop.toml", toml.as_bytes());
        sandbox.wasmop(&[&["build", "p"], build].concat()).succeeds();
        fs::read_to_string(&arguments).expect("it ran")
    };
    let given = go(&[]);
    assert!(given.contains(" -tags=a,b -ldflags=-X main.v=1 -s -w -checklinkname=0 "), "{given}");
    let given = go(&["--tags", "c,d", "--tags", "e", "--ldflags", "-X main.v=2", "--debug"]);
    assert!(given.contains(" -tags=c,d,e -ldflags=-X main.v=2 -checklinkname=0 "), "{given}");
}

#[test]
fn a_go_workspace_that_does_not_use_the_project_is_switched_off() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    sandbox.write("go.work", br#"{"Use": [{"DiskPath": "./other"}]}"#);
    let (_, stderr) = sandbox.wasmop(&["build", "p"]).succeeds();
    for needle in [&*sandbox.path("go.work"), "does not use this project's module", "GOWORK=off", "go work use"] {
        assert!(stderr.contains(needle), "{needle:?} is missing in\n{stderr}");
    }
    // A workspace that uses it stays on. Then the fake `go` does not find the SDK.
    sandbox.write("go.work", br#"{"Use": [{"DiskPath": "./p"}]}"#);
    sandbox.wasmop(&["build", "p"]).fails_with(1, &["modules of the project cannot be loaded", "not in the workspace"]);
}

#[test]
fn build_warns_of_a_watch_that_the_permissions_deny() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    let rule = "[[permissions]]\napi-groups = [\"web.wasmop.dev\"]\nresources = [\"websites\"]\nverbs = [\"*\"]\n";
    sandbox.write("p/wasmop.toml", format!("{}{rule}", sandbox::GO_PROJECT).as_bytes());
    let (_, stderr) = sandbox.wasmop(&["build", "p"]).succeeds();
    assert!(stderr.contains("warning: it watches ConfigMap, which its permissions do not allow"), "{stderr}");
    assert!(stderr.contains("resources = [\"configmaps\"]"), "{stderr}");
    assert!(!stderr.contains("watches Website"), "{stderr}");
}

#[test]
fn build_replaces_any_output_file_atomically() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    let old = sandbox.write("out/web.wasm", b"old");
    sandbox.wasmop(&["build", "p", "-o", "out/web.wasm"]).succeeds();
    assert_ne!(fs::read(&old).expect("is there"), b"old");
    assert_eq!(fs::read_dir(sandbox.path("out")).expect("is there").count(), 1);
}

#[test]
fn an_interrupted_build_kills_the_compiler_and_leaves_no_package() {
    let sandbox = Sandbox::new();
    sandbox.project_built_by_fake_go(&registering(SPEC));
    let begun = sandbox.path("begun");
    // Without the kill, it would end long after the test has failed.
    sandbox.fake_go(&format!("echo $$ > '{begun}.tmp'; /bin/mv '{begun}.tmp' '{begun}'; exec /bin/sleep 100"));
    let mut child = sandbox.wasmop(&["build", "p"]).spawn();
    let compiler = wait_for(|| fs::read_to_string(&begun).ok());

    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let stat = format!("/proc/{}", compiler.trim());
    wait_for(|| (!Path::new(&stat).exists()).then_some(()));
    assert_eq!(fs::read_dir(sandbox.path("p/target/wasmop")).map_or(0, Iterator::count), 0);
}

#[test]
fn new_makes_a_project_for_each_toolchain() {
    for (arguments, language, toolchain) in [
        (&["--lang", "rust"][..], "rust", "cargo"),
        (&["--lang", "go"], "go", "go"),
        (&["--toolchain", "tinygo"], "go", "tinygo"),
    ] {
        let sandbox = Sandbox::new();
        let (stdout, stderr) = sandbox.wasmop(&[&["new", "my-site"], arguments].concat()).succeeds();
        assert_eq!(stdout, "");
        assert!(stderr.contains("cd my-site"), "{stderr}");
        let toml = fs::read_to_string(sandbox.path("my-site/wasmop.toml")).expect("is there");
        assert!(toml.contains("name = \"my-site\"") && toml.contains(&format!("language = \"{language}\"")), "{toml}");
        assert!(toolchain == "cargo" || toml.contains(&format!("toolchain = \"{toolchain}\"")), "{toml}");
        assert!(Path::new(&sandbox.path("my-site/.wasmop/sdk")).join(language).is_dir());
        // Other projects have the same kind.
        let readme = fs::read_to_string(sandbox.path("my-site/README.md")).expect("is there");
        assert!(readme.contains("kubectl get websites.my-site.wasmop.dev\n"), "{readme}");
        // Nothing is left beside it.
        let names: Vec<_> =
            fs::read_dir(sandbox.path(".")).expect("is there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
}

#[test]
fn new_creates_its_own_workspace_inside_one_that_does_not_name_it() {
    let sandbox = Sandbox::new();
    sandbox.write("Cargo.toml", b"[workspace]\nmembers = [\"crates/*\"]\n");
    let manifest = |path: &str| fs::read_to_string(sandbox.path(path)).expect("is there");
    let (_, stderr) = sandbox.wasmop(&["new", "web", "--lang", "rust"]).succeeds();
    assert!(stderr.contains("no member of the cargo workspace") && stderr.contains("`members`"), "{stderr}");
    assert!(manifest("web/Cargo.toml").contains("\n[workspace]\n"));
    let (_, stderr) = sandbox.wasmop(&["new", "shop", "--lang", "rust", "--path", "crates/shop"]).succeeds();
    assert!(!stderr.contains("workspace") && !manifest("crates/shop/Cargo.toml").contains("[workspace]"), "{stderr}");
    // A cargo workspace does not affect Go.
    let (_, stderr) = sandbox.wasmop(&["new", "site", "--lang", "go"]).succeeds();
    assert!(!stderr.contains("workspace"), "{stderr}");
}

#[test]
fn inspect_reads_a_package_without_registrations() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let (text, stderr) = sandbox.wasmop(&["inspect", &file]).succeeds();
    assert!(text.contains("none registered"), "{text}");
    assert_eq!(stderr, "");
}

#[test]
fn inspect_escapes_control_characters_of_a_package() {
    let sandbox = Sandbox::new();
    let (language, toolchain) = (Language::Rust, Toolchain::Cargo);
    let manifest = Manifest::new("web", "1\u{1b}[2J\ntier          full", language, toolchain, Sdk::new("s", "\r0"));
    let file =
        sandbox.write("web.wasm", &wasmop_package::assemble(&sandbox::guest(), &manifest).expect("a controller"));
    let (text, _) = sandbox.wasmop(&["inspect", &file]).succeeds();
    assert!(text.contains("version       1\\u001b[2J\n              tier          full\n"), "{text}");
    assert!(text.contains("s \\u000d0") && !text.contains(['\u{1b}', '\r']), "{text}");
}

#[test]
fn completions_and_help_come_on_stdout() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (stdout, _) = sandbox.wasmop(&["completions", shell]).succeeds();
        assert!(stdout.contains("suspend-after"), "{shell}: {stdout}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let (stdout, stderr) = sandbox.wasmop(arguments).succeeds();
        assert!(stdout.contains("wasmop") && stderr.is_empty(), "{stdout}{stderr}");
    }
}

#[test]
fn policies_are_compared_on_a_users_trace() {
    let sandbox = Sandbox::new();
    let events: String = (0..200).map(|n| format!("{}.25,web,0\n{},backup,1\n", n * 5, n * 60)).collect();
    let file = sandbox.write("trace.csv", format!("time,controller,known\n{events}").as_bytes());
    let (table, stderr) = sandbox.wasmop(&["policy", "simulate", &file]).succeeds();
    assert_eq!(stderr, "");
    for needle in ["trace.csv", "adaptive", "immediate", "after=1s", "after=60s", "never", "smoothing", "optimum"] {
        assert!(table.contains(needle), "{needle:?} is missing in\n{table}");
    }

    let rows = figures(&sandbox, &["policy", "simulate", &file, "--json"]);
    let value = |policy: &str, metric: &str| {
        let found = rows.iter().find(|row| row["policy"] == policy && row["metric"] == metric);
        found.and_then(|row| row["value"].as_f64()).expect("is there")
    };
    assert!(rows.iter().all(|row| row["trace"].as_str().is_some_and(|trace| trace.ends_with("trace.csv"))));
    assert_eq!(value("never", "resumes"), 0.0);
    assert_eq!(value("immediate", "on_demand_resumes"), 2.0 * 199.0);
    assert_eq!(value("immediate", "p95_added_latency_seconds"), 0.0003);
    assert_eq!(value("never", "mean_resident_bytes"), f64::from(2 << 20) * (995.0 / 11_940.0 + 1.0));
    assert_eq!(value("optimum", "cost_vs_optimum"), 1.0);
    assert!(value("adaptive", "cost_vs_optimum") < 1.05);
    assert!(value("after=1s", "cost_byte_seconds") > value("adaptive", "cost_byte_seconds"));
}

#[test]
fn the_costs_of_a_simulation_can_be_given() {
    let sandbox = Sandbox::new();
    let simulate = |more: &[&str]| {
        let rows = figures(&sandbox, &[&["policy", "simulate", "--builtin", "periodic", "--json"], more].concat());
        let resumes = rows.iter().find(|row| row["policy"] == "adaptive" && row["metric"] == "resumes");
        resumes.and_then(|row| row["value"].as_f64()).expect("is there")
    };
    assert!(simulate(&["--policy", "adaptive"]) > 4000.0);
    // Controllers that are expensive to resume stay resident.
    assert!(simulate(&["--policy", "adaptive", "--resume-cost", "50ms", "--suspend-cost", "50ms"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--written-bytes", "16MiB"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--profile", "cold"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--profile", "cold", "--resident-bytes", "1GiB"]) > 4000.0);
}

#[test]
fn builtin_traces_are_deterministic() {
    let sandbox = Sandbox::new();
    let all = ["policy", "simulate", "--builtin", "all", "--json", "--policy", "adaptive,after=10s"];
    let rows = figures(&sandbox, &all);
    let mut traces: Vec<_> = rows.iter().filter_map(|row| row["trace"].as_str()).collect();
    traces.dedup();
    assert_eq!(traces, ["periodic", "requeue", "poisson", "bursts", "diurnal", "deploy-storm"]);
    assert_eq!(rows, figures(&sandbox, &all));
    assert_ne!(rows, figures(&sandbox, &[&all[..], &["--seed", "2"]].concat()));
}

/// The rows that a command prints as JSON.
fn figures(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let (stdout, _) = sandbox.wasmop(arguments).succeeds();
    serde_json::from_str(&stdout).expect("an array")
}

/// Polls until there is a value.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not happen in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
