//! The requests that hostile guests make, and their expected results.

use Expected::{Answered, Failed, Refused};
use Who::{Account, Asking, Everything, Nobody, Subset};

/// A controller, by the permissions that its package requests and its owner grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Requests some permissions, and is granted them.
    Asking,
    /// Requests every permission, and is granted all.
    Everything,
    /// Requests every permission, and is granted `get` on ConfigMaps and on the Secret `settings`.
    Subset,
    /// Requests every permission, and runs as a ServiceAccount without rights.
    Nobody,
    /// Requests every permission, and runs as a ServiceAccount with `get` and `list` on ConfigMaps in `team-a`.
    Account,
}

impl Who {
    pub const ALL: [Who; 5] = [Asking, Everything, Subset, Nobody, Account];

    /// The controller's name.
    pub fn name(self) -> &'static str {
        match self {
            Asking => "asking",
            Everything => "everything",
            Subset => "subset",
            Nobody => "nobody",
            Account => "account",
        }
    }

    /// The namespace and name of its ServiceAccount.
    pub fn service_account(self) -> Option<(&'static str, &'static str)> {
        match self {
            Nobody => Some(("team-a", "nobody")),
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
    pub who: Who,
    pub name: &'static str,
    pub target: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub headers: &'static str,
    pub body: &'static str,
    pub expected: Expected,
}

const fn attempt(
    who: Who,
    name: &'static str,
    method: &'static str,
    path: &'static str,
    expected: Expected,
) -> Attempt {
    Attempt { who, name, target: "", method, path, headers: "", body: "", expected }
}

const fn sending(headers: &'static str, name: &'static str, path: &'static str, expected: Expected) -> Attempt {
    Attempt { headers, ..attempt(Asking, name, "GET", path, expected) }
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
    Attempt { headers, body, ..attempt(Asking, name, method, path, expected) }
}

const MALFORMED: Expected = Refused("wasmop: request refused");
const UNASKED: Expected = Refused("wasmop: no permission to");
const UNGRANTED: Expected = Refused("wasmop: not granted to");

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
    attempt(Everything, "exec", "POST", EXEC, UNASKED),
    attempt(Everything, "exec by GET", "GET", EXEC, UNASKED),
    attempt(Everything, "attach", "POST", "/api/v1/namespaces/team-a/pods/p/attach", UNASKED),
    attempt(Everything, "portforward", "GET", "/api/v1/namespaces/team-a/pods/p/portforward?ports=1", UNASKED),
    attempt(Everything, "proxy of a pod", "GET", "/api/v1/namespaces/team-a/pods/p/proxy/secrets", UNASKED),
    attempt(Everything, "proxy of a service", "GET", "/api/v1/namespaces/team-a/services/s:80/proxy/x", UNASKED),
    attempt(
        Everything,
        "an ephemeral container in a pod",
        "PATCH",
        "/api/v1/namespaces/team-a/pods/p/ephemeralcontainers",
        UNASKED,
    ),
    attempt(Everything, "proxy of a node", "GET", "/api/v1/nodes/n/proxy/run", UNASKED),
    Attempt {
        body: TOKEN,
        headers: JSON,
        ..attempt(
            Everything,
            "token of a ServiceAccount",
            "POST",
            "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
            UNASKED,
        )
    },
    Attempt {
        target: "example.com",
        ..attempt(Everything, "another host", "GET", "/", Failed("example.com\" is no external host"))
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
    attempt(Asking, "another name", "GET", "/api/v1/namespaces/team-a/secrets/other", UNASKED),
    attempt(Asking, "all names", "GET", "/api/v1/namespaces/team-a/secrets", UNASKED),
    attempt(Asking, "all names, all namespaces", "GET", "/api/v1/secrets", UNASKED),
    attempt(Asking, "another verb", "PUT", "/api/v1/namespaces/team-a/secrets/settings", UNASKED),
    attempt(Asking, "another group", "GET", "/apis/apps/v1/namespaces/team-a/configmaps/settings", UNASKED),
    attempt(Asking, "upper case", "GET", "/api/v1/namespaces/team-a/ConfigMaps/settings", UNASKED),
    attempt(Asking, "watch without the verb", "GET", "/api/v1/configmaps?watch=true", UNASKED),
    attempt(Asking, "watch without a value", "GET", "/api/v1/configmaps?watch", UNASKED),
    attempt(Asking, "watch and no watch", "GET", "/api/v1/configmaps?watch=false&watch=true", UNASKED),
    attempt(Asking, "encoded watch", "GET", "/api/v1/configmaps?%77atch=1", UNASKED),
    attempt(Asking, "deletecollection", "DELETE", "/api/v1/namespaces/team-a/configmaps", UNASKED),
    attempt(
        Asking,
        "deletecollection of one name",
        "DELETE",
        "/api/v1/namespaces/team-a/secrets?fieldSelector=metadata.name=settings",
        UNASKED,
    ),
    attempt(
        Asking,
        "fieldSelector: not this name",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name!=settings",
        UNASKED,
    ),
    attempt(
        Asking,
        "fieldSelector: two names",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name=settings,metadata.name=other",
        UNASKED,
    ),
    attempt(
        Asking,
        "fieldSelector twice",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name=settings&fieldSelector=metadata.name=other",
        UNASKED,
    ),
    attempt(Asking, "fieldSelector: empty name", "GET", "/api/v1/secrets?fieldSelector=metadata.name=", UNASKED),
    attempt(Asking, "labelSelector", "GET", "/api/v1/secrets?labelSelector=metadata.name=settings", UNASKED),
    attempt(Asking, "status", "PATCH", "/api/v1/namespaces/team-a/pods/p/status", UNASKED),
    attempt(Asking, "log", "GET", "/api/v1/namespaces/team-a/pods/p/log", UNASKED),
    attempt(Asking, "eviction", "POST", "/api/v1/namespaces/team-a/pods/p/eviction", UNASKED),
    attempt(Asking, "ephemeral containers", "PATCH", "/api/v1/namespaces/team-a/pods/p/ephemeralcontainers", UNASKED),
    attempt(Asking, "finalize", "PUT", "/api/v1/namespaces/team-a/finalize", UNASKED),
    attempt(Asking, "discovery", "GET", "/api", UNASKED),
    attempt(Asking, "the root", "GET", "/", UNASKED),
    attempt(Asking, "metrics", "GET", "/metrics", UNASKED),
    attempt(Asking, "profiles", "GET", "/debug/pprof/heap", UNASKED),
    attempt(Asking, "logs", "GET", "/logs/kube-apiserver.log", UNASKED),
    attempt(Asking, "version by POST", "POST", "/version", UNASKED),
    attempt(Asking, "a path below version", "GET", "/version/x", UNASKED),
    Attempt {
        body: NEW_ROLE,
        headers: JSON,
        ..attempt(Asking, "a role without the verb escalate", "POST", ROLES, UNASKED)
    },
    Attempt {
        body: NEW_BINDING,
        headers: JSON,
        ..attempt(Asking, "a binding without the verb bind", "POST", BINDINGS, UNASKED)
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
        who: Account,
        ..changing(
            "RBAC: server-side apply",
            "PATCH",
            "/api/v1/namespaces/team-a/secrets/applied?fieldManager=x&row=c0",
            APPLY,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"applied"}}"#,
            Answered(403),
        )
    },
    attempt(Asking, "allowed: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=a1", Answered(200)),
    attempt(
        Asking,
        "allowed: in another namespace",
        "GET",
        "/api/v1/namespaces/team-b/configmaps/settings?row=a2",
        Answered(200),
    ),
    attempt(Asking, "allowed: list", "GET", "/api/v1/configmaps?limit=1&row=a3", Answered(200)),
    attempt(Asking, "allowed: no watch", "GET", "/api/v1/configmaps?watch=false&limit=1&row=a4", Answered(200)),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Asking, "allowed: create", "POST", "/api/v1/namespaces/team-a/configmaps?row=a5", Answered(201))
    },
    attempt(Asking, "allowed: delete", "DELETE", "/api/v1/namespaces/team-a/configmaps/doomed?row=a6", Answered(200)),
    attempt(Asking, "allowed: a name", "GET", "/api/v1/namespaces/team-a/secrets/settings?row=a7", Answered(200)),
    attempt(
        Asking,
        "allowed: list of a name",
        "GET",
        "/api/v1/secrets?fieldSelector=metadata.name%3Dsettings&row=a8",
        Answered(200),
    ),
    attempt(Asking, "allowed: a URL", "GET", "/version?row=a9", Answered(200)),
    attempt(
        Asking,
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
    attempt(Subset, "not granted: list", "GET", "/api/v1/configmaps", UNGRANTED),
    attempt(Subset, "not granted: watch", "GET", "/api/v1/configmaps?watch=true", UNGRANTED),
    attempt(Subset, "not granted: delete", "DELETE", "/api/v1/namespaces/team-a/configmaps/settings", UNGRANTED),
    attempt(Subset, "not granted: a name", "GET", "/api/v1/namespaces/team-a/secrets/other", UNGRANTED),
    attempt(Subset, "not granted: a URL", "GET", "/version", UNGRANTED),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Subset, "not granted: create", "POST", "/api/v1/namespaces/team-b/configmaps", UNGRANTED)
    },
    Attempt { body: NEW_BINDING, headers: JSON, ..attempt(Subset, "not granted: bind", "POST", BINDINGS, UNGRANTED) },
    attempt(Subset, "not requested: exec", "POST", EXEC, UNASKED),
    attempt(Subset, "granted: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=s1", Answered(200)),
    attempt(Subset, "granted: a name", "GET", "/api/v1/namespaces/team-a/secrets/settings?row=s2", Answered(200)),
    // As a ServiceAccount: the host forwards the request, and the API server's RBAC decides.
    attempt(Nobody, "RBAC: get", "GET", "/api/v1/namespaces/team-a/configmaps/settings?row=n1", Answered(403)),
    attempt(Nobody, "RBAC: list", "GET", "/api/v1/secrets?row=n2", Answered(403)),
    Attempt {
        body: NEW_MAP,
        headers: JSON,
        ..attempt(Nobody, "RBAC: create", "POST", "/api/v1/namespaces/team-a/configmaps?row=n3", Answered(403))
    },
    Attempt {
        headers: "Impersonate-User: system:admin\nImpersonate-Group: system:masters\n",
        ..attempt(Nobody, "RBAC: impersonation", "GET", "/api/v1/secrets?row=n4", Answered(403))
    },
    attempt(Nobody, "..: not forwarded", "GET", "/api/v1/namespaces/../secrets", MALFORMED),
    attempt(Nobody, "exec: not forwarded", "POST", EXEC, UNASKED),
    attempt(Nobody, "allowed to every authenticated user", "GET", "/version?row=n5", Answered(200)),
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
