use super::*;

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    PolicyRule { api_groups: owned(groups), resources: owned(resources), verbs: owned(verbs), ..PolicyRule::default() }
}

/// Rules of a typical controller, and a few special cases.
fn permissions() -> Permissions {
    let named = PolicyRule {
        resource_names: vec!["settings".into(), "system:thing".into()],
        ..rule(&[""], &["secrets"], &["get", "list", "watch", "update", "patch", "delete", "create"])
    };
    let urls = PolicyRule {
        non_resource_urls: vec!["/version".into(), "/openapi/*".into(), "/metrics/a".into()],
        verbs: vec!["get".into()],
        ..PolicyRule::default()
    };
    Permissions::new(vec![
        rule(&["demo.wasmop.dev"], &["websites"], &["get", "list", "watch", "update"]),
        rule(&["demo.wasmop.dev"], &["websites/status"], &["patch", "update"]),
        rule(&[""], &["configmaps"], &["*"]),
        rule(&[""], &["pods", "pods/log", "namespaces"], &["get", "list"]),
        rule(&["apps"], &["*/scale"], &["get", "update"]),
        rule(&["everything.dev"], &["*"], &["*"]),
        rule(&["batch"], &["jobs"], &["list"]),
        rule(&["events.k8s.io"], &["events"], &["create", "patch"]),
        named,
        urls,
    ])
}

#[test]
fn granted_requests_are_allowed_with_their_attributes() {
    // method, path, verb, resource with subresource, namespace, name
    type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);
    let table: [Row; 34] = [
        ("GET", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w", "get", "websites", Some("a"), Some("w")),
        ("HEAD", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w", "get", "websites", Some("a"), Some("w")),
        ("GET", "/apis/demo.wasmop.dev/v1/namespaces/a/websites", "list", "websites", Some("a"), None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?&limit=500", "list", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?watch=true&resourceVersion=5", "watch", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?&watch=1", "watch", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?watch", "watch", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?watch=false", "list", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?watch=False", "list", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?watch=0", "list", "websites", None, None),
        ("GET", "/apis/demo.wasmop.dev/v1/websites?w%61tch=true", "watch", "websites", None, None),
        ("PUT", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w", "update", "websites", Some("a"), Some("w")),
        (
            "PATCH",
            "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w/status?fieldManager=x",
            "patch",
            "websites/status",
            Some("a"),
            Some("w"),
        ),
        (
            "PUT",
            "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w/status",
            "update",
            "websites/status",
            Some("a"),
            Some("w"),
        ),
        ("POST", "/api/v1/namespaces/a/configmaps", "create", "configmaps", Some("a"), None),
        (
            "PATCH",
            "/api/v1/namespaces/a/configmaps/c?fieldManager=a&force=true",
            "patch",
            "configmaps",
            Some("a"),
            Some("c"),
        ),
        ("DELETE", "/api/v1/namespaces/a/configmaps/c", "delete", "configmaps", Some("a"), Some("c")),
        (
            "DELETE",
            "/api/v1/namespaces/a/configmaps?labelSelector=a%3Db",
            "deletecollection",
            "configmaps",
            Some("a"),
            None,
        ),
        ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", "get", "pods/log", Some("a"), Some("p")),
        ("GET", "/api/v1/namespaces/a", "get", "namespaces", Some("a"), Some("a")),
        ("GET", "/api/v1/namespaces", "list", "namespaces", None, None),
        ("GET", "/apis/apps/v1/namespaces/a/deployments/d/scale", "get", "deployments/scale", Some("a"), Some("d")),
        (
            "PUT",
            "/apis/apps/v1/namespaces/a/statefulsets/d/scale",
            "update",
            "statefulsets/scale",
            Some("a"),
            Some("d"),
        ),
        ("POST", "/apis/everything.dev/v1/things", "create", "things", None, None),
        ("DELETE", "/apis/everything.dev/v1beta1/things", "deletecollection", "things", None, None),
        ("POST", "/apis/everything.dev/v1/things/t/approval", "create", "things/approval", None, Some("t")),
        ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", "create", "events", Some("a"), None),
        ("GET", "/api/v1/namespaces/a/secrets/settings", "get", "secrets", Some("a"), Some("settings")),
        ("GET", "/api/v1/namespaces/a/secrets/system:thing", "get", "secrets", Some("a"), Some("system:thing")),
        ("GET", "/api/v1/namespaces/a/secrets/system%3Athing", "get", "secrets", Some("a"), Some("system:thing")),
        (
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name%3Dsettings&watch=true",
            "watch",
            "secrets",
            None,
            Some("settings"),
        ),
        (
            "GET",
            "/api/v1/secrets?fieldSelector=metadata.name=settings,metadata.namespace=a",
            "list",
            "secrets",
            None,
            Some("settings"),
        ),
        ("GET", "/version", "get", "", None, None),
        ("GET", "/openapi/v3/apis/apps/v1?hash=AB", "get", "", None, None),
    ];
    let permissions = permissions();
    for (method, path, verb, resource, namespace, name) in table {
        let allowed = permissions.check(method, path).unwrap_or_else(|denied| panic!("{method} {path}: {denied}"));
        let full = if allowed.subresource.is_empty() {
            allowed.resource.clone()
        } else {
            format!("{}/{}", allowed.resource, allowed.subresource)
        };
        assert_eq!(
            (allowed.verb, full.as_str(), allowed.namespace.as_deref(), allowed.name.as_deref()),
            (verb, resource, namespace, name),
            "{method} {path}"
        );
    }
}

#[test]
fn requests_without_a_rule_are_denied() {
    let table = [
        // A verb, resource, group or subresource that is not granted.
        ("DELETE", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w"),
        ("POST", "/apis/demo.wasmop.dev/v1/namespaces/a/websites"),
        ("PATCH", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w"),
        ("DELETE", "/apis/demo.wasmop.dev/v1/namespaces/a/websites"),
        ("GET", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w/status"),
        ("PUT", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w/scale"),
        ("GET", "/apis/demo.wasmop.dev/v1/namespaces/a/Websites/w"),
        ("GET", "/apis/demo.wasmop.dev.evil/v1/websites"),
        ("GET", "/apis/Demo.wasmop.dev/v1/websites"),
        ("GET", "/api/v1/websites"),
        ("GET", "/apis/apps/v1/configmaps"),
        ("GET", "/apis/apps/v1/namespaces/a/deployments/d"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale"),
        ("PATCH", "/api/v1/namespaces/a/configmaps/c/status"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/a/serviceaccounts/default"),
        ("DELETE", "/api/v1/namespaces/a"),
        ("PUT", "/api/v1/namespaces/a/finalize"),
        ("PUT", "/api/v1/namespaces/a/status"),
        // A watch where only list is granted, in any spelling.
        ("GET", "/apis/batch/v1/jobs?watch=true"),
        ("GET", "/apis/batch/v1/jobs?watch=TRUE"),
        ("GET", "/apis/batch/v1/jobs?watch"),
        ("GET", "/apis/batch/v1/jobs?watch=yes"),
        ("GET", "/apis/batch/v1/jobs?watch=false&watch=true"),
        ("GET", "/apis/batch/v1/jobs?watch=true&watch=false"),
        ("GET", "/apis/batch/v1/jobs?%77atch=true"),
        ("GET", "/apis/batch/v1/jobs/j"),
        // Names.
        ("GET", "/api/v1/namespaces/a/secrets/other"),
        ("GET", "/api/v1/namespaces/a/secrets"),
        ("GET", "/api/v1/secrets?watch=true"),
        ("POST", "/api/v1/namespaces/a/secrets"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.name!=settings"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.name=settings,metadata.name=other"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.name=settings&fieldSelector=metadata.name=other"),
        ("GET", "/api/v1/secrets?fieldSelector=metadata.name="),
        ("GET", "/api/v1/secrets?labelSelector=metadata.name=settings"),
        ("DELETE", "/api/v1/namespaces/a/secrets"),
        // Broader than the object: never granted by a star.
        ("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh"),
        ("GET", "/api/v1/namespaces/a/pods/p/exec?command=sh"),
        ("GET", "/api/v1/namespaces/a/pods/p/attach"),
        ("GET", "/api/v1/namespaces/a/pods/p/portforward"),
        ("GET", "/api/v1/namespaces/a/pods/p/proxy/secret"),
        ("GET", "/api/v1/nodes/n/proxy/logs"),
        ("GET", "/apis/everything.dev/v1/things/t/proxy"),
        ("POST", "/apis/everything.dev/v1/things/t/exec"),
        ("POST", "/apis/everything.dev/v1/things/t/token"),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/default/token"),
        // Non-resource URLs.
        ("POST", "/version"),
        ("GET", "/"),
        ("GET", "/api"),
        ("GET", "/api/v1"),
        ("GET", "/apis/apps/v1"),
        ("GET", "/openapi"),
        ("GET", "/metrics"),
        ("GET", "/metrics/a/b"),
        ("GET", "/logs/kube-apiserver.log"),
        ("GET", "/debug/pprof/heap"),
    ];
    let permissions = permissions();
    for (method, path) in table {
        match permissions.check(method, path) {
            Err(Denied::NoRule(_)) => {}
            other => panic!("{method} {path}: {other:?}"),
        }
    }
}

#[test]
fn ambiguous_paths_are_denied_even_if_everything_is_granted() {
    let all = PolicyRule { non_resource_urls: vec!["*".into()], ..rule(&["*"], &["*"], &["*"]) };
    let permissions = Permissions::new(vec![all]);
    let long = format!("/api/v1/namespaces/a/configmaps/{}", "x".repeat(9000));
    let table = [
        ("GET", ""),
        ("GET", "api/v1/pods"),
        ("GET", "http://elsewhere/api/v1/pods"),
        ("GET", "https://elsewhere/api/v1/pods"),
        ("GET", "//elsewhere/api/v1/pods"),
        ("GET", "/api/v1//pods"),
        ("GET", "/api/v1/pods/"),
        ("GET", "/api//v1/pods"),
        ("GET", "/api/v1/namespaces//pods"),
        ("GET", "/api/v1/namespaces/../secrets"),
        ("GET", "/api/v1/namespaces/a/configmaps/../secrets/s"),
        ("GET", "/api/v1/./secrets"),
        ("GET", "/api/v1/.../secrets"),
        ("GET", "/.."),
        ("GET", "/api/v1/namespaces/%2e%2e/secrets"),
        ("GET", "/api/v1/namespaces/.%2e/secrets"),
        ("GET", "/api/v1/namespaces/%2E/secrets"),
        ("GET", "/api/v1/namespaces/a%2fsecrets/s"),
        ("GET", "/api/v1/namespaces/a%2Fsecrets/s"),
        ("GET", "/api/v1/namespaces/a%5csecrets"),
        ("GET", "/api/v1/namespaces/a\\secrets"),
        ("GET", "/api/v1/namespaces/a%252fsecrets"),
        ("GET", "/api/v1/namespaces/a%00/secrets"),
        ("GET", "/api/v1/namespaces/a\0/secrets"),
        ("GET", "/api/v1/namespaces/a%0d%0aX-Evil:1/secrets"),
        ("GET", "/api/v1/namespaces/a\r\nX-Evil: 1/secrets"),
        ("GET", "/api/v1/namespaces/a b/secrets"),
        ("GET", "/api/v1/namespaces/a%20b/secrets"),
        ("GET", "/api/v1/namespaces/a%/secrets"),
        ("GET", "/api/v1/namespaces/a%zz/secrets"),
        ("GET", "/api/v1/namespaces/a%2/secrets"),
        ("GET", "/api/v1/namespaces/ä/secrets"),
        ("GET", "/api/v1/namespaces/%C3%A4/secrets"),
        ("GET", "/api/v1/namespaces/%ff/secrets"),
        ("GET", "/api/v1/namespaces/a%3fwatch=true/secrets"),
        ("GET", "/api/v1/namespaces/a;x=y/secrets"),
        ("GET", "/api/v1/pods#fragment"),
        ("GET", "/api/v1/pods?a=b#fragment"),
        ("GET", "/api/v1/pods?watch=false;watch=true"),
        ("GET", "/api/v1/pods?wat%zzch=true"),
        ("GET", "/api/v1/pods?a=\r\nb"),
        ("GET", "/api/v1/watch/pods"),
        ("GET", "/api/v1/watch/namespaces/a/secrets/s"),
        ("GET", "/apis/apps/v1/watch/deployments"),
        ("GET", "/api/v1/proxy/namespaces/a/pods/p"),
        ("GET", "/api/v1/namespaces/a/pods/p/log/more"),
        ("GET", "/api/v1/namespaces/a/status/more"),
        ("GET", long.as_str()),
        ("get", "/api/v1/pods"),
        ("CONNECT", "/api/v1/pods"),
        ("OPTIONS", "/api/v1/pods"),
        ("TRACE", "/api/v1/pods"),
        ("", "/api/v1/pods"),
        ("GET /api/v1/secrets HTTP/1.1\r\n", "/api/v1/pods"),
        ("POST", "/api/v1/namespaces/a/pods/p"),
        ("PUT", "/api/v1/namespaces/a/pods"),
        ("PATCH", "/api/v1/namespaces/a/pods"),
    ];
    for (method, path) in table {
        match permissions.check(method, path) {
            Err(Denied::BadRequest(_)) => {}
            other => panic!("{method} {path}: {other:?}"),
        }
    }
}

#[test]
fn broad_subresources_are_granted_by_name_only() {
    let exec = "/api/v1/namespaces/a/pods/p/exec?command=sh";
    let check =
        |resources: &[&str]| Permissions::new(vec![rule(&["*"], resources, &["*"])]).check("POST", exec).is_ok();
    assert!(!check(&["*"]));
    assert!(!check(&["pods"]));
    assert!(!check(&["*/exec"]));
    assert!(check(&["pods/exec"]));
    let proxy = Permissions::new(vec![rule(&[""], &["pods/proxy"], &["get"])]);
    assert!(proxy.check("GET", "/api/v1/namespaces/a/pods/p/proxy/healthz/deep").is_ok());
}

#[test]
fn writing_roles_and_bindings_takes_escalate_and_bind() {
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings";
    let group = [RBAC_GROUP];
    let write = rule(&group, &["clusterroles", "rolebindings"], &["create", "patch", "delete"]);
    let without = Permissions::new(vec![write.clone()]);
    for path in [ROLES, BINDINGS] {
        let denied = without.check("POST", path).unwrap_err();
        assert!(denied.help("web").contains("clusterroles"), "{}", denied.help("web"));
    }
    assert!(without.check("DELETE", &format!("{ROLES}/r")).is_ok());

    let with = |verb: &str| Permissions::new(vec![write.clone(), rule(&group, &["clusterroles"], &[verb])]);
    assert!(with("escalate").check("POST", ROLES).is_ok());
    assert!(with("escalate").check("POST", BINDINGS).is_err());
    assert!(with("bind").check("POST", BINDINGS).is_ok());
    assert!(with("bind").check("PATCH", &format!("{ROLES}/r")).is_err());

    let named = PolicyRule { resource_names: vec!["view".into()], ..rule(&group, &["clusterroles"], &["bind"]) };
    assert!(Permissions::new(vec![write, named]).check("POST", BINDINGS).is_err());
}

#[test]
fn a_watch_needs_list_and_watch_for_all_names() {
    let permissions = permissions();
    assert_eq!(permissions.may_watch("demo.wasmop.dev", "websites", None), Ok(()));
    assert_eq!(permissions.may_watch("", "configmaps", Some("a")), Ok(()));
    let denied = permissions.may_watch("batch", "jobs", Some("a")).unwrap_err();
    assert_eq!(denied.to_string(), "no permission to watch jobs.batch in namespace \"a\"");
    let denied = permissions.may_watch("", "nodes", None).unwrap_err();
    assert_eq!(denied.to_string(), "no permission to list and watch nodes");
    assert!(
        denied
            .help("web")
            .ends_with("[[permissions]]\napi-groups = [\"\"]\nresources = [\"nodes\"]\nverbs = [\"list\", \"watch\"]")
    );
    assert!(permissions.may_watch("", "secrets", None).is_err());
}

#[test]
fn a_denial_names_the_request_and_the_rule_that_grants_it() {
    let denied = permissions().check("DELETE", "/apis/apps/v1/namespaces/a/deployments/d/status").unwrap_err();
    assert_eq!(denied.to_string(), "no permission to delete deployments/status.apps \"d\" in namespace \"a\"");
    assert!(denied.help("web").ends_with(
        "[[permissions]]\napi-groups = [\"apps\"]\nresources = [\"deployments/status\"]\nverbs = [\"delete\"]"
    ));
    let status: serde_json::Value = serde_json::from_str(&denied.status_json()).unwrap();
    assert_eq!(status["code"], 403);
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(status["details"]["kind"], "deployments");
    assert!(status["message"].as_str().unwrap().starts_with("wasmop: no permission to delete"));

    let denied = permissions().check("GET", "/logs/x").unwrap_err();
    assert_eq!(denied.to_string(), "no permission to get the URL /logs/x");
    assert!(denied.help("web").ends_with("non-resource-urls = [\"/logs/x\"]\nverbs = [\"get\"]"));

    let denied = permissions().check("GET", "/api/v1/../x").unwrap_err();
    assert!(denied.to_string().contains("\"/api/v1/../x\" has a segment of dots only"), "{denied}");
    assert!(denied.status_json().contains("wasmop: request refused"));
}

#[test]
fn without_rules_nothing_is_granted() {
    let none = Permissions::default();
    assert!(none.check("GET", "/version").is_err());
    assert!(none.check("GET", "/api/v1/pods").is_err());
    assert!(none.may_watch("", "pods", None).is_err());
}

#[test]
fn watches_of_collections_and_followed_logs_are_streams_and_nothing_else() {
    for path in [
        "/api/v1/pods?watch=true",
        "/api/v1/pods?&watch=1&x=y",
        "/apis/g.dev/v1/namespaces/a/things?watch",
        "/api/v1/pods?w%61tch=1",
        "/api/v1/pods?watch=1&watch=0",
        "/api/v1/secrets?fieldSelector=metadata.name=a&watch=true",
        "/api/v1/namespaces/a/pods/p/log?follow=true",
    ] {
        assert!(is_stream("GET", path), "{path}");
        for method in ["PUT", "PATCH", "POST", "DELETE", "HEAD"] {
            assert!(!is_stream(method, path), "{method} {path}");
        }
    }
    for path in [
        "/api/v1/namespaces/a/pods/p/log?follow=false",
        "/api/v1/namespaces/a/pods/p/log?watch=true",
        "/api/v1/pods?limit=500",
        "/api/v1/pods",
        "/api/v1/pods?follow=true",
        "/api/v1/namespaces/a/configmaps/c?watch=1",
        "/api/v1/namespaces/a/configmaps/c?follow=1",
        "/apis/g.dev/v1/namespaces/a/pods/p/log?follow=true",
        "/apis/g.dev/v1/namespaces/a/things/t/log?follow=true",
        // The API server uses the first of several values.
        "/api/v1/pods?watch=0&watch=1",
        "/api/v1/namespaces/a/pods/p/log?follow=false&follow=true",
        "/logs/kube-apiserver.log?follow=true",
        "/version?watch=true",
        "/api/v1//pods?watch=true",
    ] {
        assert!(!is_stream("GET", path), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn no_path_panics_and_allowed_paths_are_normal(method in "GET|PUT|[A-Z]{1,7}", path in "/?[a-z./%\\\\?&=0-9 -]{0,40}") {
        let all = PolicyRule { non_resource_urls: vec!["*".into()], ..rule(&["*"], &["*"], &["*"]) };
        if Permissions::new(vec![all]).check(&method, &path).is_ok() {
            let path = path.split('?').next().unwrap();
            proptest::prop_assert!(path.starts_with('/') && !path.contains("//") && !path.contains("/../"));
            proptest::prop_assert!(!path.to_lowercase().contains("%2f") && !path.to_lowercase().contains("%2e"));
        }
    }
}

#[test]
fn requests_are_allowed_if_asked_for_and_granted() {
    let asked = permissions();
    let named = PolicyRule { resource_names: vec!["c".into()], ..rule(&[""], &["configmaps"], &["patch"]) };
    let granted = asked.granting(Some(
        [rule(&["demo.wasmop.dev"], &["websites"], &["*"]), rule(&[""], &["nodes"], &["get"]), named].into(),
    ));
    for (method, path, refused) in [
        ("PUT", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w", ""),
        ("PATCH", "/api/v1/namespaces/a/configmaps/c", ""),
        // Granted and not asked for.
        ("DELETE", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w", "no permission to"),
        ("GET", "/api/v1/nodes/n", "no permission to"),
        // Asked for and not granted.
        ("PATCH", "/api/v1/namespaces/a/configmaps/d", "not granted to"),
        ("PATCH", "/apis/demo.wasmop.dev/v1/namespaces/a/websites/w/status", "not granted to"),
        ("GET", "/version", "not granted to"),
        ("GET", "/api/v1/../v1/configmaps", "request refused"),
    ] {
        match granted.check(method, path) {
            Ok(_) => assert_eq!(refused, "", "{method} {path}"),
            Err(denied) => {
                let message = denied.to_string();
                assert!(!refused.is_empty() && message.starts_with(refused), "{method} {path}: {message}");
            }
        }
    }
    assert_eq!(granted.may_watch("demo.wasmop.dev", "websites", None), Ok(()));
    let denied = granted.may_watch("", "configmaps", None).unwrap_err();
    assert_eq!(denied.to_string(), "not granted to list and watch configmaps");
    let help = denied.help("web");
    assert!(help.contains("configuration file:\n[[controllers.web.grant]]\napi-groups = [\"\"]\nresources"), "{help}");
    assert!(asked.granting(Some([].into())).check("GET", "/version").is_err());
}

#[test]
fn writing_roles_has_to_be_granted_with_escalate() {
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let group = [RBAC_GROUP];
    let asked = Permissions::new(vec![rule(&group, &["clusterroles"], &["create", "escalate"])]);
    let grant = |verbs: &[&str]| asked.granting(Some([rule(&group, &["clusterroles"], verbs)].into()));
    assert!(grant(&["create", "escalate"]).check("POST", ROLES).is_ok());
    let denied = grant(&["create"]).check("POST", ROLES).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "not granted to escalate clusterroles.rbac.authorization.k8s.io (a role hands out rights)"
    );
}

#[test]
fn a_watch_without_a_resource_needs_a_star() {
    let urls = PolicyRule { non_resource_urls: vec!["*".into()], ..rule(&[], &[], &["*"]) };
    for (rules, allowed) in [
        (vec![urls.clone()], false),
        (vec![rule(&[""], &["configmaps", "secrets"], &["*"]), urls], false),
        (vec![rule(&["apps"], &["*"], &["*"])], false),
        (vec![rule(&[""], &["*"], &["list", "watch"])], true),
    ] {
        assert_eq!(Permissions::new(rules.clone()).may_watch("", "", None).is_ok(), allowed, "{rules:?}");
    }
}
