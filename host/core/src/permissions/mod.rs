//! Decides whether a controller may make a request, by the RBAC rules of its package's manifest and of its owner's
//! grant.
//!
//! Deny by default: the host denies every request that is not both asked for and granted, before it leaves. Rules mean
//! what they mean in a `ClusterRole`, with two exceptions, both on the safe side. Subresources that expose more than
//! the object must be named (`pods/exec`; `*` does not grant it). And the host makes those checks for the controller
//! that the API server makes on the requester (`requester`). `docs/permissions.md` has the details.

pub mod external;
mod grant;
pub mod learn;
mod path;
mod requester;
mod rules;

use std::fmt;
use std::sync::Arc;

use wasmop_package::external::HostPattern;
use wasmop_package::manifest::PolicyRule;

use self::external::{Contact, External, ExternalDenied, ExternalGrant};
pub use grant::Grant;
use path::{Attributes, attributes};
pub use path::{BadRequest, is_stream, is_watch, parameters};
pub use requester::ApiRequest;
use requester::{Further, further};
pub use rules::render;

/// Subresources that reach into a container, bypass the API server, or act as another identity.
const NAMED_ONLY: [&str; 6] = ["proxy", "exec", "attach", "ephemeralcontainers", "portforward", "token"];
/// Most bytes shown of a name: the longest name in Kubernetes.
const MAX_SHOWN: usize = 253;

/// What a controller may ask of the API server and of external hosts.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Rules of its package's manifest.
    asked: Arc<[PolicyRule]>,
    /// Rules that its owner grants; `None`: all of `asked`.
    granted: Option<Arc<[PolicyRule]>>,
    external: External,
}

/// An allowed request, as the host understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// RBAC verb.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Empty for a non-resource URL.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, if there is one.
    pub namespace: Option<String>,
    /// Name, unless it is a collection.
    pub name: Option<String>,
}

/// A denied request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule of the package asks for it.
    #[error("no permission to {0}")]
    NoRule(Box<Missing>),
    /// The package asks for it, but its owner does not grant it.
    #[error("not granted to {0}")]
    NotGranted(Box<Missing>),
    /// It is malformed or ambiguous.
    #[error("request refused: {0}")]
    BadRequest(#[from] BadRequest),
}

/// What a rule would have to grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// RBAC verbs.
    pub verbs: Vec<&'static str>,
    /// API group, empty for the core group.
    pub group: String,
    /// With subresource: `pods/log`. Empty for a non-resource URL.
    pub resource: String,
    /// Namespace of the request.
    pub namespace: Option<String>,
    /// Name in the request.
    pub name: Option<String>,
    /// Only for a non-resource URL.
    pub path: String,
    /// Why the API server checks this in addition; empty for the request itself.
    pub why: &'static str,
}

/// Cuts a text to the length of a name.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs = self.verbs.join(" and ");
        if self.resource.is_empty() {
            write!(f, "{verbs} the URL {}", shown(&self.path))?;
        } else {
            write!(f, "{verbs} {}", shown(&self.resource))?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", shown(&self.group))?;
        }
        if let Some(name) = &self.name {
            write!(f, " {:?}", shown(name))?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace {:?}", shown(namespace))?;
        }
        match self.why {
            "" => Ok(()),
            why => write!(f, " ({why})"),
        }
    }
}

impl Denied {
    /// How to allow the request to the controller of this name.
    pub fn help(&self, controller: &str) -> String {
        match self {
            Denied::NoRule(missing) => {
                format!("to allow it, add to wasmop.toml and build again:\n{}", missing.rule("permissions"))
            }
            Denied::NotGranted(missing) => {
                let rule = missing.rule(&format!("controllers.{controller}.grant"));
                format!("the package asks for it; to grant it, add to the host's configuration file:\n{rule}")
            }
            Denied::BadRequest(_) => {
                "send the path in its normal form, as /api/VERSION/… or /apis/GROUP/VERSION/…".into()
            }
        }
    }

    /// The `Status` object that the guest gets with HTTP status 403, as JSON.
    pub fn status_json(&self) -> String {
        let (reason, details) = match self {
            Denied::NoRule(missing) | Denied::NotGranted(missing) => {
                let kind = shown(missing.resource.split('/').next().unwrap_or_default());
                let name = shown(missing.name.as_deref().unwrap_or_default());
                ("Forbidden", serde_json::json!({"group": shown(&missing.group), "kind": kind, "name": name}))
            }
            Denied::BadRequest(_) => ("Forbidden", serde_json::json!({})),
        };
        serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": format!("wasmop: {self}"),
            "reason": reason,
            "details": details,
            "code": 403,
        })
        .to_string()
    }
}

impl Missing {
    /// The `[[table]]` block in TOML that grants exactly this, for all names.
    pub fn rule(&self, table: &str) -> String {
        let verbs = self.verbs.iter().map(|verb| (*verb).into()).collect();
        let rule = match self.resource.as_str() {
            "" => PolicyRule { non_resource_urls: vec![self.path.clone()], verbs, ..PolicyRule::default() },
            resource => PolicyRule {
                api_groups: vec![self.group.clone()],
                resources: vec![resource.into()],
                verbs,
                ..PolicyRule::default()
            },
        };
        render(table, &rule)
    }
}

impl Permissions {
    /// Everything that a package asks for.
    pub fn new(asked: Vec<PolicyRule>) -> Self {
        Permissions { asked: asked.into(), ..Permissions::default() }
    }

    /// Adds the external hosts that the package asks for.
    pub fn with_external(mut self, asked: Vec<HostPattern>) -> Self {
        self.external.asked = asked.into();
        self
    }

    /// Limits the rules to those granted; `None`: all.
    pub fn granting(&self, granted: Option<Arc<[PolicyRule]>>) -> Self {
        Permissions { granted, ..self.clone() }
    }

    /// Limits the external hosts to those granted.
    pub fn granting_external(mut self, granted: ExternalGrant) -> Self {
        self.external.granted = granted;
        self
    }

    /// The external hosts that its package asks for.
    pub fn external_asked(&self) -> &[HostPattern] {
        &self.external.asked
    }

    /// What the owner grants of the external hosts.
    pub fn external_granted(&self) -> &ExternalGrant {
        &self.external.granted
    }

    /// Checks a request to an external host.
    ///
    /// # Errors The host is malformed, not asked for or not granted.
    pub fn check_external(&self, target: &str) -> Result<Contact, ExternalDenied> {
        self.external.check(target)
    }

    /// What the owner grants; `None`: all that is asked for.
    pub fn granted(&self) -> Option<&Arc<[PolicyRule]>> {
        self.granted.as_ref()
    }

    /// Checks a request without a body. `path_and_query` is the path as sent.
    ///
    /// # Errors The request is denied.
    pub fn check(&self, method: &str, path_and_query: &str) -> Result<Allowed, Denied> {
        self.check_request(&ApiRequest { method, path_and_query, ..ApiRequest::default() }, false)
    }

    /// Checks a request. `as_account`: the request is made as a ServiceAccount, on which the API server makes its own
    /// checks; otherwise as the host.
    ///
    /// # Errors The request is denied.
    pub fn check_request(&self, request: &ApiRequest<'_>, as_account: bool) -> Result<Allowed, Denied> {
        let asked = Asked::read(request, as_account)?;
        self.check_all(&asked)?;
        let Attributes { verb, group, version, resource, subresource, namespace, name, .. } = asked.attributes;
        Ok(Allowed { verb, group, version, resource, subresource, namespace, name })
    }

    /// Checks whether the host may watch this resource for the package, which reveals what exists and when it changes.
    /// Needs `list` and `watch`.
    ///
    /// # Errors The watch is denied.
    pub fn may_watch(&self, group: &str, plural: &str, namespace: Option<&str>) -> Result<(), Denied> {
        let attributes = |verb| Attributes {
            verb,
            group: group.into(),
            resource: plural.into(),
            namespace: namespace.map(Into::into),
            ..Attributes::default()
        };
        let lacking = |rules: &[PolicyRule]| {
            let verbs = WATCHING.into_iter().filter(|verb| !any_grants(rules, &attributes(verb)));
            Some(verbs.collect::<Vec<_>>()).filter(|verbs| !verbs.is_empty())
        };
        if let Some(verbs) = lacking(&self.asked) {
            return Err(Denied::NoRule(missing(verbs, attributes("watch"))));
        }
        match self.granted.as_deref().and_then(lacking) {
            Some(verbs) => Err(Denied::NotGranted(missing(verbs, attributes("watch")))),
            None => Ok(()),
        }
    }

    /// Checks everything that a request needs.
    fn check_all(&self, asked: &Asked) -> Result<(), Denied> {
        let further = asked.further.iter().map(|further| (&further.attributes, further.why));
        for (attributes, why) in std::iter::once((&asked.attributes, "")).chain(further) {
            let missing = || Box::new(Missing { why, ..*missing(vec![attributes.verb], attributes.clone()) });
            if !any_grants(&self.asked, attributes) {
                return Err(Denied::NoRule(missing()));
            }
            if self.granted.as_ref().is_some_and(|granted| !any_grants(granted, attributes)) {
                return Err(Denied::NotGranted(missing()));
            }
        }
        Ok(())
    }
}

/// A request with everything that it needs.
#[derive(Debug)]
struct Asked {
    attributes: Attributes,
    further: Vec<Further>,
}

impl Asked {
    fn read(request: &ApiRequest<'_>, as_account: bool) -> Result<Asked, BadRequest> {
        let attributes = attributes(request.method, request.path_and_query)?;
        let further = if as_account { Vec::new() } else { further(&attributes, request) };
        Ok(Asked { attributes, further })
    }

    /// Whether it reaches beyond the object. Neither a `*` nor permission learning allows such requests.
    fn is_far_reaching(&self) -> bool {
        NAMED_ONLY.contains(&self.attributes.subresource.as_str()) || self.further.iter().any(|further| further.is_far)
    }
}

/// The verbs of a watch.
const WATCHING: [&str; 2] = ["list", "watch"];

fn any_grants(rules: &[PolicyRule], attributes: &Attributes) -> bool {
    rules.iter().any(|rule| grants(rule, attributes))
}

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

fn grants(rule: &PolicyRule, attributes: &Attributes) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
    if !has(&rule.verbs, attributes.verb) {
        return false;
    }
    if !attributes.is_resource() {
        return rule.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => attributes.path.starts_with(prefix),
            None => *url == attributes.path,
        });
    }
    has(&rule.api_groups, &attributes.group)
        && rule.resources.iter().any(|pattern| covers(pattern, attributes))
        && (rule.resource_names.is_empty()
            || attributes.name.as_ref().is_some_and(|name| rule.resource_names.contains(name)))
}

/// Whether an entry of `resources` covers this resource and subresource.
fn covers(pattern: &str, attributes: &Attributes) -> bool {
    let (resource, subresource) = (attributes.resource.as_str(), attributes.subresource.as_str());
    match pattern.split_once('/') {
        Some((of, sub)) if NAMED_ONLY.contains(&subresource) => of == resource && sub == subresource,
        _ if NAMED_ONLY.contains(&subresource) => false,
        Some((of, sub)) => (of == "*" || of == resource) && sub == subresource,
        None => pattern == "*" || (pattern == resource && subresource.is_empty()),
    }
}

fn missing(verbs: Vec<&'static str>, attributes: Attributes) -> Box<Missing> {
    let Attributes { group, resource, subresource, namespace, name, path, .. } = attributes;
    let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
    Box::new(Missing { verbs, group, resource, namespace, name, path, why: "" })
}

#[cfg(test)]
mod tests;
