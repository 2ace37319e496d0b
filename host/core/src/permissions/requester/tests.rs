use wasmop_package::manifest::PolicyRule;

use super::super::{Denied, Permissions};
use super::*;

const JSON: &str = "content-type: application/json\n";
const MERGE: &str = "content-type: application/merge-patch+json\n";
const APPLY: &str = "content-type: application/apply-patch+yaml\n";
const PROTOBUF: &str = "content-type: application/vnd.kubernetes.protobuf\n";

fn rule(group: &str, resource: &str, verb: &str) -> PolicyRule {
    PolicyRule {
        api_groups: vec![group.into()],
        resources: vec![resource.into()],
        verbs: vec![verb.into()],
        ..PolicyRule::default()
    }
}

/// A request, and what it needs in addition to its own verb: `VERB RESOURCE.GROUP`.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Server-side apply in any spelling, and no other patch.
    ("PATCH", "/api/v1/namespaces/a/pods/p?fieldManager=x", APPLY, "{}", &["create pods"]),
    ("PATCH", "/api/v1/namespaces/a/pods/p?fieldManager=x", "Content-Type : application/apply-patch+yaml; charset=utf-8\n", "{}", &["create pods"]),
    ("PATCH", "/api/v1/namespaces/a/pods/p", "content-type: application/apply-patch+cbor\n", "", &["create pods"]),
    ("PATCH", "/api/v1/namespaces/a/pods/p", "content-type: application/json\nCONTENT-TYPE: application/apply-patch+yaml\n", "{}", &["create pods"]),
    ("PATCH", "/api/v1/namespaces/a/pods/p", MERGE, "{}", &[]),
    ("PATCH", "/api/v1/namespaces/a/pods/p/status", APPLY, "{}", &[]),
    ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", APPLY, "{}", &[]),
    // An update that creates.
    ("PUT", "/api/v1/namespaces/a/services/s", JSON, "{}", &["create services"]),
    ("PUT", "/api/v1/namespaces/a/endpoints/s", JSON, "{}", &["create endpoints"]),
    ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", JSON, "{}", &["create leases.coordination.k8s.io"]),
    ("PUT", "/apis/events.k8s.io/v1/namespaces/a/events/e", JSON, "{}", &["create events.events.k8s.io"]),
    ("PUT", "/api/v1/namespaces/a/services/s/status", JSON, "{}", &[]),
    ("PUT", "/api/v1/namespaces/a/configmaps/c", JSON, "{}", &[]),
    ("PUT", "/apis/demo.dev/v1/namespaces/a/services/s", JSON, "{}", &[]),
    // RBAC.
    ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", JSON, "{}", &["escalate clusterroles.rbac.authorization.k8s.io"]),
    ("PUT", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/r", JSON, "{}",
        &["escalate roles.rbac.authorization.k8s.io", "create roles.rbac.authorization.k8s.io"]),
    ("PATCH", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/r", MERGE, "{}", &["bind clusterroles.rbac.authorization.k8s.io"]),
    ("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/r", "", "", &[]),
    // Certificates.
    ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", JSON, "{}", &["approve signers.certificates.k8s.io"]),
    ("PATCH", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", MERGE, "{}", &["approve signers.certificates.k8s.io"]),
    ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/status", JSON, "{}", &["sign signers.certificates.k8s.io"]),
    ("PATCH", "/apis/certificates.k8s.io/v1beta1/namespaces/a/podcertificaterequests/c/status", MERGE, "{}", &["sign signers.certificates.k8s.io"]),
    ("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval", "", "", &[]),
    ("POST", CSRS, JSON, r#"{"spec":{"signerName":"example.com/serving"}}"#, &[]),
    ("POST", CSRS, JSON, r#"{"spec":{"signerName":"kubernetes.io/kube-apiserver-client-kubelet"}}"#,
        &["create certificatesigningrequests/nodeclient.certificates.k8s.io", "create certificatesigningrequests/selfnodeclient.certificates.k8s.io"]),
    // Either of two equal keys may count, and so does an escaped one.
    ("POST", CSRS, JSON, r#"{"spec":{"signerName":"kubernetes.io/kube-apiserver-client-kubelet"},"spec":{"signerName":"example.com/a"}}"#,
        &["create certificatesigningrequests/nodeclient.certificates.k8s.io", "create certificatesigningrequests/selfnodeclient.certificates.k8s.io"]),
    ("POST", CSRS, JSON, r#"{"spec":{"signerName":"kubernetes.io\u002fkube-apiserver-client-kubelet"}}"#,
        &["create certificatesigningrequests/nodeclient.certificates.k8s.io", "create certificatesigningrequests/selfnodeclient.certificates.k8s.io"]),
    ("POST", CSRS, PROTOBUF, "k8s", &["create certificatesigningrequests/nodeclient.certificates.k8s.io", "create certificatesigningrequests/selfnodeclient.certificates.k8s.io"]),
    ("POST", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles", JSON, r#"{"spec":{"trustBundle":"x"}}"#, &[]),
    ("POST", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles", JSON, r#"{"spec":{"signerName":"a.dev/b"}}"#, &["attest signers.certificates.k8s.io"]),
    ("POST", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles", "content-type: application/yaml\n", "spec: {}", &["attest signers.certificates.k8s.io"]),
    ("PATCH", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/b", MERGE, "{}", &["attest signers.certificates.k8s.io"]),
    // Admission policies with parameters.
    ("POST", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", JSON, r#"{"spec":{"validations":[]}}"#, &[]),
    ("POST", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", JSON, r#"{"spec":{"paramKind":{}}}"#, &["get *.*"]),
    ("PUT", "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies/p", JSON, r#"{"spec":{"paramKind":{}}}"#, &["get *.*"]),
    ("PATCH", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/p", MERGE, "{}", &["get *.*", "list *.*"]),
    ("POST", "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings", JSON, r#"{"spec":{"paramRef":{}}}"#, &["get *.*", "list *.*"]),
    // Resource claims.
    ("PATCH", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/c/status", MERGE, r#"{"status":{"reservedFor":[]}}"#,
        &["patch resourceclaims/binding.resource.k8s.io"]),
    ("PUT", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/c/status", JSON, r#"{"status":{"allocation":{"devices":{}}}}"#,
        &["update resourceclaims/binding.resource.k8s.io", "arbitrary-node:update resourceclaims/driver.resource.k8s.io"]),
    ("PATCH", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/c/status", "content-type: application/json-patch+json\n", "[]",
        &["patch resourceclaims/binding.resource.k8s.io", "arbitrary-node:patch resourceclaims/driver.resource.k8s.io"]),
    // Sessions in containers.
    ("GET", "/api/v1/namespaces/a/pods/p/exec?command=sh", "", "", &["create pods/exec"]),
    ("POST", "/api/v1/namespaces/a/pods/p/exec?command=sh", "", "", &[]),
    ("GET", "/api/v1/namespaces/a/pods/p/portforward", "", "", &["create pods/portforward"]),
    // Deletions that skip finalizers.
    ("DELETE", "/api/v1/namespaces/a/pods/p", JSON, r#"{"propagationPolicy":"Background"}"#, &[]),
    ("DELETE", "/api/v1/namespaces/a/pods/p", JSON, r#"{"ignoreStoreReadErrorWithClusterBreakingPotential":true}"#, &["unsafe-delete-ignore-read-errors pods"]),
    ("DELETE", "/api/v1/namespaces/a/pods/p?ignoreStoreReadErrorWithClusterBreakingPotential=true", "", "", &["unsafe-delete-ignore-read-errors pods"]),
    ("DELETE", "/api/v1/namespaces/a/pods/p", PROTOBUF, "k8s", &["unsafe-delete-ignore-read-errors pods"]),
    ("DELETE", "/api/v1/namespaces/a/pods/p", "", "", &[]),
    // Decided by RBAC alone.
    ("PUT", "/api/v1/namespaces/a/finalize", JSON, "{}", &[]),
    ("DELETE", "/api/v1/namespaces/a/pods", "", "", &[]),
    ("PUT", "/apis/apps/v1/namespaces/a/deployments/d/scale", JSON, "{}", &[]),
    ("POST", "/api/v1/namespaces/a/pods/p/eviction", JSON, "{}", &[]),
    ("GET", "/version", "", "", &[]),
];

fn request(row: &Row) -> ApiRequest<'static> {
    let (method, path_and_query, headers, body, _) = *row;
    ApiRequest { method, path_and_query, headers, body: body.as_bytes() }
}

#[test]
fn checks_of_the_api_server_on_the_requester_are_needed() {
    for row in ROWS {
        let request = request(row);
        let attributes = super::super::path::attributes(request.method, request.path_and_query).unwrap();
        let needed: Vec<String> = further(&attributes, &request)
            .into_iter()
            .map(|Further { attributes: a, .. }| {
                let subresource = if a.subresource.is_empty() { String::new() } else { format!("/{}", a.subresource) };
                let group = if a.group.is_empty() { String::new() } else { format!(".{}", a.group) };
                format!("{} {}{subresource}{group}", a.verb, a.resource)
            })
            .collect();
        assert_eq!(needed, row.4, "{row:?}");
    }
}

#[test]
fn each_check_needs_a_rule_and_a_grant_except_for_a_service_account() {
    let own = |row: &Row| {
        let request = request(row);
        let a = super::super::path::attributes(request.method, request.path_and_query).unwrap();
        let full =
            if a.subresource.is_empty() { a.resource.clone() } else { format!("{}/{}", a.resource, a.subresource) };
        (request, rule(&a.group, &full, a.verb))
    };
    let mut checked = 0;
    for row in ROWS.iter().filter(|row| !row.4.is_empty()) {
        let (request, own) = own(row);
        let without = Permissions::new(vec![own.clone()]);
        let denied = without.check_request(&request, false).unwrap_err();
        let Denied::NoRule(missing) = &denied else { panic!("{row:?}: {denied}") };
        assert!(!missing.why.is_empty() && denied.to_string().contains(missing.why), "{denied}");
        assert!(without.check_request(&request, true).is_ok(), "{row:?}");
        // Following its help step by step allows the request.
        let mut rules = vec![own.clone()];
        let allowed = loop {
            match Permissions::new(rules.clone()).check_request(&request, false) {
                Ok(allowed) => break allowed,
                Err(Denied::NoRule(missing)) if rules.len() < 5 => {
                    rules.push(rule(&missing.group, &missing.resource, missing.verbs[0]));
                }
                Err(denied) => panic!("{row:?}: {denied}"),
            }
        };
        assert_eq!(allowed.verb, own.verbs[0]);
        let granting = Permissions::new(rules).granting(Some([own].into()));
        assert!(matches!(granting.check_request(&request, false), Err(Denied::NotGranted(_))), "{row:?}");
        checked += 1;
    }
    assert!(checked > 25);
}

#[test]
fn a_name_limits_what_server_side_apply_may_create() {
    let named = |verb: &str| PolicyRule { resource_names: vec!["p".into()], ..rule("", "pods", verb) };
    let permissions = Permissions::new(vec![named("patch"), named("create")]);
    let apply = |path_and_query| ApiRequest { method: "PATCH", path_and_query, headers: APPLY, body: b"{}" };
    assert!(permissions.check_request(&apply("/api/v1/namespaces/a/pods/p"), false).is_ok());
    assert!(permissions.check_request(&apply("/api/v1/namespaces/a/pods/q"), false).is_err());
}

#[test]
fn an_unreadable_body_is_assumed_to_contain_every_word() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (headers, body, says) in [
        (JSON, r#"{"a":{"b":["word"]}}"#, true),
        (JSON, r#"{"a":{"WORD":null}}"#, true),
        (JSON, r#"{"a":{"b":["words",1,true,1.5,-3,null]}}"#, false),
        ("", r#"{"a":1}"#, false),
        (JSON, "", true),
        (JSON, "{", true),
        (JSON, "{} {}", true),
        (JSON, "a: b", true),
        (JSON, deep.as_str(), true),
        ("content-type: application/yaml\n", "{}", true),
        ("content-type: application/json\ncontent-type: application/yaml\n", "{}", true),
        ("content-type: application/json-patch+json\n", "[]", true),
    ] {
        let body = Body::of(&ApiRequest { headers, body: body.as_bytes(), ..ApiRequest::default() });
        assert_eq!(body.says(&["word"]), says, "{headers} {:?}", String::from_utf8_lossy(body.text));
    }
}
