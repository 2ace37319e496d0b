//! Tables of Deployments and what they say.

use std::path::PathBuf;

use serde_json::json;

use super::*;

/// A Deployment with one container.
fn deployment(name: &str, container: Value) -> Object {
    let mut container = container;
    container["name"] = "manager".into();
    let spec = json!({"serviceAccountName": "account", "containers": [container]});
    let pod = json!({"metadata": {"labels": {"a/b": "c"}}, "spec": spec});
    let value = json!({
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod},
    });
    Object { file: PathBuf::from("manager.yaml"), value }
}

fn read(container: Value) -> Workload {
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"A": "1", "B": "2"}});
    let objects = vec![deployment("web", container), Object { file: PathBuf::from("map.yaml"), value: map }];
    workload(&Source { objects, ..Source::default() }, &[], None).expect("there is one")
}

#[test]
fn literal_variables_are_taken_and_others_explained() {
    for (variable, literal, explanation) in [
        (json!({"name": "X", "value": "a"}), Some("a"), ""),
        (json!({"name": "X"}), Some(""), ""),
        (json!({"name": "X", "value": 5}), Some("5"), ""),
        (json!({"name": "X", "value": format!("a{UNKNOWN}")}), None, "the chart sets it"),
        (json!({"name": "X", "value": "$(POD_IP):80"}), None, "`POD_IP` has no value here"),
        (json!({"name": "X", "value": "a.$(POD_NAMESPACE)"}), Some("a.$(POD_NAMESPACE)"), ""),
        (
            json!({"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
            None,
            "the host sets it",
        ),
        (
            json!({"name": "WATCH_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
            Some("$(POD_NAMESPACE)"),
            "",
        ),
        (
            json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            None,
            "there is no Pod",
        ),
        (json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}}), Some("c"), ""),
        (
            json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}}),
            None,
            "there is no Pod",
        ),
        (json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "B"}}}), Some("2"), ""),
        (
            json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "other", "key": "B"}}}),
            None,
            "`B` of the ConfigMap other",
        ),
        (json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}), None, "`k` of the Secret s"),
        (
            json!({"name": "GOMEMLIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}),
            None,
            "[limits]",
        ),
        (json!({"name": "ENABLE_LEADER_ELECTION", "value": "true"}), None, "elects"),
    ] {
        let found = read(json!({"env": [variable]}));
        match (&found.variables[0].value, literal) {
            (VariableValue::Literal(value), Some(literal)) => assert_eq!(value, literal, "{variable}"),
            (VariableValue::LeftOut(why), None) => assert!(why.contains(explanation), "{variable}: {why}"),
            (value, _) => panic!("{variable}: {value:?}"),
        }
    }
}

#[test]
fn variables_of_a_known_config_map_are_taken_and_overridden() {
    let found = read(json!({
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "s"}}],
        "env": [{"name": "B", "value": "3"}],
    }));
    let variable =
        |name: &str, value: &str| Variable { name: name.into(), value: VariableValue::Literal(value.into()) };
    assert_eq!(found.variables, [variable("A", "1"), variable("B", "3")]);
    assert!(found.notes[0].contains("Secret s"), "{:?}", found.notes);
}

#[test]
fn arguments_follow_the_program() {
    for (container, kept, left_out, notes) in [
        (json!({"command": ["/manager"], "args": ["--leader-elect", "--v=1"]}), vec!["--v=1"], 1, 0),
        (json!({"command": ["/manager", "--v=1"]}), vec!["--v=1"], 0, 0),
        (json!({"args": ["run", "--a", "b"]}), vec!["run", "--a", "b"], 0, 0),
        (json!({"args": ["--a", format!("x{UNKNOWN}"), "--c"]}), vec!["--c"], 1, 0),
        (json!({"args": ["--ip=$(POD_IP)"]}), vec![], 1, 0),
        (json!({"args": ["--ns", "$(POD_NAMESPACE)"]}), vec!["--ns", "$(POD_NAMESPACE)"], 0, 0),
        (json!({"args": ["--x=$(X)"], "env": [{"name": "X", "value": "1"}]}), vec!["--x=$(X)"], 0, 0),
        (json!({"command": ["/bin/sh", "-c", "exec manager --x"]}), vec![], 0, 1),
    ] {
        let found = read(container.clone());
        assert_eq!(found.arguments, kept, "{container}");
        assert_eq!((found.left_out.len(), found.notes.len()), (left_out, notes), "{container}: {found:?}");
    }
}

#[test]
fn an_image_has_the_arguments_that_the_deployment_leaves_out() {
    let image = Image { entrypoint: vec!["/operator".into()], cmd: vec!["run".into()] };
    for (container, expected, file) in [
        (json!({}), vec!["run"], Some("Dockerfile")),
        (json!({"args": ["--x"]}), vec!["--x"], None),
        (json!({"command": ["/operator"]}), vec![], None),
    ] {
        let source = Source { objects: vec![deployment("web", container)], ..Source::default() };
        let found = workload(&source, &[], Some((Path::new("Dockerfile"), &image))).expect("there is one");
        assert_eq!(
            (found.arguments, found.image_file.as_deref()),
            (expected.into_iter().map(str::to_owned).collect(), file)
        );
    }
}

#[test]
fn limits_are_at_least_the_default_memory_and_at_most_one_core() {
    for (limits, expected) in [
        (json!({"memory": "128Mi"}), vec![("memory", None)]),
        (json!({"memory": "512Mi", "cpu": "500m"}), vec![("memory", Some("512MiB"))]),
        (json!({"memory": "1G"}), vec![("memory", Some("954MiB"))]),
        (json!({"memory": "64Gi"}), vec![("memory", Some("4096MiB"))]),
        (json!({"memory": "1.5Gi"}), vec![("memory", Some("1536MiB"))]),
        (json!({"cpu": 2}), vec![("cpu-share", Some("1"))]),
        (json!({"cpu": "200m"}), vec![("cpu-share", Some("200m"))]),
        (json!({"cpu": "lots", "memory": "x"}), vec![]),
        (json!({"cpu": UNKNOWN, "memory": UNKNOWN}), vec![]),
        (json!(null), vec![]),
    ] {
        let found = read(json!({"resources": {"limits": limits}}));
        let found: Vec<_> = found.limits.iter().map(|limit| (limit.key, limit.value.as_deref())).collect();
        assert_eq!(found, expected, "{limits}");
    }
}

#[test]
fn the_workload_named_like_the_project_or_a_controller_is_chosen() {
    let mut patch = deployment("web", json!({}));
    patch.value["spec"]["selector"] = Value::Null;
    for (names, expected) in [(vec!["shop"], "shop"), (vec!["none"], "web-operator")] {
        let objects = ["database", "shop", "web-operator"].map(|name| deployment(name, json!({})));
        let objects = std::iter::once(patch.clone()).chain(objects).collect();
        let found = workload(&Source { objects, ..Source::default() }, &names, None).expect("there is one");
        assert_eq!((found.name.as_deref(), found.others.len()), (Some(expected), 2));
        assert_eq!(found.account.as_deref(), Some("account"));
    }
    assert_eq!(workload(&Source { objects: vec![patch], ..Source::default() }, &[], None), None);
}

#[test]
fn sidecars_are_not_the_controller() {
    let mut object = deployment("web", json!({}));
    object.value["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "kube-rbac-proxy", "args": ["--a"]}, {"name": "manager", "args": ["--b"]}]);
    let found = workload(&Source { objects: vec![object], ..Source::default() }, &[], None).expect("there is one");
    assert_eq!(found.arguments, ["--b"]);
}
