//! The requests that hostile guests make, and their expected results.

use Caller::{Account, Everything, Limited, Subset, Unprivileged};
use Expected::{Answered, Failed, Refused};

/// A controller, by the permissions that its package requests and its owner grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Requests some permissions, and is granted them.
    Limited,
    /// Requests every permission, and is granted all.
    Everything,
    /// Requests every permission, and is granted `get` on ConfigMaps and on the Secret `settings`.
    Subset,
    /// Requests every permission, and runs as a ServiceAccount without rights.
    Unprivileged,
    /// Requests every permission, and runs as a ServiceAccount with `get` and `list` on ConfigMaps in `team-a`.
    Account,
}

impl Caller {
    pub const ALL: [Caller; 5] = [Limited, Everything, Subset, Unprivileged, Account];

    /// The controller's name.
    pub fn name(self) -> &'static str {
        match self {
            Limited => "limited",
            Everything => "everything",
            Subset => "subset",
            Unprivileged => "unprivileged",
            Account => "account",
        }
    }

    /// The namespace and name of its ServiceAccount.
    pub fn service_account(self) -> Option<(&'static str, &'static str)> {
        match self {
            Unprivileged => Some(("team-a", "nobody")),
            Account => Some(("team-a", "account")),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// The host responds with 403 and a message that contains this text. Nothing reaches the API server.
    Refused(&'static str),
    /// The call fails with this text. Nothing reaches the API server.
    Failed(&'static str),
    /// The request reaches the API server unchanged, which responds with this status.
    Answered(u16),
}

#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub caller: Caller,
    pub name: &'static str,
    pub target: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub headers: &'static str,
    pub body: &'static str,
    pub expected: Expected,
}

const fn attempt(
    caller: Caller,
    name: &'static str,
    method: &'static str,
    path: &'static str,
    expected: Expected,
) -> Attempt {
    Attempt { caller, name, target: "", method, path, headers: "", body: "", expected }
}

const fn sending(headers: &'static str, name: &'static str, path: &'static str, expected: Expected) -> Attempt {
    Attempt { headers, ..attempt(Limited, name, "GET", path, expected) }
}

/// An attempt of the controller with some permissions, with a body.
const fn changing(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: &'static str,
    body: &'static str,
    expected: Expected,
) -> Attempt {
    Attempt { headers, body, ..attempt(Limited, name, method, path, expected) }
}

const MALFORMED: Expected = Refused("wasmop: request refused");
const NOT_REQUESTED: Expected = Refused("wasmop: no permission to");
const NOT_GRANTED: Expected = Refused("wasmop: not granted to");

const JSON: &str = "content-type: application/json\n";
const APPLY: &str = "content-type: application/apply-patch+yaml\n";
const NEW_MAP: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"made"}}"#;
const NEW_ROLE: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"own"},
  "rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#;
const NEW_BINDING: &str = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding",
  "metadata":{"name":"own"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},
  "subjects":[{"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:authenticated"}]}"#;
const TOKEN: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const EXEC: &str = "/api/v1/namespaces/team-a/pods/p/exec?command=sh&stdout=true";

/// A path longer than the host's limit.
pub fn huge() -> Attempt {
    let path: String = format!("/api/v1/namespaces/team-a/secrets?x={}", "a".repeat(100_000));
    attempt(Everything, "a huge path", "GET", path.leak(), MALFORMED)
}

pub const ATTEMPTS: &[Attempt] = &[
    // Ambiguous paths, sent by a controller with every permission.
    attempt(Everything, "..", "GET", "/api/v1/namespaces/team-a/configmaps/../secrets/other", MALFORMED),
    attempt(Everything, ".. at the end", "GET", "/api/v1/namespaces/team-a/secrets/..", MALFORMED),
    attempt(Everything, ".", "GET", "/api/v1/./secrets", MALFORMED),
    attempt(Everything, "...", "GET", "/api/v1/.../secrets", MALFORMED),
    attempt(Everything, "encoded ..", "GET", "/api/v1/namespaces/team-a/configmaps/%2e%2e/secrets", MALFORMED),
    attempt(Everything, "half encoded ..", "GET", "/api/v1/namespaces/team-a/configmaps/.%2E/secrets", MALFORMED),
    attempt(Everything, "encoded / in a namespace", "GET", "/api/v1/namespaces/team-a%2Fsecrets", MALFORMED),
    attempt(Everything, "encoded / in a name", "GET", "/api/v1/namespaces/team-a/configmaps%2fsettings", MALFORMED),
    attempt(Everything, "encoded twice", "GET", "/api/v1/namespaces/team-a/configmaps/%252e%252e/secrets", MALFORMED),
    attempt(Everything, "slash encoded twice", "GET", "/api/v1/namespaces/team-a%252Fsecrets", MALFORMED),
    attempt(Everything, "overlong encoding", "GET", "/api/v1/%c0%ae%c0%ae/v1/secrets", MALFORMED),
    attempt(Everything, "truncated encoding", "GET", "/api/v1/secrets%2", MALFORMED),
    attempt(Everything, "invalid encoding", "GET", "/api/v1/secrets%zz", MALFORMED),
    attempt(Everything, "NUL", "GET", "/api/v1/secrets%00", MALFORMED),
    attempt(Everything, "backslash", "GET", "/api/v1\\secrets", MALFORMED),
    attempt(Everything, "encoded backslash", "GET", "/api/v1%5csecrets", MALFORMED),
    attempt(Everything, "absolute URL", "GET", "https://example.com/api/v1/secrets", MALFORMED),
    attempt(Everything, "absolute URL with a user", "GET", "https://a@127.0.0.1/api/v1/secrets", MALFORMED),
    attempt(Everything, "// at the beginning", "GET", "//example.com/api/v1/secrets", MALFORMED),
    attempt(Everything, "// in the middle", "GET", "/api//v1/secrets", MALFORMED),
    attempt(Everything, "trailing slash", "GET", "/api/v1/namespaces/team-a/secrets/", MALFORMED),
    attempt(Everything, "; in the path", "GET", "/api/v1/secrets;x=1", MALFORMED),
    attempt(Everything, "; in the query", "GET", "/api/v1/secrets?limit=1;watch=true", MALFORMED),
    attempt(Everything, "fragment", "GET", "/api/v1/secrets#/version", MALFORMED),
    attempt(Everything, "space", "GET", "/api/v1/secrets HTTP/1.1", MALFORMED),
    attempt(
        Everything,
        "CR LF in the path",
        "GET",
        "/api/v1/secrets HTTP/1.1\r\nImpersonate-User: system:admin\r\nX: ",
        MALFORMED,
    ),
    attempt(Everything, "CR LF in the query", "GET", "/version?a\r\nImpersonate-User: system:admin", MALFORMED),
    attempt(Everything, "encoded CR LF", "GET", "/api/v1/secrets%0d%0aImpersonate-User:%20a", MALFORMED),
    attempt(Everything, "not ASCII", "GET", "/api/v1/secr\u{e9}ts", MALFORMED),
    attempt(Everything, "full-width slash", "GET", "/api/v1\u{ff0f}secrets", MALFORMED),
    attempt(Everything, "no slash", "GET", "api/v1/secrets", MALFORMED),
    attempt(Everything, "an empty path", "GET", "", MALFORMED),
    attempt(Everything, "*", "OPTIONS", "*", MALFORMED),
    attempt(Everything, "watch in the path", "GET", "/api/v1/watch/secrets", MALFORMED),
    attempt(Everything, "proxy in the path", "GET", "/api/v1/proxy/namespaces/team-a/pods/p", MALFORMED),
    attempt(Everything, "a path below a subresource", "GET", "/api/v1/namespaces/team-a/pods/p/status/x", MALFORMED),
    // Methods.
    attempt(Everything, "lower-case get", "get", "/api/v1/secrets", MALFORMED),
    attempt(Everything, "lower-case delete", "delete", "/api/v1/namespaces/team-a/secrets/other", MALFORMED),
    attempt(Everything, "CONNECT", "CONNECT", "/api/v1/namespaces/team-a/pods/p/exec", MALFORMED),
    attempt(Everything, "CONNECT to an authority", "CONNECT", "example.com:443", MALFORMED),
    attempt(Everything, "TRACE", "TRACE", "/api/v1/secrets", MALFORMED),
    attempt(Everything, "no method", "", "/api/v1/secrets", MALFORMED),
    attempt(Everything, "a request in the method", "GET /api/v1/secrets HTTP/1.1\r\nX:", "/version", MALFORMED),
    attempt(Everything, "POST under a name", "POST", "/api/v1/namespaces/team-a/configmaps/x", MALFORMED),
    attempt(Everything, "PUT to a collection", "PUT", "/api/v1/namespaces/team-a/configmaps", MALFORMED),
    // Resources that a wildcard does not include.
    attempt(Everything, "exec", "POST", EXEC, NOT_REQUESTED),
    attempt(Everything, "exec by GET", "GET", EXEC, NOT_REQUESTED),
    attempt(Everything, "attach", "POST", "/api/v1/namespaces/team-a/pods/p/attach", NOT_REQUESTED),
    attempt(Everything, "portforward", "GET", "/api/v1/namespaces/team-a/pods/p/portforward?ports=1", NOT_REQUESTED),
    attempt(Everything, "proxy of a pod", "GET", "/api/v1/namespaces/team-a/pods/p/proxy/secrets", NOT_REQUESTED),
    attempt(Everything, "proxy of a service", "GET", "/api/v1/namespaces/team-a/services/s:80/proxy/x", NOT_REQUESTED),
    attempt(
        Everything,
        "an ephemeral container in a pod",
        "PATCH",
        "/api/v1/namespaces/team-a/pods/p/ephemeralcontainers",
        NOT_REQUESTED,
    ),
    attempt(Everything, "proxy of a node", "GET", "/api/v1/nodes/n/proxy/run", NOT_REQUESTED),
    Attempt {
        body: TOKEN,
        headers: JSON,
        ..attempt(
            Everything,
            "token of a ServiceAccount",
            "POST",
            "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
            NOT_REQUESTED,
        )
    },
    Attempt {
        target: "example.com",
        ..attempt(Everything, "another host", "GET", "/", Failed("example.com\" is not a valid external host"))
    },
    attempt(Everything, "allowed: list", "GET", "/api/v1/namespaces/team-a/configmaps?row=e1", Answered(200)),
    attempt(
        Everything,
        "allowed: watch",
        "GET",
        "/api/v1/namespaces/team-a/configmaps?watch=true&timeoutSeconds=1&row=e2",
        Answered(200),
    ),
    // Requests beyond the requested permissions.
    attempt(Limited, "another name", "GET", "/api/v1/namespaces/team-a/secrets/other", NOT_REQUESTED),
    attempt(Limited, "all names", "GET", "/api/v1/namespaces/team-a/secrets", NOT_REQUESTED),
    attempt(Limited, "all names, all namespaces", "GET", "/api/v1/secrets", NOT_REQUESTED),
    attempt(Limited, "another verb", "PUT", "/api/v1/namespaces/team-a/secrets/settings", NOT_REQUESTED),
    attempt(Limited, "another group", "GET", "/apis/apps/v1/namespaces/team-a/configmaps/settings", NOT_REQUESTED),
    attempt(Limited, "upper case", "GET", "/api/v1/namespaces/team-a/ConfigMaps/settings", NOT_REQUESTED),
    attempt(Limited, "watch without the verb", "GET", "/api/v1/configmaps?watch=true", NOT_REQUESTED),
    attempt(Limited, "watch without a value", "GET", "/api/v1/configmaps?watch", NOT_REQUESTED),
    attempt(Limited, "watch and no watch", "GET", "/api/v1/configmaps?watch=false&watch=true", NOT_REQUESTED),
    attempt(Limited, "encoded watch", "GET", "/api/v1/configmaps?%77atch=1", NOT_REQUESTED),
    attempt(Limited, "deletecollection", "DELETE", "/api/v1/namespaces/team-a/configmaps", NOT_REQUESTED),
    attempt(
        Limited,
        "deletecollection of one name",
        "DELETE",
        "/api/v1/namespaces/team-a/secrets?fieldSelector=metadata.name=settings",
        NOT_REQUESTED,
    ),
    attempt(
        Limited,
        "fieldSelector: not this name",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name!=settings",
        NOT_REQUESTED,
    ),
    attempt(
        Limited,
        "fieldSelector: two names",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name=settings,metadata.name=other",
        NOT_REQUESTED,
    ),
    attempt(
        Limited,
        "fieldSelector twice",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name=settings&fieldSelector=metadata.name=other",
        NOT_REQUESTED,
    ),
    attempt(Limited, "fieldSelector: empty name", "GET", "/api/v1/secrets?fieldSelector=metadata.name=", NOT_REQUESTED),
    attempt(Limited, "labelSelector", "GET", "/api/v1/secrets?labelSelector=metadata.name=settings", NOT_REQUESTED),
    attempt(Limited, "status", "PATCH", "/api/v1/namespaces/team-a/pods/p/status", NOT_REQUESTED),
    attempt(Limited, "log", "GET", "/api/v1/namespaces/team-a/pods/p/log", NOT_REQUESTED),
    attempt(Limited, "eviction", "POST", "/api/v1/namespaces/team-a/pods/p/eviction", NOT_REQUESTED),
    attempt(
        Limited,
        "ephemeral containers",
        "PATCH",
        "/api/v1/namespaces/team-a/pods/p/ephemeralcontainers",
        NOT_REQUESTED,
    ),
    attempt(Limited, "finalize", "PUT", "/api/v1/namespaces/team-a/finalize", NOT_REQUESTED),
    attempt(Limited, "discovery", "GET", "/api", NOT_REQUESTED),
    attempt(Limited, "the root", "GET", "/", NOT_REQUESTED),
    attempt(Limited, "metrics", "GET", "/metrics", NOT_REQUESTED),
    attempt(Limited, "profiles", "GET", "/debug/pprof/heap", NOT_REQUESTED),
    attempt(Limited, "logs", "GET", "/logs/kube-apiserver.log", NOT_REQUESTED),
    attempt(Limited, "version by POST", "POST", "/version", NOT_REQUESTED),
    attempt(Limited, "a path below version", "GET", "/version/x", NOT_REQUESTED),
    Attempt {
        body: NEW_ROLE,
        headers: JSON,
        ..attempt(Limited, "a role without the verb escalate", "POST", ROLES, NOT_REQUESTED)
    },
    Attempt {
        body: NEW_BINDING,
        headers: JSON,
        ..attempt(Limited, "a binding without the verb bind", "POST", BINDINGS, NOT_REQUESTED)
    },
    // Requests that the API server checks against the identity of the host, which is an administrator.
    changing(
        "server-side apply that creates",
        "PATCH",
        "/api/v1/namespaces/team-b/secrets/settings?fieldManager=x",
        APPLY,
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"settings"}}"#,
        Refused("wasmop: no permission to create secrets"),
    ),
    changing(
        "an update that creates",
        "PUT",
        "/api/v1/namespaces/team-a/services/evil",
        JSON,
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"evil"},"spec":{"ports":[{"port":1}]}}"#,
        Refused("wasmop: no permission to create services"),
    ),
    changing(
        "approving a certificate",
        "PUT",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval",
        JSON,
        "{}",
        Refused("wasmop: no permission to approve signers"),
    ),
    changing(
        "issuing a certificate",
        "PATCH",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/status",
        "content-type: application/merge-patch+json\n",
        r#"{"status":{"certificate":"eA=="}}"#,
        Refused("wasmop: no permission to sign signers"),
    ),
    changing(
        "the certificate of a node",
        "POST",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        JSON,
        r#"{"spec":{"signerName":"kubernetes.io/kube-apiserver-client-kubelet"}}"#,
        Refused("wasmop: no permission to create certificatesigningrequests/nodeclient"),
    ),
    changing(
        "a trust bundle of a signer",
        "POST",
        "/apis/certificates.k8s.io/v1beta1/clustertrustbundles",
        JSON,
        r#"{"spec":{"signerName":"a.example/b","trustBundle":""}}"#,
        Refused("wasmop: no permission to attest signers"),
    ),
    changing(
        "a policy with any parameter kind",
        "POST",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        JSON,
        r#"{"spec":{"paramKind":{"apiVersion":"v1","kind":"Secret"}}}"#,
        Refused("wasmop: no permission to get *"),
    ),
    changing(
        "binding a resource claim",
        "PATCH",
        "/apis/resource.k8s.io/v1/namespaces/team-a/resourceclaims/c/status",
        "content-type: application/merge-patch+json\n",
        r#"{"status":{"reservedFor":[]}}"#,
        Refused("wasmop: no permission to patch resourceclaims/binding"),
    ),
    changing(
        "a deletion that skips finalizers",
        "DELETE",
        "/api/v1/namespaces/team-a/configmaps/doomed",
        JSON,
        r#"{"ignoreStoreReadErrorWithClusterBreakingPotential":true}"#,
        Refused("wasmop: no permission to unsafe-delete-ignore-read-errors configmaps"),
    ),
    changing(
        "allowed: server-side apply",
        "PATCH",
        "/api/v1/namespaces/team-a/configmaps/applied?fieldManager=x&row=a0",
        APPLY,
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"}}"#,
        Answered(201),
    ),
    Attempt {
        caller: Account,
        ..changing(
            "RBAC: server-side apply",
            "PATCH",
            "/api/v1/namespaces/team-a/secrets/applied?fieldManager=x&row=c0",
            APPLY,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"applied"}}"#,
            Answered(403),
        )
    },
    attempt(Limited, "allowed: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=a1", Answered(200)),
    attempt(
        Limited,
        "allowed: in another namespace",
        "GET",
        "/api/v1/namespaces/team-b/configmaps/settings?row=a2",
        Answered(200),
    ),
    attempt(Limited, "allowed: list", "GET", "/api/v1/configmaps?limit=1&row=a3", Answered(200)),
    attempt(Limited, "allowed: no watch", "GET", "/api/v1/configmaps?watch=false&limit=1&row=a4", Answered(200)),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Limited, "allowed: create", "POST", "/api/v1/namespaces/team-a/configmaps?row=a5", Answered(201))
    },
    attempt(Limited, "allowed: delete", "DELETE", "/api/v1/namespaces/team-a/configmaps/doomed?row=a6", Answered(200)),
    attempt(Limited, "allowed: a name", "GET", "/api/v1/namespaces/team-a/secrets/settings?row=a7", Answered(200)),
    attempt(
        Limited,
        "allowed: list of a name",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name%3Dsettings&row=a8",
        Answered(200),
    ),
    attempt(Limited, "allowed: a URL", "GET", "/version?row=a9", Answered(200)),
    attempt(
        Limited,
        "allowed: an encoded letter",
        "GET",
        "/api/v1/namespaces/team-a/configmaps/%73ettings?row=b1",
        Answered(200),
    ),
    // The host forwards the request, without these headers.
    sending("Impersonate-User: system:admin\n", "Impersonate-User", "/version?row=h1", Answered(200)),
    sending(
        "Impersonate-User: system:serviceaccount:kube-system:default\nImpersonate-Group: system:masters\nImpersonate-Uid: 1\nImpersonate-Extra-a: b\n",
        "Impersonate-Group, -Uid and -Extra",
        "/version?row=h2",
        Answered(200),
    ),
    sending("Authorization: Bearer stolen\n", "Authorization", "/version?row=h3", Answered(200)),
    sending("X-Remote-User: root\nX-Remote-Group: system:masters\n", "X-Remote-User", "/version?row=h4", Answered(200)),
    sending(
        "X-HTTP-Method-Override: DELETE\n",
        "method override",
        "/api/v1/namespaces/team-a/configmaps/settings?row=h5",
        Answered(200),
    ),
    sending(
        "Content-Length: 4\nTransfer-Encoding: chunked\n",
        "a wrong content length",
        "/version?row=h6",
        Answered(200),
    ),
    sending("Connection: Upgrade\nUpgrade: websocket\n", "upgrade", "/version?row=h7", Answered(200)),
    sending("User-Agent: kubectl/v1\n", "another user agent", "/version?row=h8", Answered(200)),
    sending(
        ":method: DELETE\n:path: /api/v1/namespaces/team-a/secrets/other\n:authority: example.com\n",
        "pseudo-headers",
        "/api/v1/namespaces/team-a/configmaps/settings?row=h9",
        Answered(200),
    ),
    sending(
        "Host: example.com\nForwarded: host=example.com\n",
        "another host's name",
        "/version?row=i1",
        Answered(200),
    ),
    sending(
        "accept: application/json\r\nImpersonate-User: system:admin\r\n",
        "CR LF between headers",
        "/version?row=i2",
        Answered(200),
    ),
    sending(
        "accept: application/json\rImpersonate-User: system:admin\n",
        "CR in a header's value",
        "/version?row=i3",
        Failed("header accept is malformed"),
    ),
    sending(
        "content-type: a\u{0}b\n",
        "NUL in a header's value",
        "/version?row=i4",
        Failed("header content-type is malformed"),
    ),
    sending(
        "accept : application/json\nImpersonate-User : a\n",
        "a space before the colon",
        "/version?row=i5",
        Answered(200),
    ),
    // Requests beyond the grant.
    attempt(Subset, "not granted: list", "GET", "/api/v1/configmaps", NOT_GRANTED),
    attempt(Subset, "not granted: watch", "GET", "/api/v1/configmaps?watch=true", NOT_GRANTED),
    attempt(Subset, "not granted: delete", "DELETE", "/api/v1/namespaces/team-a/configmaps/settings", NOT_GRANTED),
    attempt(Subset, "not granted: a name", "GET", "/api/v1/namespaces/team-a/secrets/other", NOT_GRANTED),
    attempt(Subset, "not granted: a URL", "GET", "/version", NOT_GRANTED),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Subset, "not granted: create", "POST", "/api/v1/namespaces/team-b/configmaps", NOT_GRANTED)
    },
    Attempt { body: NEW_BINDING, headers: JSON, ..attempt(Subset, "not granted: bind", "POST", BINDINGS, NOT_GRANTED) },
    attempt(Subset, "not requested: exec", "POST", EXEC, NOT_REQUESTED),
    attempt(Subset, "granted: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=s1", Answered(200)),
    attempt(Subset, "granted: a name", "GET", "/api/v1/namespaces/team-a/secrets/settings?row=s2", Answered(200)),
    // As a ServiceAccount: the host forwards the request, and the API server's RBAC decides.
    attempt(Unprivileged, "RBAC: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=n1", Answered(403)),
    attempt(Unprivileged, "RBAC: list", "GET", "/api/v1/secrets?row=n2", Answered(403)),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Unprivileged, "RBAC: create", "POST", "/api/v1/namespaces/team-a/configmaps?row=n3", Answered(403))
    },
    Attempt {
        headers: "Impersonate-User: system:admin\nImpersonate-Group: system:masters\n",
        ..attempt(Unprivileged, "RBAC: impersonation", "GET", "/api/v1/secrets?row=n4", Answered(403))
    },
    attempt(Unprivileged, "..: not forwarded", "GET", "/api/v1/namespaces/../secrets", MALFORMED),
    attempt(Unprivileged, "exec: not forwarded", "POST", EXEC, NOT_REQUESTED),
    attempt(Unprivileged, "allowed to every authenticated user", "GET", "/version?row=n5", Answered(200)),
    attempt(
        Account,
        "RBAC: another namespace",
        "GET",
        "/api/v1/namespaces/team-b/configmaps/settings?row=c1",
        Answered(403),
    ),
    attempt(Account, "RBAC: all namespaces", "GET", "/api/v1/configmaps?row=c2", Answered(403)),
    attempt(Account, "RBAC: another kind", "GET", "/api/v1/namespaces/team-a/secrets/settings?row=c3", Answered(403)),
    attempt(Account, "RBAC: watch", "GET", "/api/v1/namespaces/team-a/configmaps?watch=true&row=c4", Answered(403)),
    attempt(Account, "RBAC allows: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=c5", Answered(200)),
    attempt(Account, "RBAC allows: list", "GET", "/api/v1/namespaces/team-a/configmaps?row=c6", Answered(200)),
];
