use proptest::prelude::*;

use super::*;

fn request_of<'a>(method: &'a str, path_and_query: &'a str) -> ApiRequest<'a> {
    ApiRequest { method, path_and_query, ..ApiRequest::default() }
}

fn learn(requests: &[(&str, &str, Option<&str>)]) -> Learnt {
    let mut learnt = Learnt::default();
    for (method, path, object) in requests {
        learnt.add_all(&Asked::read(&request_of(method, path), false).unwrap(), *object);
    }
    learnt
}

fn text(learnt: &Learnt) -> String {
    learnt.rules().iter().map(|rule| render("permissions", rule).replace("[[permissions]]\n", "") + "\n").collect()
}

#[test]
fn resources_of_one_group_with_the_same_verbs_are_one_rule() {
    let learnt = learn(&[
        ("GET", "/apis/apps/v1/deployments", None),
        ("GET", "/api/v1/services?watch=true", None),
        ("GET", "/api/v1/services", None),
        ("GET", "/api/v1/configmaps", None),
        ("GET", "/api/v1/configmaps?watch=1", None),
        ("PATCH", "/apis/demo.dev/v1/namespaces/a/websites/w/status", Some("a/w")),
        ("PATCH", "/apis/demo.dev/v1/namespaces/a/websites/w", Some("a/w")),
        ("GET", "/version", None),
        ("GET", "/healthz", None),
    ]);
    let expected = "api-groups = [\"\"]\nresources = [\"configmaps\", \"services\"]\nverbs = [\"list\", \"watch\"]\n\
                    api-groups = [\"apps\"]\nresources = [\"deployments\"]\nverbs = [\"list\"]\n\
                    api-groups = [\"demo.dev\"]\nresources = [\"websites\", \"websites/status\"]\nverbs = [\"patch\"]\n\
                    non-resource-urls = [\"/healthz\", \"/version\"]\nverbs = [\"get\"]\n";
    assert_eq!(text(&learnt), expected);
}

#[test]
fn a_rule_has_a_name_only_if_it_is_constant() {
    const ONE: &str = "/api/v1/namespaces/a/secrets/tls";
    const OTHER: &str = "/api/v1/namespaces/a/secrets/other";
    let is_named = |requests: &[(&str, &str, Option<&str>)]| {
        let rules = learn(requests).rules();
        assert_eq!(rules.len(), 1, "{rules:?}");
        rules[0].resource_names == ["tls"]
    };
    for (requests, named) in [
        // Outside of a reconcile, or for two objects.
        (&[("GET", ONE, None)] as &[_], true),
        (&[("GET", ONE, Some("a/x")), ("GET", ONE, Some("a/y"))], true),
        (&[("GET", ONE, Some("a/x")), ("PATCH", ONE, Some("a/y")), ("DELETE", ONE, Some("a/y"))], true),
        // With one object the host cannot tell.
        (&[("GET", ONE, Some("a/x")), ("GET", ONE, Some("a/x"))], false),
        // The object's own name, or one derived from it.
        (&[("GET", ONE, Some("a/tls")), ("GET", ONE, Some("b/tls"))], false),
        (&[("GET", ONE, Some("tls")), ("GET", ONE, Some("t"))], false),
        // Two names.
        (&[("GET", ONE, None), ("GET", OTHER, None)], false),
        // Verbs without a name.
        (&[("GET", ONE, None), ("POST", "/api/v1/namespaces/a/secrets", None)], false),
        (&[("GET", "/api/v1/namespaces/a/secrets?watch=true", None), ("GET", ONE, None)], false),
        (&[("GET", ONE, None), ("DELETE", "/api/v1/namespaces/a/secrets", None)], false),
    ] {
        assert_eq!(is_named(requests), named, "{requests:?}");
    }
}

#[test]
fn unused_permissions_are_reported_by_resource() {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        PolicyRule {
            api_groups: owned(groups),
            resources: owned(resources),
            verbs: owned(verbs),
            ..PolicyRule::default()
        }
    };
    let urls = PolicyRule {
        non_resource_urls: vec!["/version".into(), "/openapi/*".into()],
        verbs: vec!["get".into()],
        ..PolicyRule::default()
    };
    let learnt = learn(&[("GET", "/api/v1/configmaps", None), ("GET", "/openapi/v3", None)]);
    let asked = [
        rule(&[""], &["configmaps", "secrets"], &["list", "delete"]),
        rule(&["apps"], &["*"], &["*"]),
        rule(&["*"], &["*"], &["*"]),
        urls,
    ];
    assert_eq!(
        learnt.unused(&asked),
        ["\"delete\" on configmaps", "\"list\", \"delete\" on secrets", "\"*\" on *.apps", "\"get\" on /version",]
    );
}

#[test]
fn broad_requests_are_learnt_only_if_asked_for_and_granted() {
    let controller: Arc<str> = "c".into();
    let learning = Learning::default();
    let nothing = Permissions::default();
    for (method, path) in [
        ("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh"),
        ("GET", "/api/v1/nodes/n/proxy/logs"),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/s/token"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        ("PUT", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/b"),
        ("GET", "/api/v1/../v1/secrets"),
        ("get", "/api/v1/secrets"),
    ] {
        assert!(
            learning.check(&controller, &nothing, (&request_of(method, path), false), None).is_err(),
            "{method} {path}"
        );
    }
    assert_eq!(learning.report(), "# c needed no permissions in this run\n");
    assert!(learning.may_watch(&controller, &nothing, "", "secrets\"]\n", None).is_err());
    let asking = Permissions::new(vec![PolicyRule {
        api_groups: vec!["".into()],
        resources: vec!["pods/exec".into()],
        verbs: vec!["create".into()],
        ..PolicyRule::default()
    }]);
    let exec = request_of("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh");
    learning.check(&controller, &asking, (&exec, false), None).unwrap();
    assert!(learning.check(&controller, &asking.granting(Some(Arc::new([]))), (&exec, false), None).is_err());
    assert!(learning.report().contains("resources = [\"pods/exec\"]\nverbs = [\"create\"]"), "{}", learning.report());
}

#[test]
fn a_controller_that_invents_resources_is_denied_beyond_a_limit() {
    let (controller, learning): (Arc<str>, _) = ("c".into(), Learning::default());
    let check = |n: usize| {
        let path = format!("/api/v1/made-up-{n}");
        learning.check(&controller, &Permissions::default(), (&request_of("GET", &path), false), None)
    };
    for n in 0..MAX_TARGETS {
        check(n).unwrap();
    }
    assert!(matches!(check(MAX_TARGETS), Err(Denied::NoRule(_))));
    check(0).unwrap();
}

type Request = (String, String, Option<String>);

fn request() -> impl Strategy<Value = Request> {
    let collection = prop_oneof![
        Just("/api/v1/namespaces/a/configmaps"),
        Just("/api/v1/namespaces/a/secrets"),
        Just("/apis/apps/v1/namespaces/b/deployments"),
        Just("/apis/rbac.authorization.k8s.io/v1/namespaces/b/roles"),
        Just("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ];
    let name = prop_oneof![Just("x"), Just("y"), Just("x-child")];
    let object = prop_oneof![Just(None), Just(Some("a/x".to_owned())), Just(Some("a/z".to_owned()))];
    let of_one = (collection.clone(), name, prop_oneof!["GET", "HEAD", "PUT", "PATCH", "DELETE"], 0..3_u8).prop_map(
        |(path, name, method, sub)| (method, format!("{path}/{name}{}", ["", "/status", "/scale"][sub as usize])),
    );
    let of_many =
        (collection, prop_oneof!["GET", "POST", "DELETE"]).prop_map(|(path, method)| (method, path.to_owned()));
    let watch = Just(("GET".to_owned(), "/api/v1/pods?watch=true&fieldSelector=metadata.name%3Dx".to_owned()));
    let url = prop_oneof!["/version", "/openapi/v3"].prop_map(|path| ("GET".to_owned(), path));
    (prop_oneof![of_one, of_many, watch, url], object).prop_map(|((method, path), object)| (method, path, object))
}

proptest! {
    #[test]
    fn the_learnt_rules_allow_every_request_and_no_other_verb_or_resource(
        requests in proptest::collection::vec(request(), 0..40),
        others in proptest::collection::vec(request(), 0..40),
    ) {
        let mut learnt = Learnt::default();
        let mut needed = BTreeSet::new();
        for (method, path, object) in &requests {
            let asked = Asked::read(&request_of(method, path), false).unwrap();
            learnt.add_all(&asked, object.as_deref());
            let all = asked.further.into_iter().map(|further| further.attributes).chain([asked.attributes]);
            needed.extend(all.map(|a| (a.verb, a.group, a.resource, a.subresource, a.path)));
        }
        let rules = learnt.rules();
        prop_assert!(learnt.unused(&rules).is_empty());
        let permissions = Permissions::new(rules);
        for (method, path, _) in &requests {
            prop_assert!(permissions.check(method, path).is_ok(), "{} {}: {:?}", method, path, permissions);
        }
        for (method, path, _) in &others {
            let other = Asked::read(&request_of(method, path), false).unwrap().attributes;
            if permissions.check(method, path).is_ok() {
                let allowed = (other.verb, other.group, other.resource, other.subresource, other.path);
                prop_assert!(needed.contains(&allowed), "{} {} is allowed: {:?}", method, path, permissions);
            }
        }
    }
}

#[test]
fn external_hosts_are_learnt_and_come_before_all_tables() {
    let learning = Learning::default();
    let controller: Arc<str> = "web".into();
    let asked = vec!["https://*.example.org".parse().unwrap(), "http://unused.example".parse().unwrap()];
    let permissions = Permissions::new(Vec::new()).with_external(asked);
    learning.add(&controller, &permissions);
    for target in ["https://b.example", "https://A.example.org:443", "https://b.example"] {
        assert!(learning.check_external(&controller, &permissions, target).is_ok());
    }
    assert!(learning.check_external(&controller, &permissions, "https://b.example/").is_err());
    learning.check(&controller, &permissions, (&request_of("GET", "/version"), false), None).unwrap();
    let report = learning.report();
    let table: &str = report.split("external-hosts").next().unwrap();
    assert!(!table.contains("[["), "{report}");
    assert!(report.contains("\nexternal-hosts = [\"https://a.example.org\", \"https://b.example\"]\n"), "{report}");
    assert!(report.contains("# web: asked for and not used: http://unused.example"), "{report}");
    assert!(!report.contains("not used: https://*"), "{report}");
}
