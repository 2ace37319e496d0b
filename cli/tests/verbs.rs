//! What each verb does when all is well, through the program itself. `build` runs on a `go` of our
//! own that hands out a module written by hand; everything after the compiler is real.

mod place;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use place::{Place, package, registering};
use serde_json::Value;
use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};

/// A controller that reconciles Websites and watches the ConfigMaps they own.
const SPEC: &str = r#"{"name":"web","primary":{"group":"web.wasmop.dev","version":"v1","kind":"Website","plural":"websites"},"watches":[{"version":"v1","kind":"ConfigMap","relation":"controller"}]}"#;

#[test]
fn build_writes_a_package_that_says_what_it_registers() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    let (stdout, stderr) = place.wasmop(&["build", "p", "--json"]).succeeds();
    let made: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(made["package"], "p/target/wasmop/web.wasm");
    assert_eq!(made["registrations"][0]["primary"]["kind"], "Website");
    let file = fs::read(place.path("p/target/wasmop/web.wasm")).expect("is there");
    assert_eq!(made["bytes"], file.len());
    for needle in ["reconciles Website (web.wasmop.dev/v1)", "memory image", "wasmop run p/target/wasmop/web.wasm"] {
        assert!(stderr.contains(needle), "{needle:?} is missing in\n{stderr}");
    }

    let (text, _) = place.wasmop(&["inspect", "p/target/wasmop/web.wasm"]).succeeds();
    for needle in ["web", "Website", "ConfigMap", "wasmop:controller/runtime@0.1.0"] {
        assert!(text.contains(needle), "{needle:?} is missing in\n{text}");
    }
    let (json, _) = place.wasmop(&["inspect", "p/target/wasmop/web.wasm", "--json"]).succeeds();
    let inspection: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(inspection["registrations"], made["registrations"]);
    assert_eq!(inspection["sizes"], made["sizes"]);
}

#[test]
fn without_a_terminal_each_step_of_a_build_is_shown_when_it_begins() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    let (_, stderr) = place.wasmop(&["build", "p"]).succeeds();
    let steps = ["Compiling web with go …", "✓ Compiled", "Packaging …", "✓ Packaged", "Starting once", "✓ Started"];
    let places: Vec<_> = steps.map(|step| stderr.find(step).unwrap_or_else(|| panic!("no {step}: {stderr}"))).into();
    assert!(places.is_sorted(), "{stderr}");
}

#[test]
fn tags_and_linker_flags_are_given_to_go() {
    let place = Place::new();
    let arguments = place.path("arguments");
    let go = |build: &[&str]| {
        place.project_built_by_fake_go(&registering(SPEC));
        let module = place.path("module.wasm");
        place.fake_go(&format!(
            r#"echo "$@" > '{arguments}'; while [ "$1" != -o ]; do shift; done; /bin/cp '{module}' "$2""#
        ));
        let toml = format!("{}[build]\ntags = [\"a\", \"b\"]\nldflags = \"-X main.v=1\"\n", place::GO_PROJECT);
        place.write("p/wasmop.toml", toml.as_bytes());
        place.wasmop(&[&["build", "p"], build].concat()).succeeds();
        fs::read_to_string(&arguments).expect("it ran")
    };
    let given = go(&[]);
    assert!(given.contains(" -tags=a,b -ldflags=-X main.v=1 -s -w -checklinkname=0 "), "{given}");
    let given = go(&["--tags", "c,d", "--tags", "e", "--ldflags", "-X main.v=2", "--debug"]);
    assert!(given.contains(" -tags=c,d,e -ldflags=-X main.v=2 -checklinkname=0 "), "{given}");
}

#[test]
fn a_go_workspace_that_does_not_use_the_project_is_switched_off() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    place.write("go.work", br#"{"Use": [{"DiskPath": "./other"}]}"#);
    let (_, stderr) = place.wasmop(&["build", "p"]).succeeds();
    for needle in [&*place.path("go.work"), "does not use this project's module", "GOWORK=off", "go work use"] {
        assert!(stderr.contains(needle), "{needle:?} is missing in\n{stderr}");
    }
    // One that uses it stays on: the `go` of this test does not find the SDK then.
    place.write("go.work", br#"{"Use": [{"DiskPath": "./p"}]}"#);
    place.wasmop(&["build", "p"]).fails_with(1, &["does not require the module", "not in the workspace"]);
}

#[test]
fn build_warns_of_a_watch_that_the_permissions_do_not_allow() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    let rule = "[[permissions]]\napi-groups = [\"web.wasmop.dev\"]\nresources = [\"websites\"]\nverbs = [\"*\"]\n";
    place.write("p/wasmop.toml", format!("{}{rule}", place::GO_PROJECT).as_bytes());
    let (_, stderr) = place.wasmop(&["build", "p"]).succeeds();
    assert!(stderr.contains("warning: it watches ConfigMap, which its permissions do not allow"), "{stderr}");
    assert!(stderr.contains("resources = [\"configmaps\"]"), "{stderr}");
    assert!(!stderr.contains("watches Website"), "{stderr}");
}

#[test]
fn build_output_may_be_anywhere_and_is_replaced_whole() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    let old = place.write("out/web.wasm", b"old");
    place.wasmop(&["build", "p", "-o", "out/web.wasm"]).succeeds();
    assert_ne!(fs::read(&old).expect("is there"), b"old");
    assert_eq!(fs::read_dir(place.path("out")).expect("is there").count(), 1);
}

#[test]
fn an_interrupted_build_ends_the_compiler_and_leaves_no_package() {
    let place = Place::new();
    place.project_built_by_fake_go(&registering(SPEC));
    let begun = place.path("begun");
    // It ends by itself only long after the test has failed.
    place.fake_go(&format!("echo $$ > '{begun}.tmp'; /bin/mv '{begun}.tmp' '{begun}'; exec /bin/sleep 100"));
    let mut child = place.wasmop(&["build", "p"]).spawn();
    let compiler = wait_for(|| fs::read_to_string(&begun).ok());

    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let stat = format!("/proc/{}", compiler.trim());
    wait_for(|| (!Path::new(&stat).exists()).then_some(()));
    assert_eq!(fs::read_dir(place.path("p/target/wasmop")).map_or(0, Iterator::count), 0);
}

#[test]
fn new_makes_a_project_for_each_toolchain() {
    for (arguments, language, toolchain) in [
        (&["--lang", "rust"][..], "rust", "cargo"),
        (&["--lang", "go"], "go", "go"),
        (&["--toolchain", "tinygo"], "go", "tinygo"),
    ] {
        let place = Place::new();
        let (stdout, stderr) = place.wasmop(&[&["new", "my-site"], arguments].concat()).succeeds();
        assert_eq!(stdout, "");
        assert!(stderr.contains("cd my-site"), "{stderr}");
        let toml = fs::read_to_string(place.path("my-site/wasmop.toml")).expect("is there");
        assert!(toml.contains("name = \"my-site\"") && toml.contains(&format!("language = \"{language}\"")), "{toml}");
        assert!(toolchain == "cargo" || toml.contains(&format!("toolchain = \"{toolchain}\"")), "{toml}");
        assert!(Path::new(&place.path("my-site/.wasmop/sdk")).join(language).is_dir());
        // Other projects have the kind as well.
        let readme = fs::read_to_string(place.path("my-site/README.md")).expect("is there");
        assert!(readme.contains("kubectl get websites.my-site.wasmop.dev\n"), "{readme}");
        // Nothing is left beside it.
        let names: Vec<_> = fs::read_dir(place.path(".")).expect("is there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }
}

#[test]
fn new_makes_a_workspace_of_its_own_inside_one_that_does_not_name_it() {
    let place = Place::new();
    place.write("Cargo.toml", b"[workspace]\nmembers = [\"crates/*\"]\n");
    let manifest = |path: &str| fs::read_to_string(place.path(path)).expect("is there");
    let (_, stderr) = place.wasmop(&["new", "web", "--lang", "rust"]).succeeds();
    assert!(stderr.contains("no member of the cargo workspace") && stderr.contains("`members`"), "{stderr}");
    assert!(manifest("web/Cargo.toml").contains("\n[workspace]\n"));
    let (_, stderr) = place.wasmop(&["new", "shop", "--lang", "rust", "--path", "crates/shop"]).succeeds();
    assert!(!stderr.contains("workspace") && !manifest("crates/shop/Cargo.toml").contains("[workspace]"), "{stderr}");
    // Go has nothing to do with it.
    let (_, stderr) = place.wasmop(&["new", "site", "--lang", "go"]).succeeds();
    assert!(!stderr.contains("workspace"), "{stderr}");
}

#[test]
fn inspect_reads_a_package_without_registrations() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let (text, stderr) = place.wasmop(&["inspect", &file]).succeeds();
    assert!(text.contains("none registered"), "{text}");
    assert_eq!(stderr, "");
}

#[test]
fn inspect_shows_text_of_a_package_without_what_a_terminal_obeys() {
    let place = Place::new();
    let (language, toolchain) = (Language::Rust, Toolchain::Cargo);
    let manifest = Manifest::new("web", "1\u{1b}[2J\ntier          full", language, toolchain, Sdk::new("s", "\r0"));
    let file = place.write("web.wasm", &wasmop_package::assemble(&place::guest(), &manifest).expect("a controller"));
    let (text, _) = place.wasmop(&["inspect", &file]).succeeds();
    assert!(text.contains("version       1\\u001b[2J\n              tier          full\n"), "{text}");
    assert!(text.contains("s \\u000d0") && !text.contains(['\u{1b}', '\r']), "{text}");
}

#[test]
fn completions_and_help_come_on_stdout() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (stdout, _) = place.wasmop(&["completions", shell]).succeeds();
        assert!(stdout.contains("suspend-after"), "{shell}: {stdout}");
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let (stdout, stderr) = place.wasmop(arguments).succeeds();
        assert!(stdout.contains("wasmop") && stderr.is_empty(), "{stdout}{stderr}");
    }
}

#[test]
fn policies_are_compared_on_a_trace_of_ones_own() {
    let place = Place::new();
    let events: String = (0..200).map(|n| format!("{}.25,web,0\n{},backup,1\n", n * 5, n * 60)).collect();
    let file = place.write("trace.csv", format!("time,controller,known\n{events}").as_bytes());
    let (table, stderr) = place.wasmop(&["policy", "simulate", &file]).succeeds();
    assert_eq!(stderr, "");
    for needle in ["trace.csv", "adaptive", "immediate", "after=1s", "after=60s", "never", "smoothing", "optimum"] {
        assert!(table.contains(needle), "{needle:?} is missing in\n{table}");
    }

    let rows = figures(&place, &["policy", "simulate", &file, "--json"]);
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
    let place = Place::new();
    let simulate = |more: &[&str]| {
        let rows = figures(&place, &[&["policy", "simulate", "--builtin", "periodic", "--json"], more].concat());
        let resumes = rows.iter().find(|row| row["policy"] == "adaptive" && row["metric"] == "resumes");
        resumes.and_then(|row| row["value"].as_f64()).expect("is there")
    };
    assert!(simulate(&["--policy", "adaptive"]) > 4000.0);
    // What is dear to get back stays.
    assert!(simulate(&["--policy", "adaptive", "--resume-cost", "50ms", "--suspend-cost", "50ms"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--written-bytes", "16MiB"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--profile", "cold"]) < 10.0);
    assert!(simulate(&["--policy", "adaptive", "--profile", "cold", "--resident-bytes", "1GiB"]) > 4000.0);
}

#[test]
fn every_builtin_trace_is_simulated_and_the_same_each_time() {
    let place = Place::new();
    let all = ["policy", "simulate", "--builtin", "all", "--json", "--policy", "adaptive,after=10s"];
    let rows = figures(&place, &all);
    let mut traces: Vec<_> = rows.iter().filter_map(|row| row["trace"].as_str()).collect();
    traces.dedup();
    assert_eq!(traces, ["periodic", "requeue", "poisson", "bursts", "diurnal", "deploy-storm"]);
    assert_eq!(rows, figures(&place, &all));
    assert_ne!(rows, figures(&place, &[&all[..], &["--seed", "2"]].concat()));
}

/// The rows that a command prints as JSON.
fn figures(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let (stdout, _) = place.wasmop(arguments).succeeds();
    serde_json::from_str(&stdout).expect("an array")
}

/// Looks again and again until there is an answer.
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
