//! What a person gets for bad input: the message names the input, says what to do, and the exit
//! code says that it failed. All of it through the program itself; nothing here needs an API server.

mod place;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use place::{Place, closed_port, component, guest, module, package};
use wasmop_snapshot::StateDir;

const MAKES_A_PACKAGE: &str = "wasmop build";

// Package files.

#[test]
fn a_file_that_is_not_wasm_is_refused_by_inspect_and_run() {
    let place = Place::new();
    for (name, content) in [("notes.txt", &b"hello"[..]), ("empty.wasm", b"")] {
        let file = place.write(name, content);
        for verb in ["inspect", "run"] {
            place.wasmop(&[verb, &file]).fails_with(1, &[name, "not a wasmop package", MAKES_A_PACKAGE]);
        }
    }
}

#[test]
fn a_file_that_is_not_there_or_is_a_directory_is_named() {
    let place = Place::new();
    let dir = place.path("projects");
    fs::create_dir(&dir).expect("makes it");
    for verb in ["inspect", "run"] {
        place.wasmop(&[verb, "no-such.wasm"]).fails_with(1, &["no-such.wasm", MAKES_A_PACKAGE]);
        place.wasmop(&[verb, &dir]).fails_with(1, &["projects", "is a directory", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_core_module_is_told_from_a_package() {
    let place = Place::new();
    let file = place.write("core.wasm", &guest());
    for verb in ["inspect", "run"] {
        place.wasmop(&[verb, &file]).fails_with(1, &["core.wasm", "core module", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_component_of_another_world_is_told_from_a_package() {
    let place = Place::new();
    let file = place.write("other.wasm", &component());
    for verb in ["inspect", "run"] {
        place
            .wasmop(&[verb, &file])
            .fails_with(1, &["other.wasm", "not a wasmop package", "other worlds", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_package_cut_anywhere_is_refused() {
    let place = Place::new();
    let whole = package("web");
    // The whole file is one, so that the cut is what is wrong with the others.
    let file = place.write("web.wasm", &whole);
    place.wasmop(&["inspect", &file]).succeeds();
    for part in 1..16 {
        let file = place.write("cut.wasm", &whole[..whole.len() * part / 16]);
        place.wasmop(&["inspect", &file]).fails_with(1, &["cut.wasm"]);
    }
    let file = place.write("cut.wasm", &whole[..whole.len() - 1]);
    place.wasmop(&["run", &file]).fails_with(1, &["cut.wasm", "truncated", "build or copy it again"]);
}

#[test]
fn two_packages_of_one_name_are_both_named() {
    let place = Place::new();
    let (one, same) = (place.write("one.wasm", &package("web")), place.write("same.wasm", &package("web")));
    let mut other = package("web");
    // A custom section of another tool.
    other.extend(b"\0\x02\x01x");
    let other = place.write("other.wasm", &other);
    let two_controllers = ["[controllers.web]", "[controllers.web-2]", "--config"];
    for (first, second, needles) in [
        (&one, &one, &["one.wasm", "is given twice", "leave one out"][..]),
        (&one, &same, &["one.wasm", "same.wasm", "are the same package, `web`", "leave one out"]),
        (&one, &other, &["one.wasm", "other.wasm", "are both named `web`", "leave one out"]),
    ] {
        place.wasmop(&["run", first, second]).fails_with(1, needles);
        place.wasmop(&["run", first, second]).fails_with(1, &two_controllers);
        // What the help says leads on, to what is missing next.
        let config = format!("[controllers.web]\npackage = \"{first}\"\n[controllers.web-2]\npackage = \"{second}\"\n");
        let config = place.write("two.toml", config.as_bytes());
        place.wasmop(&["run", "--config", &config]).fails_with(1, &["no kubeconfig found"]);
    }
}

#[test]
fn a_file_that_is_no_package_does_not_keep_others_from_running() {
    let place = Place::new();
    let (good, bad) = (place.write("good.wasm", &package("web")), place.write("notes.wasm", b"hello"));
    for files in [[&good, &bad], [&bad, &good]] {
        place.wasmop(&["run", files[0], files[1]]).fails_with(1, &["no kubeconfig found"]);
    }
    place.wasmop(&["run", &bad]).fails_with(1, &["notes.wasm", "not a wasmop package"]);
}

#[test]
fn a_file_that_is_no_package_takes_its_name_too() {
    let place = Place::new();
    let (good, bad) = (place.write("web.wasm", &package("web")), place.write("old/web.wasm", b"hello"));
    for files in [[&good, &bad], [&bad, &good]] {
        let needles = ["/web.wasm", "old/web.wasm", "are both named `web`", "not a wasmop package", "leave one out"];
        place.wasmop(&["run", files[0], files[1]]).fails_with(1, &needles);
    }
    place.wasmop(&["run", &bad, &bad]).fails_with(1, &["is given twice", "not a wasmop package"]);
}

#[test]
fn namespaces_on_the_command_line_are_names() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    for namespaces in [&["-n", "a"][..], &["-n", "a,b"], &["-n", "a", "--namespace", "b,c"]] {
        place.wasmop(&[&["run", &file], namespaces].concat()).fails_with(1, &["no kubeconfig found"]);
    }
    for (namespaces, why) in [("", "is empty"), ("A", "characters other than"), ("a,", "is empty"), ("a,B", "'B'")] {
        let (_, said) = place.wasmop(&["run", &file, "-n", namespaces]).ends_with(2);
        assert!(said.contains("--namespace") && said.contains(why), "{namespaces:?}: {said}");
    }
}

// The configuration file.

#[test]
fn a_configuration_file_is_named_with_line_and_key() {
    let place = Place::new();
    place.write("web.wasm", &package("web"));
    for (content, needles) in [
        ("namspace = \"a\"", &["host.toml:1: unknown key `namspace`", "did you mean `namespace`?"] as &[_]),
        ("\nmemory-budget = 64", &["host.toml:2: `memory-budget`", "give a string"]),
        ("namespace = ", &["host.toml:1: ", "docs/config.md"]),
        ("[controllers.web]\ngrant = \"some\"", &["host.toml:2: `grant` in [controllers.web]", "grant = \"all\""]),
        ("[controllers.web]\nservice-account = \"web\"", &["host.toml:2: `service-account`", "NAMESPACE/NAME"]),
        ("[controllers.web]\n", &["host.toml:1: [controllers.web] has no `package`", "package = "]),
        ("[controllers.web]\npackage = \"no.wasm\"", &["no.wasm", MAKES_A_PACKAGE]),
        ("namespace = \"a\"", &["there is no package to run", "[controllers.NAME]"]),
    ] {
        let file = place.write("host.toml", content.as_bytes());
        place.wasmop(&["run", "--config", &file]).fails_with(1, needles);
    }
    place.wasmop(&["run", "--config", "no.toml"]).fails_with(1, &["no.toml", "docs/config.md"]);
}

// The cluster.

#[test]
fn without_a_kubeconfig_every_place_looked_at_is_named() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let home = place.path("home/.kube/config");
    place.wasmop(&["run", &file]).fails_with(1, &["no kubeconfig found", &home, "--kubeconfig"]);
    place
        .wasmop(&["run", &file])
        .env("KUBECONFIG", &place.path("not-there"))
        .fails_with(1, &["no kubeconfig found", "not-there", "--kubeconfig"]);
    place
        .wasmop(&["run", &file, "--kubeconfig", "gone.yaml"])
        .fails_with(1, &["gone.yaml", "cannot read the kubeconfig"]);
}

#[test]
fn an_unknown_context_is_answered_with_those_there_are() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let kubeconfig = place.kubeconfig("https://127.0.0.1:1");
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--context", "prod"])
        .fails_with(1, &["\"prod\"", &kubeconfig, "it has test", "--context"]);
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let port = place::closed_port();
    let kubeconfig = place.kubeconfig(&format!("http://127.0.0.1:{port}"));
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig])
        .fails_with(1, &["cannot reach the API server", &format!("127.0.0.1:{port}"), "cluster is up"]);
}

// The state directory.

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let kubeconfig = place.kubeconfig("http://127.0.0.1:1");
    // Root may write anywhere, but nobody can make a directory below a file.
    let below = format!("{}/state", place.write("a-file", b""));
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &below])
        .fails_with(1, &[&below, "cannot write to the state directory", "--state-dir"]);
}

#[test]
fn a_state_directory_that_another_host_uses_is_refused() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let kubeconfig = place.kubeconfig("http://127.0.0.1:1");
    let state = place.path("state");
    let _held = StateDir::open(Path::new(&state)).expect("is free");
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &state])
        .fails_with(1, &[&state, "in use by another host", &std::process::id().to_string(), "--state-dir"]);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("is mounted").uid() == 0
}

/// A directory of this owner, group and mode.
fn directory(path: &str, owner: u32, group: u32, mode: u32) {
    fs::create_dir(path).expect("makes it");
    chown(path, Some(owner), Some(group)).expect("root may");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

#[test]
fn a_volume_that_belongs_to_root_serves_as_a_state_directory() {
    if !is_root() {
        return eprintln!("only root can be another user");
    }
    let place = Place::new();
    place.is_open_to_all();
    let file = place.write("web.wasm", &package("web"));
    let server = format!("http://127.0.0.1:{}", closed_port());
    let kubeconfig = place.kubeconfig(&server);
    // With a group (`fsGroup`), and as an `emptyDir` is without.
    for (name, mode) in [("group", 0o2775), ("everybody", 0o777)] {
        let state = place.path(name);
        directory(&state, 0, 4321, mode);
        for start in ["first", "second"] {
            let run = place.wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &state]);
            run.with_user(1234, 4321).fails_with(1, &["cannot reach the API server"]);
            let code = fs::metadata(Path::new(&state).join("code")).expect("was made");
            assert_eq!((code.uid(), code.mode() & 0o777), (1234, 0o700), "{name}, {start} start");
            // When a Pod is started again, the group may write all that is in its volume.
            for part in ["code", "code/key", "lock"] {
                let part = Path::new(&state).join(part);
                let mode = fs::metadata(&part).expect("was made").mode() | 0o060;
                fs::set_permissions(&part, fs::Permissions::from_mode(mode)).expect("root may");
            }
        }
    }
}

#[test]
fn another_users_state_directory_is_refused_with_a_remedy_that_works() {
    if !is_root() {
        return eprintln!("only root can make another user's directory");
    }
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    let kubeconfig = place.kubeconfig(&format!("http://127.0.0.1:{}", closed_port()));
    let state = place.path("state");
    directory(&state, 1234, 1234, 0o755);
    let remedy = format!("{state}/wasmop");
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &state])
        .fails_with(1, &[&state, "belongs to user 1234", &remedy, "chown -R 0 "]);
    place
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &remedy])
        .fails_with(1, &["cannot reach the API server"]);
}

#[test]
fn without_a_home_a_state_directory_must_be_given() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    place.wasmop(&["run", &file]).without("HOME").fails_with(1, &["XDG_STATE_HOME", "--state-dir"]);
}

// wasmop.toml and the toolchains.

#[test]
fn an_unknown_key_is_answered_with_its_line_and_the_known_ones() {
    let place = Place::new();
    place.write("p/wasmop.toml", format!("{}[limits]\nmemmory = \"64MiB\"\n", place::GO_PROJECT).as_bytes());
    place.wasmop(&["build", "p"]).fails_with(
        1,
        &["p/wasmop.toml:7", "unknown key `memmory` in [limits]", "did you mean `memory`?", "cpu-per-step"],
    );
}

#[test]
fn a_directory_that_is_no_project_is_named() {
    let place = Place::new();
    fs::create_dir(place.path("p")).expect("makes it");
    place.wasmop(&["build", "p"]).fails_with(1, &["p/wasmop.toml", "wasmop new"]);
    place.wasmop(&["build", "q"]).fails_with(1, &["there is no directory `q`"]);
}

#[test]
fn a_crd_pattern_that_matches_nothing_is_named() {
    let place = Place::new();
    place.write("p/wasmop.toml", format!("{}[build]\ncrds = [\"crds/*.yaml\"]\n", place::GO_PROJECT).as_bytes());
    place.wasmop(&["build", "p"]).fails_with(1, &["no file matches `crds/*.yaml`", "p/wasmop.toml"]);
}

#[test]
fn an_unknown_toolchain_is_answered_with_the_known_ones() {
    let place = Place::new();
    place.write("p/wasmop.toml", place::GO_PROJECT.replace("\"go\"", "\"go\"\ntoolchain = \"gccgo\"").as_bytes());
    place.wasmop(&["build", "p"]).fails_with(1, &["p/wasmop.toml:6", "unknown toolchain `gccgo`", "cargo, go, tinygo"]);
}

#[test]
fn a_toolchain_that_is_not_installed_comes_with_how_to_get_it() {
    for (language, toolchain, beside, needle) in [
        ("go", "go", ("go.mod", "module x\n"), "go.dev"),
        ("go", "tinygo", ("go.mod", "module x\n"), "tinygo"),
        ("rust", "cargo", ("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\n"), "rustup"),
    ] {
        let place = Place::new();
        let project = format!(
            "[package]\nname = \"web\"\nversion = \"0.1.0\"\nlanguage = \"{language}\"\ntoolchain = \"{toolchain}\"\n"
        );
        place.write("p/wasmop.toml", project.as_bytes());
        place.write(&format!("p/{}", beside.0), beside.1.as_bytes());
        place.write("p/main.go", b"package main\n\nfunc main() {}\n");
        place.write("p/src/main.rs", b"fn main() {}\n");
        place.wasmop(&["build", "p"]).fails_with(1, &["cannot run", toolchain, needle]);
    }
}

#[test]
fn a_wasi_import_that_is_not_provided_is_named_by_build() {
    let place = Place::new();
    place.project_built_by_fake_go(&module(
        r#"(import "wasi_snapshot_preview1" "sock_teleport" (func (param i32) (result i32)))"#,
        "",
    ));
    place.wasmop(&["build", "p"]).fails_with(1, &["`web`", "WASI function `sock_teleport`", "which library calls it"]);
    assert!(!Path::new(&place.path("p/target/wasmop/web.wasm")).exists());
}

#[test]
fn a_program_without_the_sdk_is_refused_by_build() {
    let place = Place::new();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).expect("valid");
    place.project_built_by_fake_go(&module);
    place.wasmop(&["build", "p"]).fails_with(1, &["`web`", "it is not a controller", "SDK"]);
}

#[test]
fn a_controller_that_registers_nothing_or_crashes_at_the_start_is_refused_by_build() {
    let place = Place::new();
    place.project_built_by_fake_go(&guest());
    place.wasmop(&["build", "p"]).fails_with(1, &["`web` registered no controller", "in `main`"]);
    place.project_built_by_fake_go(&module("", "unreachable"));
    place.wasmop(&["build", "p"]).fails_with(1, &["`web`: ", "failed when it was started", "trap", "main runs once"]);
    place.project_built_by_fake_go(&place::registering(r#"{"name": "web", "kind": "Website"}"#));
    place.wasmop(&["build", "p"]).fails_with(1, &["`web`: ", "not a controller spec", "unknown field `kind`"]);
    assert!(!Path::new(&place.path("p/target/wasmop/web.wasm")).exists());
}

#[test]
fn what_the_compiler_said_is_shown_when_it_fails() {
    let place = Place::new();
    place.project_built_by_fake_go(&guest());
    place.fake_go("echo 'main.go:3:1: syntax error' >&2; exit 1");
    place.wasmop(&["build", "p"]).fails_with(1, &["main.go:3:1: syntax error", "`go build", "failed", "above"]);
}

#[test]
fn a_copy_of_the_sdk_that_was_not_committed_is_named() {
    let place = Place::new();
    for language in ["go", "rust"] {
        place.wasmop(&["new", language, "--lang", language]).succeeds();
        fs::remove_dir_all(place.path(&format!("{language}/.wasmop"))).expect("is there");
        let missing = format!("{language}/.wasmop/sdk/{language}");
        place.wasmop(&["build", language]).fails_with(1, &[&missing, "git add -f .wasmop/sdk", "wasmop new"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_the_compiler_runs() {
    let place = Place::new();
    place.project_built_by_fake_go(&guest());
    place.fake_go(&format!("echo > '{}'", place.path("ran")));
    let below = format!("{}/web.wasm", place.write("a-file", b""));
    let long = format!("{}.wasm", "x".repeat(300));
    for output in [below.as_str(), long.as_str(), "/proc/web.wasm"] {
        place.wasmop(&["build", "p", "-o", output]).fails_with(1, &[output, "cannot write", "--output FILE"]);
    }
    assert!(!Path::new(&place.path("ran")).exists());
}

// Traces and policies.

#[test]
fn a_bad_trace_is_named_with_the_line() {
    let place = Place::new();
    let simulate = |file: &str| place.wasmop(&["policy", "simulate", file]);
    let file = place.write("trace.csv", b"time,controller\n1.5,web\nsoon,web\n");
    simulate(&file).fails_with(1, &["trace.csv", "line 3", "`soon` is not a time", "RFC 3339"]);
    let file = place.write("trace.csv", b"1.5,web\n2.5\n");
    simulate(&file).fails_with(1, &["trace.csv", "line 2", "no controller"]);
    let file = place.write("trace.csv", b"1.5,web\n2.5,backup\n");
    simulate(&file).fails_with(1, &["trace.csv", "no controller has two events", "record for longer"]);
    let file = place.write("trace.csv", b"1.5,\xff\xfe\n");
    simulate(&file).fails_with(1, &["trace.csv", "cannot read the trace", "CSV"]);
    simulate("gone.csv").fails_with(1, &["gone.csv", "cannot read the trace", "time and controller"]);
    simulate(&place.path("home")).fails_with(1, &["home", "cannot read the trace"]);
}

#[test]
fn a_simulation_of_nothing_or_with_nonsense_is_a_usage_error() {
    let place = Place::new();
    place.wasmop(&["policy", "simulate"]).fails_with(2, &["there is no trace", "--builtin all"]);
    for (flag, value, needles) in [
        ("--policy", "sometimes", ["`sometimes` is not a policy", "`adaptive`"]),
        ("--policy", "adaptive,after=soon", ["`after=soon` is not a policy", "`after=1s`"]),
        ("--resume-cost", "fast", ["`fast` is not a duration", "`500ms`"]),
        ("--resident-bytes", "0B", ["`0B` is nothing", "`2MiB`"]),
        ("--written-bytes", "much", ["`much` is not a size in bytes", "`64KiB`"]),
        ("--builtin", "weekly", ["weekly", "deploy-storm"]),
    ] {
        let (_, stderr) = place.wasmop(&["policy", "simulate", flag, value]).ends_with(2);
        assert!(needles.iter().all(|needle| stderr.contains(needle)), "{flag} {value}: {stderr}");
    }
}

// `wasmop new` and the command line.

#[test]
fn new_never_touches_a_directory_with_something_in_it() {
    let place = Place::new();
    let kept = place.write("web/mine.txt", b"mine");
    place.wasmop(&["new", "web", "--lang", "rust"]).fails_with(1, &["`web` is not empty", "--path"]);
    place.wasmop(&["new", "a", "--lang", "go", "--path", &kept]).fails_with(1, &["mine.txt", "a file", "--path"]);
    assert_eq!(fs::read(&kept).expect("is there"), b"mine");
    assert_eq!(fs::read_dir(place.path("web")).expect("is there").count(), 1);
}

#[test]
fn a_name_that_is_no_dns_label_is_a_usage_error() {
    let place = Place::new();
    for name in ["Web", "my_site", "web-", "a.b", "../web", &"x".repeat(64)] {
        place.wasmop(&["new", name, "--lang", "go"]).fails_with(2, &[name, "DNS label"]);
    }
    assert!(!Path::new(&place.path("web")).exists());
}

#[test]
fn what_is_missing_without_a_terminal_is_a_usage_error() {
    let place = Place::new();
    let file = place.write("web.wasm", b"");
    let (_, stderr) = place.wasmop(&["run", &file, "--suspend-after", "soon"]).ends_with(2);
    assert!(stderr.contains("`soon` is not a duration; write it like `500ms`"), "{stderr}");
    place.wasmop(&["new"]).fails_with(2, &["name is missing", "wasmop new"]);
    place.wasmop(&["new", "web"]).fails_with(2, &["language is missing", "--lang rust|go"]);
    place
        .wasmop(&["new", "web", "--lang", "rust", "--toolchain", "tinygo"])
        .fails_with(2, &["`--toolchain tinygo`", "\nhelp: for Rust use: cargo\n"]);
    place
        .wasmop(&["new", "web", "--lang", "go", "--toolchain", "cargo"])
        .fails_with(2, &["`--toolchain cargo`", "\nhelp: for Go use: go, tinygo\n"]);
}

#[test]
fn an_address_that_is_none_is_a_usage_error_that_shows_the_format() {
    let place = Place::new();
    let file = place.write("web.wasm", &package("web"));
    for arguments in [&["run", &file, "--metrics-address", "localhost"][..], &["top", "--address", "80800"]] {
        let (_, stderr) = place.wasmop(arguments).ends_with(2);
        let bad = arguments[arguments.len() - 1];
        assert!(stderr.contains(&format!("`{bad}` is not an address; write HOST:PORT, :PORT or PORT")), "{stderr}");
    }
    let config = place.write("host.toml", b"metrics-address = \"localhost\"");
    place
        .wasmop(&["run", &file, "--config", &config])
        .fails_with(1, &["host.toml:1: `metrics-address`", "`localhost` is not an address", "HOST:PORT"]);
    // A port alone is an address: what is wrong comes later.
    place.wasmop(&["run", &file, "--metrics-address", "0"]).fails_with(1, &["no kubeconfig found"]);
}

#[test]
fn a_flag_for_another_toolchain_is_a_usage_error() {
    let place = Place::new();
    place.project_built_by_fake_go(&guest());
    for (flag, value) in [("--features", "a"), ("--profile", "dist")] {
        place.wasmop(&["build", "p", flag, value]).fails_with(2, &[flag, "`go`", "use --tags and --ldflags"]);
    }
    place.wasmop(&["build", "p", "--no-default-features"]).fails_with(2, &["--no-default-features"]);
    let rust = place::GO_PROJECT.replace("\"go\"", "\"rust\"");
    place.write("r/wasmop.toml", rust.as_bytes());
    place.wasmop(&["build", "r", "--ldflags", "-X a.b=c"]).fails_with(2, &["--ldflags", "`cargo`", "--features"]);
    place.write("r/wasmop.toml", format!("{rust}[build]\ntags = [\"a\"]\n").as_bytes());
    place.wasmop(&["build", "r"]).fails_with(1, &["r/wasmop.toml:7", "unknown key `tags` in [build]", "features"]);
    place.write("r/wasmop.toml", format!("{rust}[build]\nprofile = \"a b\"\n").as_bytes());
    place
        .wasmop(&["build", "r"])
        .fails_with(1, &["r/wasmop.toml:7", "`a b` is not the name of a profile", "[profile]"]);
}
