//! The manifest of a package: the JSON in its `wasmop:manifest` section.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmop_policy::Policy;

use crate::external::HostPattern;
pub use crate::limits::Limits;
use crate::predicate::{Predicate, PredicateError};

/// The version of the manifest schema. A host refuses manifests with a higher version.
pub const MANIFEST_VERSION: u32 = 1;

/// The name, provenance, registrations, permissions and limits of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The schema version, at most [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// A DNS label. It names the controller in logs and in the state directory.
    pub name: String,
    /// The version of the package, in any format.
    pub version: String,
    /// The source language.
    pub language: Language,
    /// The toolchain that compiled the package.
    pub toolchain: Toolchain,
    /// The SDK and its version.
    pub sdk: Sdk,
    /// Whose loop runs the reconciles.
    #[serde(default, skip_serializing_if = "Mode::is_host_driven")]
    pub mode: Mode,
    /// Why the package runs a loop of its own, if the host could have run the reconciles of other programs of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<String>,
    /// The program does not use an SDK of wasmop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmodified: bool,
    /// The controllers that the package registered in a trial run at build time.
    #[serde(default)]
    pub registrations: Vec<ControllerSpec>,
    /// The requests to the API server that the package needs. The host denies all others.
    #[serde(default)]
    pub permissions: Vec<PolicyRule>,
    /// The external hosts that the package needs to contact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_hosts: Vec<HostPattern>,
    /// The requested resource limits.
    #[serde(default)]
    pub limits: Limits,
    /// The suspend policy, unless the owner sets one. `None` means the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_policy: Option<Policy>,
    /// Environment variables. Those of the owner take precedence.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Arguments without the program name, unless the owner sets arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The custom resource definitions that the package needs, each a YAML or JSON document.
    #[serde(default)]
    pub crds: Vec<String>,
}

impl Manifest {
    /// Creates a manifest without registrations and permissions, and with the default limits.
    pub fn new(name: &str, version: &str, language: Language, toolchain: Toolchain, sdk: Sdk) -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            name: name.into(),
            version: version.into(),
            language,
            toolchain,
            sdk,
            mode: Mode::default(),
            mode_reason: None,
            unmodified: false,
            registrations: Vec::new(),
            permissions: Vec::new(),
            external_hosts: Vec::new(),
            limits: Limits::default(),
            suspend_policy: None,
            env: BTreeMap::new(),
            args: Vec::new(),
            crds: Vec::new(),
        }
    }

    /// Whether the host keeps up the watches that the package opens by itself. The client libraries of unmodified programs
    /// expect no more of a watch than that.
    pub fn has_kept_up_watches(&self) -> bool {
        self.unmodified || !self.mode.is_host_driven()
    }
}

/// The source language of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of the languages")]
pub enum Language {
    Rust,
    Go,
    Python,
    JavaScript,
    /// Any other language that compiles to a component.
    Other,
}

/// The toolchain that compiled a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Toolchain {
    /// cargo with the target wasm32-wasip1.
    Cargo,
    /// The go command with GOOS=wasip1.
    Go,
    /// TinyGo with the target wasip1.
    Tinygo,
    /// A command that produces a component: `[build] command` in wasmop.toml.
    Component,
}

/// Whose loop runs the reconciles of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The host's. The package registers what it watches, and the host hands it objects to reconcile.
    #[default]
    HostDriven,
    /// The package's own. It lists, watches and queues by itself and registers nothing.
    GuestDriven,
}

impl Mode {
    /// Whether the host runs the reconciles.
    pub fn is_host_driven(&self) -> bool {
        matches!(self, Mode::HostDriven)
    }

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Mode::HostDriven => "host-driven",
            Mode::GuestDriven => "guest-driven",
        }
    }
}

/// An SDK and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sdk {
    /// The name of the crate, module or package.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Sdk {
    /// Creates an SDK reference.
    pub fn new(name: &str, version: &str) -> Sdk {
        Sdk { name: name.into(), version: version.into() }
    }
}

/// A controller and its watches: the JSON that a guest passes to `register`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllerSpec {
    /// The name of the controller.
    pub name: String,
    /// The namespace to watch. `None` means all namespaces that the host watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The namespaces to watch. If not empty, this takes precedence over `namespace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// At most this many reconciles run concurrently. 0 means unlimited.
    #[serde(default)]
    pub max_concurrent_reconciles: u32,
    /// Reconcile only objects that the primary watch has: no deleted ones, and no other names from a map function.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_existing: bool,
    /// An object is reconciled this many milliseconds after its last change. 0 means at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub debounce_ms: u64,
    /// The watch of the reconciled kind.
    pub primary: WatchSpec,
    /// Watches of other kinds whose changes cause reconciles.
    #[serde(default)]
    pub watches: Vec<WatchSpec>,
}

/// A watch of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchSpec {
    /// The API group. Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The API version, such as `v1`.
    pub version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The resource name in URLs, such as `deployments`. If empty, the host uses API discovery.
    #[serde(default)]
    pub plural: String,
    /// The namespace to watch. Empty means all namespaces, and `None` means the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The namespaces to watch. If not empty, this takes precedence over `namespace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// How a change determines the objects to reconcile.
    #[serde(default)]
    pub relation: Relation,
    /// A label selector as in the API. Empty selects everything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    /// A field selector as in the API. Empty selects everything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field_selector: String,
    /// Ignore changes that leave `metadata.generation` unchanged.
    #[serde(default)]
    pub generation_changed: bool,
    /// A CEL expression over `object` and `oldObject`. Changes for which it is false are ignored. Empty means no
    /// predicate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub predicate: String,
    /// The host caches the objects and answers reads that any resource version satisfies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Ignore changes that provably result from the controller's own writes during a reconcile of the same object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_own_writes: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ControllerSpec {
    /// Returns how long an object has to be unchanged before it is reconciled.
    pub fn debounce(&self) -> Duration {
        Duration::from_millis(self.debounce_ms)
    }

    /// Returns the primary watch, followed by the others.
    pub fn all_watches(&self) -> impl Iterator<Item = &WatchSpec> {
        std::iter::once(&self.primary).chain(&self.watches)
    }

    /// Returns the number of watches that a host needs, one per namespace, if the owner allows all namespaces.
    pub fn watch_count(&self) -> usize {
        let namespaces = |watch: &WatchSpec| match (&*watch.namespaces, &watch.namespace) {
            ([], None) => self.namespaces.len(),
            (several, _) => several.len(),
        };
        self.all_watches().map(|watch| namespaces(watch).max(1)).sum()
    }

    /// Compiles all predicates.
    ///
    /// # Errors
    ///
    /// Returns the first predicate that is refused.
    pub fn check_predicates(&self) -> Result<(), PredicateRefused> {
        for watch in self.all_watches().filter(|watch| !watch.predicate.is_empty()) {
            Predicate::new(&watch.predicate).map_err(|source| PredicateRefused {
                kind: watch.kind.clone(),
                text: watch.predicate.chars().take(EXCERPT_CHARS).collect(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Errors quote at most this many characters of a predicate.
const EXCERPT_CHARS: usize = 200;

/// A watch's predicate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the predicate of the watch of {kind} is refused: {source}: `{text}`\n\
     help: predicates are CEL expressions over `object` and `oldObject`; docs/watching.md lists the supported functions"
)]
pub struct PredicateRefused {
    /// The kind of the watch.
    pub kind: String,
    /// The beginning of the predicate.
    pub text: String,
    /// What is wrong with the predicate.
    pub source: PredicateError,
}

impl WatchSpec {
    /// Returns whether the watch needs whole objects. Otherwise it is a metadata-only watch.
    pub fn keeps_objects(&self) -> bool {
        self.cached || self.relation == Relation::Map || !self.predicate.is_empty()
    }
}

/// How a change to a watched object determines the objects to reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The object itself.
    #[default]
    Own,
    /// All owners of the primary kind.
    Owner,
    /// The owner of the primary kind with `controller: true`.
    Controller,
    /// The objects that the guest returns for a `map` event.
    Map,
}

/// An RBAC rule. The fields have the meaning of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of RBAC")]
pub struct PolicyRule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(default)]
    pub verbs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// Why a manifest is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each variant is its documentation")]
pub enum ManifestError {
    #[error(
        "the package's manifest can't be read: {detail}\nhelp: build it again with the `wasmop build` of this release"
    )]
    Json { detail: String },
    #[error(
        "the package's manifest has version {found}, but this wasmop supports versions up to {MANIFEST_VERSION}\n\
         help: use a newer wasmop, or build the package again with this one"
    )]
    Version { found: u32 },
    #[error(
        "`{name}` can't be a package's name\n\
         help: use a DNS label: at most 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit"
    )]
    Name { name: String },
    #[error("the package's version is empty\nhelp: set `version` under [package] in wasmop.toml")]
    NoVersion,
    #[error("the package's limit {limit} is 0\nhelp: set `{limit}` under [limits] in wasmop.toml, or remove it")]
    ZeroLimit { limit: &'static str },
    #[error("the package's environment variable `{name}` is refused: {problem}\nhelp: correct [env] in wasmop.toml")]
    Env { name: String, problem: &'static str },
    #[error("an argument of the package contains a NUL character\nhelp: correct `args` in wasmop.toml")]
    Args,
}

impl Manifest {
    /// Parses and checks the content of a `wasmop:manifest` section.
    ///
    /// # Errors
    ///
    /// Fails if the JSON does not match the schema, or if [`Manifest::check`] fails.
    pub fn from_section(section: &[u8]) -> Result<Manifest, ManifestError> {
        // Check the version first: a newer schema may differ in everything else.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Versioned {
            manifest_version: u32,
        }
        let json = |error: serde_json::Error| ManifestError::Json { detail: error.to_string() };
        let Versioned { manifest_version } = serde_json::from_slice(section).map_err(json)?;
        if manifest_version > MANIFEST_VERSION {
            return Err(ManifestError::Version { found: manifest_version });
        }
        let manifest: Manifest = serde_json::from_slice(section).map_err(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the content of a `wasmop:manifest` section.
    ///
    /// # Errors
    ///
    /// Fails if [`Manifest::check`] fails.
    pub fn to_section(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        serde_json::to_vec(self).map_err(|error| ManifestError::Json { detail: error.to_string() })
    }

    /// Checks the values that the host uses outside the package, such as the name, which becomes a directory.
    ///
    /// # Errors
    ///
    /// Returns the first invalid value.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.manifest_version > MANIFEST_VERSION {
            return Err(ManifestError::Version { found: self.manifest_version });
        }
        if !is_dns_label(&self.name) {
            return Err(ManifestError::Name { name: self.name.clone() });
        }
        if self.version.is_empty() {
            return Err(ManifestError::NoVersion);
        }
        if let Some((limit, _)) = self.limits.by_key().into_iter().find(|(_, value)| *value == 0) {
            return Err(ManifestError::ZeroLimit { limit });
        }
        for (name, value) in &self.env {
            if let Some(problem) = env_problem(name, value) {
                return Err(ManifestError::Env { name: name.clone(), problem });
            }
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(ManifestError::Args);
        }
        Ok(())
    }
}

/// Returns what is wrong with an environment variable, or `None` if it is valid.
pub fn env_problem(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "" => Some("the name is empty"),
        name if name.contains('=') => Some("the name contains `=`"),
        name if name.contains('\0') => Some("the name contains a NUL character"),
        _ if value.contains('\0') => Some("the value contains a NUL character"),
        _ => None,
    }
}

/// Returns whether a name is an RFC 1123 label, as in Kubernetes.
pub fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
