//! Checks that the API server makes on the requester, in addition to the request.
//!
//! Without a ServiceAccount the requester is the host, whose rights exceed the controller's. So the host makes these
//! checks for the controller, by the same rules. The list covers the handlers, registries and default admission plugins
//! of Kubernetes 1.37. Where a check depends on the stored object, the host assumes that it applies.
//!
//! The host searches bodies for words only: which of two equal keys counts is up to the API server's decoder. An
//! unreadable body is assumed to contain all words.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::RBAC_GROUP;
use super::path::{Attributes, parameters};

/// A request to the API server, as the guest makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiRequest<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path and query as sent.
    pub path_and_query: &'a str,
    /// Lines `name: value\n`.
    pub headers: &'a str,
    /// Body.
    pub body: &'a [u8],
}

/// An additional permission that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Further {
    /// The attributes to be granted.
    pub attributes: Attributes,
    /// The text in parentheses in "no permission to VERB RESOURCE (…)".
    pub why: &'static str,
    /// Reaches beyond the object, so it is never learnt.
    pub is_far: bool,
}

const CERTIFICATES: &str = "certificates.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const WRITES: &[&str] = &["create", "update", "patch"];
const CHANGES: &[&str] = &["update", "patch"];

/// When a check applies.
#[derive(Clone, Copy)]
enum If {
    Always,
    /// The body contains any of these words.
    Says(&'static [&'static str]),
    /// As `Says`, or any patch, which may change the stored object without these words.
    SaysOrPatches(&'static [&'static str]),
}

/// A check: requests to `group`, `resource` (with subresource) and `verbs` need each of `needs`, a verb on a resource
/// of a group, for all names.
struct Check {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    applies: If,
    needs: &'static [(&'static str, &'static str, &'static str)],
    why: &'static str,
}

#[rustfmt::skip]
const CHECKS: &[Check] = &[
    // pkg/registry/rbac: nobody grants more than they have, except with `escalate` or `bind`. The role of a binding is
    // stored; `bind` on all cluster roles covers it.
    Check { group: RBAC_GROUP, resource: "roles", verbs: WRITES, applies: If::Always,
            needs: &[("escalate", RBAC_GROUP, "roles")], why: "a role hands out rights" },
    Check { group: RBAC_GROUP, resource: "clusterroles", verbs: WRITES, applies: If::Always,
            needs: &[("escalate", RBAC_GROUP, "clusterroles")], why: "a role hands out rights" },
    Check { group: RBAC_GROUP, resource: "rolebindings", verbs: WRITES, applies: If::Always,
            needs: &[("bind", RBAC_GROUP, "clusterroles")], why: "a binding hands out the rights of any role" },
    Check { group: RBAC_GROUP, resource: "clusterrolebindings", verbs: WRITES, applies: If::Always,
            needs: &[("bind", RBAC_GROUP, "clusterroles")], why: "a binding hands out the rights of any role" },
    // plugin/pkg/admission/certificates/{approval,signing,ctbattest}, pkg/registry/certificates/podcertificaterequest. The
    // signer is stored with the request.
    Check { group: CERTIFICATES, resource: "certificatesigningrequests/approval", verbs: CHANGES, applies: If::Always,
            needs: &[("approve", CERTIFICATES, "signers")], why: "approving needs a right on the signer" },
    Check { group: CERTIFICATES, resource: "certificatesigningrequests/status", verbs: CHANGES, applies: If::Always,
            needs: &[("sign", CERTIFICATES, "signers")], why: "issuing a certificate needs a right on the signer" },
    Check { group: CERTIFICATES, resource: "podcertificaterequests/status", verbs: CHANGES, applies: If::Always,
            needs: &[("sign", CERTIFICATES, "signers")], why: "issuing a certificate needs a right on the signer" },
    Check { group: CERTIFICATES, resource: "clustertrustbundles", verbs: WRITES, applies: If::SaysOrPatches(&["signerName"]),
            needs: &[("attest", CERTIFICATES, "signers")], why: "a trust bundle speaks for its signer" },
    // pkg/controller/certificates/approver: it approves a node's certificate by the rights of the requester, which is
    // the host.
    Check { group: CERTIFICATES, resource: "certificatesigningrequests", verbs: &["create", "patch"],
            applies: If::Says(&["kubernetes.io/kube-apiserver-client-kubelet"]),
            needs: &[("create", CERTIFICATES, "certificatesigningrequests/nodeclient"),
                     ("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient")],
            why: "the certificate of a node is approved by the rights of the requester" },
    // pkg/registry/admissionregistration: authz.go of each kind.
    Check { group: ADMISSION, resource: "validatingadmissionpolicies", verbs: WRITES, applies: If::SaysOrPatches(&["paramKind"]),
            needs: &[("get", "*", "*")], why: "a policy reads its parameters, whatever they are" },
    Check { group: ADMISSION, resource: "mutatingadmissionpolicies", verbs: WRITES, applies: If::SaysOrPatches(&["paramKind"]),
            needs: &[("get", "*", "*")], why: "a policy reads its parameters, whatever they are" },
    Check { group: ADMISSION, resource: "validatingadmissionpolicybindings", verbs: WRITES, applies: If::SaysOrPatches(&["paramRef"]),
            needs: &[("get", "*", "*"), ("list", "*", "*")], why: "a policy reads its parameters, whatever they are" },
    Check { group: ADMISSION, resource: "mutatingadmissionpolicybindings", verbs: WRITES, applies: If::SaysOrPatches(&["paramRef"]),
            needs: &[("get", "*", "*"), ("list", "*", "*")], why: "a policy reads its parameters, whatever they are" },
    // pkg/registry/resource/utils.go.
    Check { group: RESOURCE, resource: "resourceclaims/status", verbs: &["update"], applies: If::Says(&["allocation", "reservedFor"]),
            needs: &[("update", RESOURCE, "resourceclaims/binding")], why: "it binds the claim" },
    Check { group: RESOURCE, resource: "resourceclaims/status", verbs: &["patch"], applies: If::Says(&["allocation", "reservedFor"]),
            needs: &[("patch", RESOURCE, "resourceclaims/binding")], why: "it binds the claim" },
    Check { group: RESOURCE, resource: "resourceclaims/status", verbs: &["update"], applies: If::Says(&["devices"]),
            needs: &[("arbitrary-node:update", RESOURCE, "resourceclaims/driver")], why: "it speaks for a driver" },
    Check { group: RESOURCE, resource: "resourceclaims/status", verbs: &["patch"], applies: If::Says(&["devices"]),
            needs: &[("arbitrary-node:patch", RESOURCE, "resourceclaims/driver")], why: "it speaks for a driver" },
    // pkg/registry/core/pod/rest/authorize.go: a WebSocket request is a `get`, and still needs `create`.
    Check { group: "", resource: "pods/exec", verbs: &["get"], applies: If::Always,
            needs: &[("create", "", "pods/exec")], why: "a session is created" },
    Check { group: "", resource: "pods/attach", verbs: &["get"], applies: If::Always,
            needs: &[("create", "", "pods/attach")], why: "a session is created" },
    Check { group: "", resource: "pods/portforward", verbs: &["get"], applies: If::Always,
            needs: &[("create", "", "pods/portforward")], why: "a session is created" },
];

/// Kinds whose missing objects a PUT creates (`AllowCreateOnUpdate` of their strategies).
const CREATED_BY_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leasecandidates"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    (RBAC_GROUP, "clusterrolebindings"),
    (RBAC_GROUP, "clusterroles"),
    (RBAC_GROUP, "rolebindings"),
    (RBAC_GROUP, "roles"),
];

/// The delete option that skips finalizers.
const UNSAFE_DELETE_OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
const UNSAFE_DELETE: &str = "unsafe-delete-ignore-read-errors";

/// The additional permissions that a request needs.
pub(super) fn further(attributes: &Attributes, request: &ApiRequest<'_>) -> Vec<Further> {
    if !attributes.is_resource() {
        return Vec::new();
    }
    let body = Body::of(request);
    let full = match attributes.subresource.as_str() {
        "" => attributes.resource.clone(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let applies = |check: &&Check| {
        check.group == attributes.group
            && check.resource == full
            && check.verbs.contains(&attributes.verb)
            && match check.applies {
                If::Always => true,
                If::Says(words) => body.says(words),
                If::SaysOrPatches(words) => attributes.verb == "patch" || body.says(words),
            }
    };
    let mut all = Vec::new();
    for check in CHECKS.iter().filter(applies) {
        let of = |(verb, group, resource): &(&'static str, &str, &str)| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let attributes = Attributes {
                verb,
                group: (*group).into(),
                resource: resource.into(),
                subresource: subresource.into(),
                ..Attributes::default()
            };
            Further { attributes, why: check.why, is_far: true }
        };
        all.extend(check.needs.iter().map(of));
    }
    let same = |verb, why, is_far| Further { attributes: Attributes { verb, ..attributes.clone() }, why, is_far };
    let is_object = attributes.subresource.is_empty();
    if attributes.verb == "patch" && is_object && body.is_apply {
        all.push(same("create", "server-side apply creates what does not exist", false));
    }
    let kind = (attributes.group.as_str(), attributes.resource.as_str());
    if attributes.verb == "update" && is_object && CREATED_BY_UPDATE.contains(&kind) {
        all.push(same("create", "an update creates what does not exist", false));
    }
    if attributes.verb.starts_with("delete") && is_object {
        let parameters = parameters(request.path_and_query).unwrap_or_default();
        let in_query = parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case(UNSAFE_DELETE_OPTION));
        if in_query || !request.body.is_empty() && body.says(&[UNSAFE_DELETE_OPTION]) {
            all.push(same(UNSAFE_DELETE, "it skips finalizers", true));
        }
    }
    all
}

/// The body of a request.
struct Body<'a> {
    text: &'a [u8],
    /// JSON with named fields.
    is_readable: bool,
    /// A server-side apply patch.
    is_apply: bool,
}

impl<'a> Body<'a> {
    fn of(request: &ApiRequest<'a>) -> Body<'a> {
        let (mut is_readable, mut is_apply) = (true, false);
        for line in request.headers.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.trim().eq_ignore_ascii_case("content-type") {
                let value = value.to_ascii_lowercase();
                is_apply |= value.contains("apply-patch");
                let media_type = value.split(';').next().unwrap_or_default().trim();
                is_readable &= matches!(
                    media_type,
                    "" | "application/json"
                        | "application/merge-patch+json"
                        | "application/strategic-merge-patch+json"
                        | "application/apply-patch+yaml"
                );
            }
        }
        Body { text: request.body, is_readable, is_apply }
    }

    /// Whether any of these words is a key or a string value.
    fn says(&self, words: &[&str]) -> bool {
        let mut json = serde_json::Deserializer::from_slice(self.text);
        let said = Search(words).deserialize(&mut json).and_then(|said| json.end().map(|()| said));
        !self.is_readable || said.unwrap_or(true)
    }
}

/// Searches JSON for these words as keys or strings, at any depth.
#[derive(Clone, Copy)]
struct Search<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(self.0.iter().any(|word| word.eq_ignore_ascii_case(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key_seed(self)? {
            found |= key | map.next_value_seed(self)?;
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(element) = seq.next_element_seed(self)? {
            found |= element;
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
