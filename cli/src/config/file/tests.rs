use std::collections::BTreeSet;

use proptest::prelude::*;
use wasmop_core::election::Timing;
use wasmop_core::permissions::Grant;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;
use wasmop_vm::wasi::WasiGrant;

use super::*;
use crate::config::ControllerKeys;
use crate::config::wasi::{DirectoryKeys, WasiKeys};
use crate::error::render;
use crate::logging::LogFormat;
use crate::output::Paint;
use crate::rules::RuleKeys;
use crate::toml_file::damaged::damaged;
use crate::toml_file::known_keys::known_keys;

const DOCS: &str = include_str!("../../../../docs/config.md");

const EVERY_KEY: &str = r#"
kubeconfig = "kubeconfig"
context = "edge"
namespace = "demo"
state-dir = "/var/lib/wasmop"
suspend-policy = "after=1s"
memory-budget = "64MiB"
cache-memory = "32MiB"
record-trace = "../trace.csv"
durability = "none"
encryption-key-file = "key"
metrics-address = ":8080"
otlp-endpoint = "http://127.0.0.1:4318"
shutdown-timeout = "5s"
log-format = "json"
leader-elect = true
leader-elect-lease-duration = "30s"
leader-elect-renew-deadline = "20s"
leader-elect-retry-period = "4s"
leader-elect-resource-name = "edge"
leader-elect-resource-namespace = "wasmop"
verbose = 2

[controllers.website]
package = "packages/website.wasm"
suspend-policy = "never"
service-account = "demo/website"
external-hosts = ["https://*.example.com", "http://10.0.0.7"]
private-addresses = ["10.96.0.0/12", "::1"]

[[controllers.website.grant]]
api-groups = ["demo.dev"]
resources = ["websites"]
verbs = ["get"]

[controllers.certs]
grant = "all"
external-hosts = "all"

[controllers.nothing]
grant = []
external-hosts = []
"#;

fn grant(config: &Config, name: &str) -> Grant {
    config.controllers[name].keys.to_grant()
}

fn wasi(config: &Config, name: &str) -> WasiGrant {
    config.controllers[name].keys.wasi.clone().unwrap_or_default().to_grant()
}

fn read(text: &str) -> Result<Config, Failure> {
    parse(Path::new("host.toml"), Path::new("/etc/wasmop"), text)
}

#[test]
fn every_key_is_read_and_paths_are_relative_to_the_file() {
    let config = read(EVERY_KEY).unwrap();
    assert_eq!(config.host.kubeconfig, Some("/etc/wasmop/kubeconfig".into()));
    assert_eq!(
        (config.host.context.as_deref(), config.host.namespace.as_deref()),
        (Some("edge"), Some(&["demo".to_owned()][..]))
    );
    assert_eq!(config.host.state_dir, Some("/var/lib/wasmop".into()));
    assert_eq!(config.host.suspend_policy, "after=1s".parse().ok());
    assert_eq!(config.host.memory_budget, Some(64 << 20));
    assert_eq!(config.host.cache_memory, Some(32 << 20));
    assert_eq!(config.host.record_trace, Some("/etc/wasmop/../trace.csv".into()));
    assert_eq!(config.host.durability, "none".parse().ok());
    assert_eq!(config.host.encryption_key_file, Some("/etc/wasmop/key".into()));
    assert_eq!(config.host.metrics_address.as_deref(), Some(":8080"));
    assert_eq!(config.host.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    assert_eq!(config.host.shutdown_timeout, Some(std::time::Duration::from_secs(5)));
    assert_eq!((config.host.log_format, config.host.verbose), (Some(LogFormat::Json), Some(2)));
    let group = config.host.election_group().unwrap().unwrap();
    assert_eq!((&*group.name, group.namespace.as_deref()), ("edge", Some("wasmop")));
    let seconds = std::time::Duration::from_secs;
    let Timing { lease_duration, renew_deadline, retry_period } = group.timing;
    assert_eq!((lease_duration, renew_deadline, retry_period), (seconds(30), seconds(20), seconds(4)));
    let website = &config.controllers["website"].keys;
    let website_grant = website.to_grant();
    assert_eq!(website.package, Some("/etc/wasmop/packages/website.wasm".into()));
    assert_eq!(website.suspend_policy, Some(Policy::Never));
    assert_eq!(website_grant.service_account.as_ref().unwrap().to_string(), "demo/website");
    assert_eq!(website_grant.rules.as_ref().unwrap().len(), 1);
    assert_eq!(grant(&config, "certs"), Grant::all());
    let external = &website_grant.external;
    let hosts: Vec<_> = external.hosts.iter().flat_map(|hosts| hosts.iter()).map(ToString::to_string).collect();
    assert_eq!(hosts, ["https://*.example.com", "http://10.0.0.7"]);
    let ranges: Vec<_> = external.private_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/12", "::1/128"]);
    assert_eq!(grant(&config, "nothing").external.hosts.as_deref(), Some(&[][..]));
    assert_eq!(grant(&config, "nothing").rules.as_deref(), Some(&[][..]));
}

#[test]
fn an_error_names_the_file_the_line_the_key_and_a_remedy() {
    for (text, message, help) in [
        ("\nnamspace = \"a\"", "host.toml:2: unknown key `namspace` in the configuration file", "`namespace`"),
        ("= 1", "host.toml:1: ", "docs/config.md"),
        ("namespace = 1", "host.toml:1: `namespace` in the configuration file: expected a string", "give a string"),
        ("memory-budget = \"64\"", "`memory-budget` in the configuration file: `64` is not a size", "`64MiB`"),
        ("durability = \"x\"", "`durability` in the configuration file: `x` is no durability", "use event"),
        ("suspend-policy = \"x\"", "`suspend-policy` in the configuration file: ", "`adaptive`"),
        ("log-format = \"xml\"", "`xml` is not a log format", "`json`"),
        ("leader-elect = 1", "`leader-elect` in the configuration file: expected `true` or `false`", "`true`"),
        ("leader-elect-retry-period = \"2\"", "`leader-elect-retry-period` in the configuration file", "`15s`"),
        ("verbose = 9", "`verbose` in the configuration file: `9` is out of range", "from 0 to 3"),
        ("verbose = \"1\"", "expected a number", "give a number"),
        ("controllers = 1", "`controllers` in the configuration file: expected a table", "[controllers]"),
        ("[controllers]\nx = 1", "host.toml:2: `x` in [controllers]: expected a table", "[controllers.x]"),
        ("[controllers.X]", "`X` in [controllers]: the name has characters other", "DNS label"),
        ("[controllers.x]\n\npakage = \"a\"", "host.toml:3: unknown key `pakage` in [controllers.x]", "`package`"),
        (
            "[controllers.x]\nservice-account = \"website\"",
            "host.toml:2: `service-account` in [controllers.x]: `website` is not a ServiceAccount",
            "NAMESPACE/NAME",
        ),
        ("[controllers.x]\ngrant = \"al\"", "`grant` in [controllers.x]: `al` is no grant", "[[controllers.x.grant]]"),
        ("[controllers.x]\nexternal-hosts = \"a\"", "`external-hosts` in [controllers.x]: `a` is no grant", "\"all\""),
        (
            "[controllers.x]\nexternal-hosts = [\"https://a.example/b\"]",
            "host.toml:2: `external-hosts` in [controllers.x]: \"https://a.example/b\" is not a valid external host: nothing may follow",
            "write it like `https://api.example.com`",
        ),
        (
            "[controllers.x]\nprivate-addresses = [\"10.0.0.1/8\"]",
            "`private-addresses` in [controllers.x]: `10.0.0.1/8` is no range of addresses",
            "`10.96.0.0/12`",
        ),
        ("[controllers.x]\ngrant = true", "expected a list of tables", "[[controllers.x.grant]]"),
        (
            "[controllers.x]\n[[controllers.x.grant]]\nresources = [\"pods\"]\nverbs = [\"read\"]",
            "host.toml:4: `verbs` in [[controllers.x.grant]]: `read` is not a verb",
            "verbs are",
        ),
        ("[controllers.x.wasi]\nfiles = []", "host.toml:2: unknown key `files` in [controllers.x.wasi]", "directories"),
        (
            "[controllers.x.wasi]\nenvironment.A = \"1\"",
            "`environment` in [controllers.x.wasi]: ",
            "[controllers.x.env]",
        ),
        (
            "[[controllers.x.wasi.directories]]\nsource = \"a\"",
            "`destination` is missing in [[controllers.x.wasi.directories]]",
            "destination = \"/data\"",
        ),
        (
            "[[controllers.x.wasi.directories]]\nsource = \"a\"\ndestination = \"b\"",
            "host.toml:3: `destination` in [[controllers.x.wasi.directories]]: `b` is not absolute",
            "`/data`",
        ),
        (
            "[[controllers.x.wasi.directories]]\nsource = \"a\"\ndestination = \"/b\"\nwritable = 1",
            "expected `true` or `false`",
            "`true`",
        ),
        (
            "[controllers.x]\n[[controllers.x.grant]]\nverb = [\"get\"]",
            "host.toml:3: unknown key `verb` in [[controllers.x.grant]]",
            "`verbs`",
        ),
    ] {
        let error = anyhow::Error::from(read(text).unwrap_err());
        let (problem, remedy) = crate::error::problem_and_help(&error);
        assert!(problem.contains(message), "{text}: {problem}");
        assert!(remedy.contains(help), "{text}: {remedy}");
    }
}

#[test]
fn an_empty_file_sets_nothing() {
    let config = read("# nothing\n").unwrap();
    assert!(config.controllers.is_empty() && config.host.namespace.is_none() && config.host.verbose.is_none());
}

/// Keys in the first column of the tables below a heading of `docs/config.md`.
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let section = DOCS.split("\n## ").find(|section| section.starts_with(heading)).expect("has the section");
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key).collect()
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let keys = |keys: BTreeSet<&'static str>, elsewhere: &[&str]| -> BTreeSet<&'static str> {
        keys.into_iter().filter(|key| !elsewhere.contains(key)).collect()
    };
    assert_eq!(documented("The host"), keys(known_keys::<HostKeys>(), &["controllers", "limits"]));
    assert_eq!(documented("`[controllers.NAME]`"), known_keys::<ControllerKeys>());
    assert_eq!(documented("`[[controllers.NAME.grant]]`"), known_keys::<RuleKeys>());
    assert_eq!(documented("`[controllers.NAME.wasi]`"), keys(known_keys::<WasiKeys>(), &["environment"]));
    assert_eq!(documented("`[[controllers.NAME.wasi.directories]]`"), known_keys::<DirectoryKeys>());
}

#[test]
fn the_example_in_the_documentation_can_be_read() {
    let example = DOCS.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("has one");
    let config = read(example).unwrap();
    assert!(config.controllers.len() > 1 && config.host.state_dir.is_some());
}

#[test]
fn wasi_directories_are_relative_to_the_file_and_read_only_by_default() {
    let text = r#"
        [controllers.x.wasi]
        [[controllers.x.wasi.directories]]
        source = "rules"
        destination = "/rules"
        [[controllers.x.wasi.directories]]
        source = "/scratch"
        destination = "/tmp"
        writable = true
    "#;
    let granted = wasi(&read(text).unwrap(), "x");
    let shown: Vec<_> = granted
        .directories
        .iter()
        .map(|d| (d.source.is_absolute(), d.source.ends_with("rules"), d.destination.as_str(), d.writable))
        .collect();
    assert_eq!(shown, [(true, true, "/rules", false), (true, false, "/tmp", true)]);
    assert_eq!(wasi(&read("[controllers.x]").unwrap(), "x"), WasiGrant::default());
}

#[test]
fn limits_are_caps_and_other_limits_are_unlimited() {
    let limits = read("[limits]\nmemory = \"64MiB\"").unwrap().host.limits.unwrap().over(Limits::NONE);
    assert_eq!(limits, Limits { memory_bytes: 64 << 20, ..Limits::NONE });
    assert_eq!(read("").unwrap().host.limits, None);
    let error = read("[limits]\nmemoy = \"64MiB\"").unwrap_err().to_string();
    assert!(error.contains("`memoy` in [limits]"), "{error}");
}

#[test]
fn environment_arguments_log_level_and_namespaces_belong_to_one_controller() {
    let text = r#"
        namespace = "a"
        [controllers.x]
        namespace = ["c", "b", "c"]
        args = ["--image=x", ""]
        log-level = "debug"
        [controllers.x.env]
        RELATED_IMAGE = "registry/x:1"
        EMPTY = ""
        [controllers.y]
    "#;
    let config = read(text).unwrap();
    let (x, y) = (&config.controllers["x"].keys, &config.controllers["y"].keys);
    assert_eq!(config.host.namespace.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(
        (x.namespace.as_deref(), x.args.as_deref()),
        (Some(&["b".into(), "c".into()][..]), Some(&["--image=x".into(), "".into()][..]))
    );
    assert_eq!(x.log_level, Some(tracing::level_filters::LevelFilter::DEBUG));
    assert_eq!(
        x.env.iter().flatten().map(|(n, v)| (&**n, &**v)).collect::<Vec<_>>(),
        [("EMPTY", ""), ("RELATED_IMAGE", "registry/x:1")]
    );
    assert_eq!((&y.namespace, &y.args, y.log_level, &y.env), (&None, &None, None, &None));
    for (text, problem) in [
        ("namespace = []", "names none"),
        ("namespace = \"a,b\"", "other than a-z"),
        ("[controllers.x]\nnamespace = [\"A\"]", "`A`"),
        ("[controllers.x]\nlog-level = \"verbose\"", "`verbose` is not a log level"),
        ("[controllers.x]\nargs = \"a b\"", "a list of strings"),
        ("[controllers.x]\nenv = [\"A=1\"]", "a table"),
        ("[controllers.x.env]\n\"A=B\" = \"1\"", "contains `=`"),
        ("[controllers.x.env]\nA = 1", "expected a string"),
        ("[controllers.x.env]\nA = \"\\u0000\"", "NUL"),
        ("[controllers.x.wasi]\nenvironment = { A = \"1\" }", "`environment`"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_file_is_read_or_refused_with_its_name_and_a_remedy(text in damaged(EVERY_KEY)) {
        if let Err(failure) = read(&text) {
            let shown = render(&failure.into(), Paint::PLAIN);
            prop_assert!(shown.contains("host.toml") && shown.contains("help: "), "{}", shown);
        }
    }
}
