//! Errors of `wasmop run` and `inspect` for bad input, through the program itself. Each message names the input and a
//! remedy. No test needs an API server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use wasmop_snapshot::StateDir;

use crate::sandbox::{self, Sandbox, closed_port, component, guest, package};

const MAKES_A_PACKAGE: &str = "wasmop build";

// Package files.

#[test]
fn a_file_that_is_not_wasm_is_refused_by_inspect_and_run() {
    let sandbox = Sandbox::new();
    for (name, content) in [("notes.txt", &b"hello"[..]), ("empty.wasm", b"")] {
        let file = sandbox.write(name, content);
        for verb in ["inspect", "run"] {
            sandbox.wasmop(&[verb, &file]).fails_with(1, &[name, "not a wasmop package", MAKES_A_PACKAGE]);
        }
    }
}

#[test]
fn a_missing_file_or_a_directory_is_named() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("projects");
    fs::create_dir(&dir).expect("makes it");
    for verb in ["inspect", "run"] {
        sandbox.wasmop(&[verb, "no-such.wasm"]).fails_with(1, &["no-such.wasm", MAKES_A_PACKAGE]);
        sandbox.wasmop(&[verb, &dir]).fails_with(1, &["projects", "is a directory", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_core_module_is_recognised() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("core.wasm", &guest());
    for verb in ["inspect", "run"] {
        sandbox.wasmop(&[verb, &file]).fails_with(1, &["core.wasm", "core module", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_component_of_another_world_is_recognised() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("other.wasm", &component());
    for verb in ["inspect", "run"] {
        sandbox
            .wasmop(&[verb, &file])
            .fails_with(1, &["other.wasm", "not a wasmop package", "other worlds", MAKES_A_PACKAGE]);
    }
}

#[test]
fn a_truncated_package_is_refused() {
    let sandbox = Sandbox::new();
    let whole = package("web");
    // The whole file is valid, so only the truncation is wrong.
    let file = sandbox.write("web.wasm", &whole);
    sandbox.wasmop(&["inspect", &file]).succeeds();
    for part in 1..16 {
        let file = sandbox.write("cut.wasm", &whole[..whole.len() * part / 16]);
        sandbox.wasmop(&["inspect", &file]).fails_with(1, &["cut.wasm"]);
    }
    let file = sandbox.write("cut.wasm", &whole[..whole.len() - 1]);
    sandbox.wasmop(&["run", &file]).fails_with(1, &["cut.wasm", "truncated", "build or copy it again"]);
}

#[test]
fn two_packages_of_one_name_are_both_named() {
    let sandbox = Sandbox::new();
    let (one, same) = (sandbox.write("one.wasm", &package("web")), sandbox.write("same.wasm", &package("web")));
    let mut other = package("web");
    // A custom section of another tool.
    other.extend(b"\0\x02\x01x");
    let other = sandbox.write("other.wasm", &other);
    let two_controllers = ["[controllers.web]", "[controllers.web-2]", "--config"];
    for (first, second, needles) in [
        (&one, &one, &["one.wasm", "is given twice", "leave one out"][..]),
        (&one, &same, &["one.wasm", "same.wasm", "are the same package, `web`", "leave one out"]),
        (&one, &other, &["one.wasm", "other.wasm", "are both named `web`", "leave one out"]),
    ] {
        sandbox.wasmop(&["run", first, second]).fails_with(1, needles);
        sandbox.wasmop(&["run", first, second]).fails_with(1, &two_controllers);
        // With the remedy, the next error is about something else.
        let config = format!("[controllers.web]\npackage = \"{first}\"\n[controllers.web-2]\npackage = \"{second}\"\n");
        let config = sandbox.write("two.toml", config.as_bytes());
        sandbox.wasmop(&["run", "--config", &config]).fails_with(1, &["no kubeconfig found"]);
    }
}

#[test]
fn an_invalid_package_does_not_keep_others_from_running() {
    let sandbox = Sandbox::new();
    let (good, bad) = (sandbox.write("good.wasm", &package("web")), sandbox.write("notes.wasm", b"hello"));
    for files in [[&good, &bad], [&bad, &good]] {
        sandbox.wasmop(&["run", files[0], files[1]]).fails_with(1, &["no kubeconfig found"]);
    }
    sandbox.wasmop(&["run", &bad]).fails_with(1, &["notes.wasm", "not a wasmop package"]);
}

#[test]
fn an_invalid_package_also_takes_a_name() {
    let sandbox = Sandbox::new();
    let (good, bad) = (sandbox.write("web.wasm", &package("web")), sandbox.write("old/web.wasm", b"hello"));
    for files in [[&good, &bad], [&bad, &good]] {
        let needles = ["/web.wasm", "old/web.wasm", "are both named `web`", "not a wasmop package", "leave one out"];
        sandbox.wasmop(&["run", files[0], files[1]]).fails_with(1, &needles);
    }
    sandbox.wasmop(&["run", &bad, &bad]).fails_with(1, &["is given twice", "not a wasmop package"]);
}

#[test]
fn namespaces_on_the_command_line_are_dns_labels() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    for namespaces in [&["-n", "a"][..], &["-n", "a,b"], &["-n", "a", "--namespace", "b,c"]] {
        sandbox.wasmop(&[&["run", &file], namespaces].concat()).fails_with(1, &["no kubeconfig found"]);
    }
    for (namespaces, why) in [("", "is empty"), ("A", "characters other than"), ("a,", "is empty"), ("a,B", "'B'")] {
        let (_, said) = sandbox.wasmop(&["run", &file, "-n", namespaces]).ends_with(2);
        assert!(said.contains("--namespace") && said.contains(why), "{namespaces:?}: {said}");
    }
}

// The configuration file.

#[test]
fn an_error_in_a_configuration_file_has_file_line_and_key() {
    let sandbox = Sandbox::new();
    sandbox.write("web.wasm", &package("web"));
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
        let file = sandbox.write("host.toml", content.as_bytes());
        sandbox.wasmop(&["run", "--config", &file]).fails_with(1, needles);
    }
    sandbox.wasmop(&["run", "--config", "no.toml"]).fails_with(1, &["no.toml", "docs/config.md"]);
}

// The cluster.

#[test]
fn without_a_kubeconfig_every_searched_path_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let home = sandbox.path("home/.kube/config");
    sandbox.wasmop(&["run", &file]).fails_with(1, &["no kubeconfig found", &home, "--kubeconfig"]);
    sandbox
        .wasmop(&["run", &file])
        .env("KUBECONFIG", &sandbox.path("not-there"))
        .fails_with(1, &["no kubeconfig found", "not-there", "--kubeconfig"]);
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", "gone.yaml"])
        .fails_with(1, &["gone.yaml", "cannot read the kubeconfig"]);
}

#[test]
fn an_unknown_context_is_an_error_with_the_known_ones() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let kubeconfig = sandbox.kubeconfig("https://127.0.0.1:1");
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--context", "prod"])
        .fails_with(1, &["\"prod\"", &kubeconfig, "it has test", "--context"]);
}

#[test]
fn an_unreachable_server_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let port = sandbox::closed_port();
    let kubeconfig = sandbox.kubeconfig(&format!("http://127.0.0.1:{port}"));
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig])
        .fails_with(1, &["cannot reach the API server", &format!("127.0.0.1:{port}"), "cluster is up"]);
}

// The state directory.

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let kubeconfig = sandbox.kubeconfig("http://127.0.0.1:1");
    // Root may write anywhere, but nobody can make a directory below a file.
    let below = format!("{}/state", sandbox.write("a-file", b""));
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &below])
        .fails_with(1, &[&below, "cannot write to the state directory", "--state-dir"]);
}

#[test]
fn a_state_directory_that_another_host_uses_is_refused() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let kubeconfig = sandbox.kubeconfig("http://127.0.0.1:1");
    let state = sandbox.path("state");
    let _held = StateDir::open(Path::new(&state)).expect("is free");
    sandbox
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
    let sandbox = Sandbox::new();
    sandbox.open_to_all();
    let file = sandbox.write("web.wasm", &package("web"));
    let server = format!("http://127.0.0.1:{}", closed_port());
    let kubeconfig = sandbox.kubeconfig(&server);
    // With a group (`fsGroup`), and like an `emptyDir` without one.
    for (name, mode) in [("group", 0o2775), ("everybody", 0o777)] {
        let state = sandbox.path(name);
        directory(&state, 0, 4321, mode);
        for start in ["first", "second"] {
            let run = sandbox.wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &state]);
            run.with_user(1234, 4321).fails_with(1, &["cannot reach the API server"]);
            let code = fs::metadata(Path::new(&state).join("code")).expect("was made");
            assert_eq!((code.uid(), code.mode() & 0o777), (1234, 0o700), "{name}, {start} start");
            // When a Pod restarts, Kubernetes lets the group write everything in its volume.
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
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    let kubeconfig = sandbox.kubeconfig(&format!("http://127.0.0.1:{}", closed_port()));
    let state = sandbox.path("state");
    directory(&state, 1234, 1234, 0o755);
    let remedy = format!("{state}/wasmop");
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &state])
        .fails_with(1, &[&state, "belongs to user 1234", &remedy, "chown -R 0 "]);
    sandbox
        .wasmop(&["run", &file, "--kubeconfig", &kubeconfig, "--state-dir", &remedy])
        .fails_with(1, &["cannot reach the API server"]);
}

#[test]
fn without_a_home_a_state_directory_must_be_given() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("web.wasm", &package("web"));
    sandbox.wasmop(&["run", &file]).without("HOME").fails_with(1, &["XDG_STATE_HOME", "--state-dir"]);
}
