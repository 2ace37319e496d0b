//! What a package says about itself: the JSON in its `wasmop:manifest` section.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmop_policy::Policy;

use crate::external::HostPattern;
pub use crate::limits::Limits;
use crate::predicate::{Predicate, PredicateError};

/// Version of the manifest's own shape. A host refuses a manifest with a higher one.
pub const MANIFEST_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub manifest_version: u32,
    /// A DNS label; the controller's name in logs and in the state directory.
    pub name: String,
    pub version: String,
    pub language: Language,
    pub toolchain: Toolchain,
    pub sdk: Sdk,
    /// What the controller registered when it was started once at build time.
    #[serde(default)]
    pub registrations: Vec<ControllerSpec>,
    /// Everything it may ask of the API server; all else is refused in the host.
    #[serde(default)]
    pub permissions: Vec<PolicyRule>,
    /// The other hosts that it may contact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_hosts: Vec<HostPattern>,
    #[serde(default)]
    pub limits: Limits,
    /// When it is suspended if its owner does not say; `None`: as the host does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_policy: Option<Policy>,
    /// Its environment variables, as far as its owner does not set them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its arguments if its owner gives none, without the program's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Custom resource definitions it needs, each a YAML or JSON document.
    #[serde(default)]
    pub crds: Vec<String>,
}

impl Manifest {
    /// Of a controller that reconciles nothing and asks for nothing; the limits are the usual ones.
    pub fn new(name: &str, version: &str, language: Language, toolchain: Toolchain, sdk: Sdk) -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            name: name.into(),
            version: version.into(),
            language,
            toolchain,
            sdk,
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    Go,
    Python,
    JavaScript,
    /// Any other that can be compiled to a component.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Toolchain {
    Cargo,
    Go,
    Tinygo,
    /// Whatever makes a component: `[build] command` in wasmop.toml.
    Component,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sdk {
    pub name: String,
    pub version: String,
}

impl Sdk {
    pub fn new(name: &str, version: &str) -> Sdk {
        Sdk { name: name.into(), version: version.into() }
    }
}

/// A reconciler and what it watches: what a guest hands to `register`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControllerSpec {
    pub name: String,
    /// Only objects of this namespace; `None` means all that the host watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only objects of these namespaces, in place of the one; empty: see there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Reconciles of this controller under way at once; 0 means no limit.
    #[serde(default)]
    pub max_concurrent_reconciles: u32,
    /// The kind whose objects are reconciled.
    pub primary: WatchSpec,
    /// Further kinds whose changes cause reconciles.
    #[serde(default)]
    pub watches: Vec<WatchSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WatchSpec {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    pub version: String,
    pub kind: String,
    /// Resource name as in URLs; empty: the host asks the API server's discovery.
    #[serde(default)]
    pub plural: String,
    /// Only objects of this namespace; empty: of all; `None`: of the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only objects of these namespaces, in place of the one; empty: see there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    #[serde(default)]
    pub relation: Relation,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field_selector: String,
    /// Changes that leave `metadata.generation` as it was cause no reconcile.
    #[serde(default)]
    pub generation_changed: bool,
    /// A CEL expression over `object` and `oldObject`: changes of which it is false cause no reconcile. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub predicate: String,
    /// The host keeps the objects, and answers reads that may come from a cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Changes that the controller itself made in a reconcile cause no other reconcile of that object, where that can be proven.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_own_writes: bool,
}

impl ControllerSpec {
    /// Of the primary kind and the further ones.
    pub fn all_watches(&self) -> impl Iterator<Item = &WatchSpec> {
        std::iter::once(&self.primary).chain(&self.watches)
    }

    /// Watches that a host needs for it, one for each namespace, if its owner allows them all.
    pub fn watch_count(&self) -> usize {
        let namespaces = |watch: &WatchSpec| match (&*watch.namespaces, &watch.namespace) {
            ([], None) => self.namespaces.len(),
            (several, _) => several.len(),
        };
        self.all_watches().map(|watch| namespaces(watch).max(1)).sum()
    }

    /// Compiles all predicates, for the errors.
    pub fn check_predicates(&self) -> Result<(), PredicateRefused> {
        for watch in self.all_watches().filter(|watch| !watch.predicate.is_empty()) {
            Predicate::new(&watch.predicate).map_err(|source| PredicateRefused {
                kind: watch.kind.clone(),
                text: watch.predicate.chars().take(SHOWN).collect(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Most characters shown of a predicate.
const SHOWN: usize = 200;

/// A registration with a predicate that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the predicate of the watch of {kind} is refused: {source}: `{text}`\n\
     help: predicates are CEL over `object` and `oldObject`; docs/watching.md says what they may use"
)]
pub struct PredicateRefused {
    pub kind: String,
    /// Its beginning.
    pub text: String,
    pub source: PredicateError,
}

impl WatchSpec {
    /// The watch is of whole objects, which are kept; otherwise of metadata.
    pub fn keeps_objects(&self) -> bool {
        self.cached || self.relation == Relation::Map || !self.predicate.is_empty()
    }
}

/// How a change of a watched object becomes keys to reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The object itself.
    #[default]
    Own,
    /// Every owner of the primary kind.
    Owner,
    /// The owner of the primary kind that has `controller: true`.
    Controller,
    /// The guest is asked, with a `map` event.
    Map,
}

/// One RBAC rule, with RBAC's field names and meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

/// Why a manifest can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    #[error(
        "the package's manifest can't be read: {detail}\nhelp: build it again with the `wasmop build` of this release"
    )]
    Json { detail: String },
    #[error(
        "the package's manifest has version {found}, and this wasmop reads up to version {MANIFEST_VERSION}\n\
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
    #[error("the package's limit {limit} is 0\nhelp: set `{limit}` under [limits] in wasmop.toml, or leave it out")]
    ZeroLimit { limit: &'static str },
    #[error("the package's environment variable `{name}` is refused: {problem}\nhelp: correct [env] in wasmop.toml")]
    Env { name: String, problem: &'static str },
    #[error("an argument of the package has a NUL character\nhelp: correct `args` in wasmop.toml")]
    Args,
}

impl Manifest {
    /// Reads and checks the content of a `wasmop:manifest` section.
    pub fn from_section(section: &[u8]) -> Result<Manifest, ManifestError> {
        // The version first: a newer manifest may differ in everything else.
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

    /// The content of a `wasmop:manifest` section, after the same checks.
    pub fn to_section(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        serde_json::to_vec(self).map_err(|error| ManifestError::Json { detail: error.to_string() })
    }

    /// Checks what is used outside of the package: the name becomes a directory and a label.
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

/// Why an environment variable can't be handed to a program, if it can't.
pub fn env_problem(name: &str, value: &str) -> Option<&'static str> {
    match name {
        "" => Some("the name is empty"),
        name if name.contains('=') => Some("the name contains `=`"),
        name if name.contains('\0') => Some("the name contains a NUL character"),
        _ if value.contains('\0') => Some("the value contains a NUL character"),
        _ => None,
    }
}

/// RFC 1123 label, as Kubernetes has it.
pub fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
