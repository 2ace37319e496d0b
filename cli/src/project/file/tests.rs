//! Tables of project files with their values, and of mistakes with their errors.

use proptest::prelude::*;

use super::*;
use crate::error::render;
use crate::output::Paint;
use crate::toml_file::damaged::damaged;

const SMALLEST: &str = "[package]\nname = \"web\"\nversion = \"0.1.0\"\nlanguage = \"go\"\n";

const EVERY_KEY: &str = r#"
external-hosts = ["api.example.com", "http://10.0.0.7:9000"]
[package]
name = "web"
version = "1.2.3-rc.1"
language = "rust"
toolchain = "cargo"
[build]
bin = "controller"
features = ["a", "b"]
default-features = false
profile = "dist"
mode = "guest-driven"
crds = ["crds/*.yaml"]
[[permissions]]
api-groups = ["apps"]
resources = ["deployments"]
verbs = ["get", "list", "watch"]
resource-names = ["a"]
[[permissions]]
non-resource-urls = ["/version"]
verbs = ["get"]
[limits]
memory = "64MiB"
cpu-per-step = "300ms"
"#;

fn read(text: &str) -> Result<Project, String> {
    parse(PathBuf::from("/p"), PathBuf::from("p/wasmop.toml"), text)
        .map_err(|failure| render(&failure.into(), Paint::PLAIN))
}

#[test]
fn the_smallest_project_gets_the_defaults() {
    let project = read(SMALLEST).expect("valid");
    assert_eq!(project.name, "web");
    assert_eq!(project.toolchain, Toolchain::Go);
    assert_eq!(project.package, ".");
    assert_eq!(project.limits, Limits::default());
    assert!(project.permissions.is_empty());
}

#[test]
fn every_key_is_read() {
    let project = read(EVERY_KEY).expect("valid");
    assert_eq!(project.bin.as_deref(), Some("controller"));
    let options = BuildOptions {
        features: vec!["a".into(), "b".into()],
        default_features: false,
        profile: Some("dist".into()),
        mode: Some(Mode::GuestDriven),
        ..BuildOptions::default()
    };
    assert_eq!(project.options, options);
    assert_eq!(project.crds, ["crds/*.yaml"]);
    assert_eq!(project.permissions.len(), 2);
    let hosts: Vec<_> = project.external_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["https://api.example.com", "http://10.0.0.7:9000"]);
    assert_eq!(project.permissions[0].resource_names, ["a"]);
    assert_eq!(project.permissions[1].non_resource_urls, ["/version"]);
    assert_eq!(project.limits, Limits { memory_bytes: 64 << 20, cpu_per_step_ns: 300_000_000, ..Limits::default() });
}

#[test]
fn a_component_may_come_from_any_language_and_command() {
    let build = "[build]\ncomponent = \"app.wasm\"\ncommand = [\"make\", \"app.wasm\"]\n";
    for (language, toolchain) in
        [("python", ""), ("javascript", ""), ("other", ""), ("rust", "toolchain = \"component\"\n")]
    {
        let text = format!("{}{toolchain}{build}", SMALLEST.replace("\"go\"", &format!("\"{language}\"")));
        let project = read(&text).expect(&text);
        assert_eq!(project.toolchain, Toolchain::Component);
        assert_eq!(
            (project.component.as_str(), &project.command[..]),
            ("app.wasm", &["make", "app.wasm"].map(str::to_owned)[..])
        );
    }
}

#[test]
fn each_mistake_is_an_error_with_place_and_remedy() {
    let rule = "[[permissions]]\napi-groups = [\"\"]\n";
    for (text, needles) in [
        (
            format!("{SMALLEST}[limits]\nmemmory = \"1MiB\"\n"),
            vec!["p/wasmop.toml:6: unknown key `memmory` in [limits]", "help: did you mean `memory`?", "cpu-per-step"],
        ),
        (
            format!("{SMALLEST}colour = 1\n"),
            vec![
                "p/wasmop.toml:5: unknown key `colour` in [package]",
                "help: known keys in [package]: name, version, language, toolchain",
            ],
        ),
        (format!("{SMALLEST}[limit]\n"), vec!["unknown section `limit`", "did you mean `limits`?"]),
        (
            format!("{SMALLEST}[build]\nbin = \"x\"\n"),
            vec!["unknown key `bin` in [build]", "package, tags, ldflags, crds"],
        ),
        (
            format!("{SMALLEST}[limits]\nmemory = 3\n"),
            vec!["p/wasmop.toml:6: `memory` in [limits]: expected a string", "help:"],
        ),
        (
            format!("{SMALLEST}[limits]\nmemory = \"12 parsecs\"\n"),
            vec!["`memory` in [limits]: ", "12 parsecs", "help: write a number and a unit"],
        ),
        (format!("{SMALLEST}[limits]\nmemory = \"8GiB\"\n"), vec!["`8GiB` is out of range", "help: give between"]),
        (
            format!("{SMALLEST}[limits]\ncpu-per-step = \"soon\"\n"),
            vec!["`cpu-per-step` in [limits]: ", "soon", "300ms"],
        ),
        (
            format!("{SMALLEST}{rule}resources = [\"configmaps\"]\nverbs = [\"lst\"]\n"),
            vec!["`lst` is not a verb", "did you mean `list`?"],
        ),
        (
            format!("{SMALLEST}{rule}verbs = [\"get\"]\n"),
            vec!["`resources` in [[permissions]]", "help: name resources"],
        ),
        (format!("{SMALLEST}{rule}resources = [\"pods\"]\n"), vec!["`verbs` in [[permissions]]", "help: verbs are"]),
        (
            format!("{SMALLEST}{rule}apiGroups = [\"\"]\n"),
            vec!["unknown key `apiGroups` in [[permissions]]", "did you mean `api-groups`?"],
        ),
        (SMALLEST.replace("\"go\"", "\"goo\""), vec!["unknown language `goo`", "did you mean `go`?"]),
        (
            SMALLEST.replace("\"go\"", "\"go\"\ntoolchain = \"cargo\""),
            vec!["`cargo` does not build Go", "go, tinygo, component"],
        ),
        (
            SMALLEST.replace("\"go\"", "\"go\"\ntoolchain = \"gcc\""),
            vec!["unknown toolchain `gcc`", "help: use one of: cargo, go, tinygo"],
        ),
        (
            SMALLEST.replace("\"go\"", "\"python\""),
            vec!["p/wasmop.toml: `component` is missing in [build]", "help: name the component"],
        ),
        (
            SMALLEST.replace("\"go\"", "\"python\"\ntoolchain = \"go\""),
            vec!["`go` does not build Python", "for Python use: component"],
        ),
        (SMALLEST.replace("0.1.0", "one"), vec!["`version` in [package]: `one` is not a semantic version", "0.1.0"]),
        (
            SMALLEST.replace("web", "Web_1"),
            vec!["`name` in [package]: `Web_1` has characters other than", "help: use a DNS label"],
        ),
        (
            SMALLEST.replace("version", "# version"),
            vec!["p/wasmop.toml:1: `version` is missing in [package]", "help: add `version = \"0.1.0\"`"],
        ),
        (String::new(), vec!["the [package] section is missing", "help: add [package]"]),
        ("[package\n".to_owned(), vec!["p/wasmop.toml:1: ", "help: correct the TOML"]),
    ] {
        let error = read(&text).expect_err(&text);
        for needle in needles {
            assert!(error.contains(needle), "{needle:?} is not in:\n{error}\nfor:\n{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_file_is_read_or_refused_with_its_name_and_a_remedy(text in damaged(EVERY_KEY)) {
        if let Err(shown) = read(&text) {
            prop_assert!(shown.contains("p/wasmop.toml") && shown.contains("help: "), "{}", shown);
        }
    }
}
