use std::time::Duration;

use tracing::level_filters::LevelFilter;
use wasmop_core::service_account::ServiceAccount;
use wasmop_core::watch::LimitPlace;

use super::*;
use crate::environment;
use crate::logging::LogFormat;
use crate::toml_file::value::AllOr;

fn controller(package: Option<&str>) -> ControllerKeys {
    ControllerKeys { package: package.map(Into::into), ..ControllerKeys::default() }
}

fn config(controllers: &[(&str, ControllerKeys)]) -> Config {
    let controller = |keys: &ControllerKeys| Controller { place: "host.toml:7".into(), keys: keys.clone() };
    let controllers = controllers.iter().map(|(name, keys)| ((*name).to_owned(), controller(keys)));
    Config { controllers: controllers.collect(), ..Config::default() }
}

/// Keys as the configuration file has them.
fn keys<T: serde::de::DeserializeOwned>(toml: &str) -> T {
    toml::from_str(toml).unwrap()
}

fn plan(flags: &Flags, config: &Config, given: &[&str]) -> Result<Plan, Failure> {
    let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
    Plan::new(flags, config, &given, Some(5))
}

#[test]
fn flags_take_precedence_over_the_file_and_the_file_over_defaults() {
    let file = Config {
        host: HostKeys {
            namespace: Some(vec!["file".into()]),
            context: Some("file".into()),
            memory_budget: Some(1),
            durability: "none".parse().ok(),
            verbose: Some(1),
            suspend_policy: Some(Policy::Never),
            ..HostKeys::default()
        },
        ..config(&[("a", controller(Some("/a.wasm")))])
    };
    let flags = Flags {
        host: HostKeys {
            namespace: Some(vec!["flag".into()]),
            memory_budget: Some(2),
            verbose: Some(2),
            suspend_policy: Some(Policy::Immediate),
            ..HostKeys::default()
        },
        ..Flags::default()
    };
    let from_file = plan(&Flags::default(), &file, &[]).unwrap();
    assert_eq!(
        (from_file.host.namespace.as_deref(), from_file.host.context.as_deref()),
        (Some(&["file".to_owned()][..]), Some("file"))
    );
    assert_eq!((from_file.settings.memory_budget, from_file.settings.policy), (Some(1), Policy::Never));
    assert_eq!((from_file.host.durability, from_file.verbose), ("none".parse().ok(), 1));
    let both = plan(&flags, &file, &[]).unwrap();
    assert_eq!(
        (both.host.namespace.as_deref(), both.host.context.as_deref()),
        (Some(&["flag".to_owned()][..]), Some("file"))
    );
    assert_eq!((both.settings.memory_budget, both.settings.policy, both.verbose), (Some(2), Policy::Immediate, 2));
    let neither = plan(&Flags::default(), &Config::default(), &["a"]).unwrap();
    assert_eq!((neither.settings.memory_budget, neither.settings.policy), (Some(5), Policy::default()));
    assert_eq!(neither.settings.controllers["a"].grant, Grant::all());
}

#[test]
fn the_policy_that_names_a_controller_takes_precedence() {
    let named = |policy| Policies { named: [("a".to_owned(), policy)].into(), ..Policies::default() };
    let forced = Policies { forced: Some(Policy::Immediate), ..named(Policy::Never) };
    let file = |policy| config(&[("a", ControllerKeys { suspend_policy: policy, ..controller(Some("/a.wasm")) })]);
    for (for_all, policies, of_file, expected) in [
        (None, Policies::default(), None, None),
        (None, Policies::default(), Some(Policy::Never), Some(Policy::Never)),
        (None, named(Policy::Immediate), Some(Policy::Never), Some(Policy::Immediate)),
        (None, forced, Some(Policy::Never), Some(Policy::Immediate)),
        // A policy for all controllers names none.
        (Some(Policy::Immediate), Policies::default(), Some(Policy::Never), Some(Policy::Never)),
    ] {
        let host = HostKeys { suspend_policy: for_all, ..HostKeys::default() };
        let flags = Flags { host, policies, ..Flags::default() };
        assert_eq!(plan(&flags, &file(of_file), &[]).unwrap().settings.controllers["a"].policy, expected);
    }
}

#[test]
fn packages_come_from_the_file_from_arguments_or_from_both() {
    let file = config(&[("a", controller(Some("/a.wasm"))), ("b", controller(None))]);
    let both = plan(&Flags::default(), &file, &["b", "c"]).unwrap();
    assert_eq!(both.packages.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(both.settings.controllers.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    // A package on the command line takes precedence over the file.
    assert!(plan(&Flags::default(), &file, &["a", "b"]).unwrap().packages.is_empty());

    let message = |error: Failure| crate::error::problem_and_help(&error.into());
    let (problem, help) = message(plan(&Flags::default(), &file, &["c"]).unwrap_err());
    assert!(problem.starts_with("host.toml:7: [controllers.b] has no `package`"), "{problem}");
    assert!(help.contains("package ="), "{help}");
    let (problem, help) = message(plan(&Flags::default(), &Config::default(), &[]).unwrap_err());
    assert!(problem.contains("no package") && help.contains("[controllers.NAME]"), "{problem} {help}");
    let flags = Flags {
        policies: Policies { named: [("x".to_owned(), Policy::Never)].into(), ..Policies::default() },
        ..Flags::default()
    };
    let (problem, help) = message(plan(&flags, &file, &["b"]).unwrap_err());
    assert!(problem.contains("`x`") && help.contains("`a`, `b`"), "{problem} {help}");
}

#[test]
fn only_what_a_running_host_cannot_follow_needs_a_restart() {
    let file = || config(&[("a", controller(Some("/a.wasm"))), ("b", controller(Some("/b.wasm")))]);
    let before = plan(&Flags::default(), &file(), &[]).unwrap();
    let after = |change: &dyn Fn(&mut Config)| {
        let mut file = file();
        change(&mut file);
        plan(&Flags::default(), &file, &[]).unwrap().needs_restart(&before)
    };
    assert!(after(&|_| ()).is_empty());
    let followed = after(&|file| {
        file.host.suspend_policy = Some(Policy::Never);
        file.host.memory_budget = Some(1 << 20);
        file.host.verbose = Some(1);
        let a = &mut file.controllers.get_mut("a").unwrap().keys;
        a.suspend_policy = Some(Policy::Immediate);
        a.grant = Some(AllOr::Only(Vec::new()));
        a.service_account = "a/b".parse::<ServiceAccount>().ok();
    });
    assert!(followed.is_empty(), "{followed:?}");
    for (key, change) in [
        ("kubeconfig", &(|file: &mut Config| file.host.kubeconfig = Some("/k".into())) as &dyn Fn(&mut Config)),
        ("context", &|file| file.host.context = Some("c".into())),
        ("namespace", &|file| file.host.namespace = Some(vec!["n".into()])),
        ("state-dir", &|file| file.host.state_dir = Some("/s".into())),
        ("record-trace", &|file| file.host.record_trace = Some("/t".into())),
        ("durability", &|file| file.host.durability = "none".parse().ok()),
        ("encryption-key-file", &|file| file.host.encryption_key_file = Some("/e".into())),
        ("shutdown-timeout", &|file| file.host.shutdown_timeout = Some(Duration::from_secs(1))),
        ("metrics-address", &|file| file.host.metrics_address = Some(":1".into())),
        ("otlp-endpoint", &|file| file.host.otlp_endpoint = Some("http://a:4318".into())),
        ("log-format", &|file| file.host.log_format = Some(LogFormat::Json)),
        ("leader-elect", &|file| file.host.leader_elect = Some(true)),
        ("leader-elect-retry-period", &|file| file.host.leader_elect_retry_period = Some(Duration::from_secs(1))),
        ("limits", &|file| file.host.limits = Some(keys("memory = \"1MiB\""))),
        ("controllers.a.package", &|file| file.controllers.get_mut("a").unwrap().keys.package = Some("/x".into())),
        ("controllers.a.wasi", &|file| {
            let wasi = keys("directories = [{ source = '/a', destination = '/a' }]");
            file.controllers.get_mut("a").unwrap().keys.wasi = Some(wasi);
        }),
        ("controllers.a.env", &|file| {
            file.controllers.get_mut("a").unwrap().keys.env = Some([("A".into(), "b".into())].into());
        }),
        ("controllers.a.args", &|file| file.controllers.get_mut("a").unwrap().keys.args = Some(Vec::new())),
        ("controllers.a.log-level", &|file| {
            file.controllers.get_mut("a").unwrap().keys.log_level = Some(LevelFilter::DEBUG);
        }),
        ("controllers.a.namespace", &|file| {
            file.controllers.get_mut("a").unwrap().keys.namespace = Some(vec!["n".into()])
        }),
        ("controllers.b", &|file| drop(file.controllers.remove("b"))),
        ("controllers.c", &|file| file.controllers.extend(config(&[("c", controller(Some("/c.wasm")))]).controllers)),
    ] {
        assert_eq!(after(change), [key]);
    }
}

#[test]
fn the_environment_and_arguments_of_flags_take_precedence_over_the_file() {
    let env = |text: &str| -> BTreeMap<String, String> {
        text.split_whitespace().map(|text| environment::variable(text).unwrap()).collect()
    };
    let file = config(&[(
        "a",
        ControllerKeys {
            env: Some(env("A=file B=file")),
            args: Some(vec!["--file".into()]),
            ..controller(Some("/a.wasm"))
        },
    )]);
    let settings = |flags: &Flags| plan(flags, &file, &[]).unwrap().settings.controllers["a"].clone();
    let from_file = settings(&Flags::default());
    assert_eq!((from_file.env, from_file.args), (env("A=file B=file"), Some(vec!["--file".into()])));
    let flags = Flags { env: env("B=flag C=flag"), args: vec!["--flag".into()], ..Flags::default() };
    let both = settings(&flags);
    assert_eq!((both.env, both.args), (env("A=file B=flag C=flag"), Some(vec!["--flag".into()])));
    let nothing = plan(&Flags::default(), &Config::default(), &["a"]).unwrap().settings.controllers["a"].clone();
    assert_eq!((nothing.env, nothing.args), (BTreeMap::new(), None), "the package's own");
    let error = plan(&flags, &file, &["b"]).unwrap_err().to_string();
    assert!(error.contains("for one controller, and there are 2"), "{error}");
}

#[test]
fn the_namespaces_of_a_controller_take_precedence_over_those_of_the_host() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let file = config(&[
        ("a", ControllerKeys { namespace: Some(names(&["own"])), ..controller(Some("/a.wasm")) }),
        ("b", controller(Some("/b.wasm"))),
    ]);
    let of = |namespace: &[&str]| {
        let namespace = (!namespace.is_empty()).then(|| names(namespace));
        let flags = Flags { host: HostKeys { namespace, ..HostKeys::default() }, ..Flags::default() };
        let controllers = plan(&flags, &file, &[]).unwrap().settings.controllers;
        ["a", "b"].map(|name| (controllers[name].namespaces.names.to_vec(), controllers[name].namespaces.said_in))
    };
    let own = || (names(&["own"]), LimitPlace::Controller);
    assert_eq!(of(&[]), [own(), (names(&[]), LimitPlace::File)]);
    assert_eq!(of(&["y", "x", "y"]), [own(), (names(&["x", "y"]), LimitPlace::Flag)]);
}
