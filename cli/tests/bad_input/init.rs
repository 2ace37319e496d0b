//! Errors of `wasmop init`, and files that it cannot understand.

use std::fs;

use crate::sandbox::Sandbox;

const MAIN: &[u8] = b"package main\n\nfunc main() {}\n";

#[test]
fn a_directory_without_sources_is_named() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("p")).expect("makes it");
    sandbox.wasmop(&["init", "p"]).fails_with(1, &["no Cargo.toml or go.mod in `p`", "wasmop new"]);
    sandbox.wasmop(&["init", "q"]).fails_with(1, &["there is no directory `q`"]);
    sandbox.write("p/go.mod", b"module example.com/web\n");
    sandbox.wasmop(&["init", "p"]).fails_with(1, &["`p` has no main package", "--package"]);
    sandbox.wasmop(&["init", "p", "--lang", "rust"]).fails_with(1, &["no Cargo.toml in `p`"]);
}

#[test]
fn an_existing_file_stays_as_it_is() {
    let sandbox = Sandbox::new();
    sandbox.write("p/go.mod", b"module example.com/web\n");
    sandbox.write("p/main.go", MAIN);
    let file = sandbox.write("p/wasmop.toml", b"mine");
    sandbox.wasmop(&["init", "p"]).fails_with(1, &["`p/wasmop.toml` exists", "--force", "--dry-run"]);
    assert_eq!(fs::read(&file).expect("is there"), b"mine");
    let (stdout, _) = sandbox.wasmop(&["init", "p", "--dry-run"]).succeeds();
    assert!(stdout.contains("name = \"web\""), "{stdout}");
    assert_eq!(fs::read(&file).expect("is there"), b"mine");
    sandbox.wasmop(&["init", "p", "--force"]).succeeds();
    assert_eq!(fs::read_to_string(&file).expect("is there"), stdout);
}

#[test]
fn an_open_choice_is_an_error_with_the_choices_and_the_flag() {
    let sandbox = Sandbox::new();
    sandbox.write("p/go.mod", b"module example.com/web\n");
    sandbox.write("p/cmd/a/main.go", MAIN);
    sandbox.write("p/cmd/b/main.go", MAIN);
    sandbox.wasmop(&["init", "p"]).fails_with(2, &["several main packages: ./cmd/a, ./cmd/b", "--package DIR"]);
    sandbox.wasmop(&["init", "p", "--package", "./cmd/c"]).fails_with(1, &["`./cmd/c`", "./cmd/a, ./cmd/b"]);
    sandbox
        .wasmop(&["init", "p", "--bin", "a", "--lang", "go"])
        .fails_with(2, &["`--bin` and `--example` are for Rust", "--package"]);
    sandbox.wasmop(&["init", "p", "--package", "./cmd/a", "--name", "A_B"]).fails_with(2, &["`A_B`", "DNS label"]);
    sandbox.write("p/Cargo.toml", b"[package]\nname = \"web\"\n");
    sandbox.wasmop(&["init", "p"]).fails_with(2, &["a Cargo.toml and a go.mod", "--lang rust"]);
    sandbox.write("p/src/bin/one.rs", b"");
    sandbox.write("p/src/bin/two.rs", b"");
    sandbox.wasmop(&["init", "p", "--lang", "rust"]).fails_with(2, &["several binaries: one, two", "--bin NAME"]);
    sandbox.wasmop(&["init", "p", "--bin", "three"]).fails_with(1, &["no binary `three`", "one, two"]);
    sandbox.write("p/Cargo.toml", b"[package\n");
    sandbox.wasmop(&["init", "p", "--lang", "rust"]).fails_with(1, &["p/Cargo.toml", "as TOML"]);
}

#[test]
fn files_that_are_not_understood_are_skipped_and_listed() {
    let sandbox = Sandbox::new();
    sandbox.write("p/go.mod", b"module example.com/web\n");
    sandbox.write("p/main.go", MAIN);
    sandbox.write("p/config/binary.yaml", b"\xff\xfe\x00");
    sandbox.write("p/config/broken.yaml", b"kind: Role\nrules: [\n");
    sandbox.write("p/config/deep.yaml", format!("kind: Role\nrules: {}", "[".repeat(100_000)).as_bytes());
    sandbox.write("p/config/bomb.yaml", bomb().as_bytes());
    sandbox.write(
        "p/config/odd.yaml",
        b"kind: Role\nrules: {a: 1}\nmetadata: [x]\n---\n- kind: Role\n---\nkind: Deployment\nspec: 3\n",
    );
    sandbox.write("p/chart/Chart.yaml", b"name: web\n");
    sandbox.write("p/chart/templates/role.yaml", b"{{ if .Values.x }}\nkind: Role\n");
    std::os::unix::fs::symlink(sandbox.path("p"), sandbox.path("p/loop")).expect("links");
    let (stdout, stderr) = sandbox.wasmop(&["init", "p", "--dry-run"]).succeeds();
    assert!(stdout.contains("# No rule was found."), "{stdout}");
    for needle in ["config/binary.yaml", "config/broken.yaml", "config/deep.yaml", "chart/templates/role.yaml"] {
        assert!(stderr.contains(needle), "{needle} is missing in\n{stderr}");
    }
}

/// YAML whose aliases expand to more than any memory.
fn bomb() -> String {
    let levels = (1..30).map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(9)));
    format!("kind: Role\na0: &a0 [x]\n{}", levels.collect::<String>())
}

#[test]
fn names_in_files_cannot_write_keys_or_control_the_terminal() {
    let sandbox = Sandbox::new();
    sandbox.write("p/go.mod", b"module example.com/web\n");
    sandbox.write("p/main.go", MAIN);
    let role = "kind: Role\nmetadata: {name: \"x\\n[limits]\\nmemory = 1 \\e[2J\"}\n\
                rules: [{apiGroups: [\"\"], resources: [\"a\\\"]\\nb\"], verbs: [get]}]\n";
    sandbox.write("p/config/role.yaml", role.as_bytes());
    let (stdout, stderr) = sandbox.wasmop(&["init", "p", "--dry-run"]).succeeds();
    assert!(stdout.contains(r#"resources = ["a\"]\nb"]"#), "{stdout}");
    assert!(
        !stdout.contains("\n[limits]") && !stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'),
        "{stdout}{stderr}"
    );
}
