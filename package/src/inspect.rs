//! The contents of a package for `wasmop inspect`, as JSON and as text.

use std::fmt::Write as _;

use serde::Serialize;
use wasmop_policy::Policy;

use crate::external::HostPattern;
use crate::manifest::{ControllerSpec, Language, Limits, Mode, PolicyRule, Relation, Sdk, Toolchain, WatchSpec};
use crate::package::{Interfaces, Package, PackageError, interfaces};
use crate::section;
use crate::tier::{self, Tier};

/// The contents of a package. All sizes are in bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The name in the manifest.
    pub name: String,
    /// The version in the manifest.
    pub version: String,
    /// The SHA-256 digest of the file, in hexadecimal.
    pub digest: String,
    /// The source language.
    pub language: Language,
    /// The toolchain that compiled the package.
    pub toolchain: Toolchain,
    /// The SDK and its version.
    pub sdk: Sdk,
    /// Whose loop runs the reconciles.
    pub mode: Mode,
    /// Why the package runs a loop of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<String>,
    /// The program does not use an SDK of wasmop.
    pub unmodified: bool,
    /// How completely instances can be suspended.
    pub tier: Tier,
    /// Why the package has this tier.
    pub tier_reason: String,
    /// The controllers that the package registered at build time.
    pub registrations: Vec<ControllerSpec>,
    /// The requested permissions on the API server.
    pub permissions: Vec<PolicyRule>,
    /// The requested external hosts.
    pub external_hosts: Vec<HostPattern>,
    /// The requested resource limits.
    pub limits: Limits,
    /// The package's suspend policy. `None` means the host's default.
    pub suspend_policy: Option<Policy>,
    /// Number of embedded custom resource definitions.
    pub crds: usize,
    /// The imported interfaces.
    pub imports: Vec<String>,
    /// The exported interfaces.
    pub exports: Vec<String>,
    /// The memory image, if the package has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryImageSize>,
    /// The size of each part of the file.
    pub sizes: Sizes,
}

/// The size of a memory image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryImageSize {
    /// Bytes of initial linear memory.
    pub image_size: u64,
    /// Bytes that the package stores. The rest is zero.
    pub image_stored: u64,
    /// Number of runs.
    pub image_runs: usize,
}

/// The sizes of the parts of a file, in bytes. `total` is the sum of the other fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// The whole file.
    pub total: u64,
    /// Function bodies.
    pub code: u64,
    /// The `name` sections.
    pub names: u64,
    /// DWARF sections.
    pub debug: u64,
    /// The memory image.
    pub memory_image: u64,
    /// The manifest.
    pub manifest: u64,
    /// Other custom sections.
    pub custom: u64,
    /// Types, tables and the wiring of the component.
    pub other: u64,
}

/// Parses a package and measures its parts.
///
/// # Errors
///
/// Fails if the file is not a valid package.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, PackageError> {
    let package = Package::parse(bytes)?;
    let Interfaces { imports, exports } = interfaces(package.component())?;
    let memory = package.image().map(|image| MemoryImageSize {
        image_size: image.size,
        image_stored: image.stored(),
        image_runs: image.runs().count(),
    });
    let tier = package.tier();
    Ok(Inspection {
        digest: package.digest_hex(),
        tier,
        tier_reason: tier::reason(tier, &imports),
        imports,
        exports,
        memory,
        sizes: Sizes::of(&package),
        crds: package.manifest.crds.len(),
        name: package.manifest.name,
        version: package.manifest.version,
        language: package.manifest.language,
        toolchain: package.manifest.toolchain,
        sdk: package.manifest.sdk,
        mode: package.manifest.mode,
        mode_reason: package.manifest.mode_reason,
        unmodified: package.manifest.unmodified,
        registrations: package.manifest.registrations,
        permissions: package.manifest.permissions,
        external_hosts: package.manifest.external_hosts,
        limits: package.manifest.limits,
        suspend_policy: package.manifest.suspend_policy,
    })
}

impl Sizes {
    fn of(package: &Package) -> Sizes {
        let mut sizes = Sizes { total: package.bytes().len() as u64, ..Sizes::default() };
        sizes.level(package.bytes());
        let known = sizes.code + sizes.names + sizes.debug + sizes.memory_image + sizes.manifest + sizes.custom;
        sizes.other = sizes.total.saturating_sub(known);
        sizes
    }

    /// Adds the sections of a component or of a nested core module.
    fn level(&mut self, wasm: &[u8]) {
        // In a core module. In a component, 10 is the import section.
        const CODE: u8 = 10;
        let is_module = wasm.starts_with(&section::MODULE_HEADER);
        for section in section::sections(wasm).map_while(Result::ok) {
            let size = section.whole.len() as u64;
            match (section.id, section.name) {
                (section::CUSTOM, crate::IMAGE_SECTION) => self.memory_image += size,
                (section::CUSTOM, crate::MANIFEST_SECTION) => self.manifest += size,
                (section::CUSTOM, "name" | "component-name") => self.names += size,
                (section::CUSTOM, name) if name.starts_with(".debug_") => self.debug += size,
                (section::CUSTOM, _) => self.custom += size,
                (CODE, _) if is_module => self.code += size,
                (section::CORE_MODULE, _) if !is_module => self.level(&wasm[section.content]),
                _ => {}
            }
        }
    }
}

impl Inspection {
    /// Formats the inspection for a terminal, with one fact per line.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: &str| {
            // Indent line breaks, so that a value cannot look like another fact. Writing to a String cannot fail.
            let _ = writeln!(text, "{label:<14}{}", value.replace('\n', "\n              "));
        };
        line("name", &self.name);
        line("version", &self.version);
        line("built from", &format!("{} with {}", lower(&self.language), lower(&self.toolchain)));
        line("sdk", &format!("{} {}", self.sdk.name, self.sdk.version));
        let reason = self.mode_reason.iter().map(|reason| format!(": {reason}"));
        line("mode", &std::iter::once(self.mode.name().to_owned()).chain(reason).collect::<String>());
        line("tier", &format!("{}: {}", lower(&self.tier), self.tier_reason));
        line("digest", &format!("sha256:{}", self.digest));
        for (index, text) in limits(&self.limits).iter().enumerate() {
            line(if index == 0 { "limits" } else { "" }, text);
        }
        if let Some(policy) = self.suspend_policy {
            line("suspended", &policy.to_string());
        }
        if self.crds > 0 {
            line("CRDs", &format!("{} embedded", self.crds));
        }
        if self.registrations.is_empty() {
            line("controllers", "none registered");
        }
        for spec in &self.registrations {
            line("controller", &controller(spec));
            for watch in &spec.watches {
                line("", &format!("watches {}", watched(watch)));
            }
        }
        if self.permissions.is_empty() {
            line("permissions", "none: every request to the API server is denied");
        }
        for (index, rule) in self.permissions.iter().enumerate() {
            line(if index == 0 { "permissions" } else { "" }, &permission(rule));
        }
        for (index, host) in self.external_hosts.iter().enumerate() {
            line(if index == 0 { "contacts" } else { "" }, &host.to_string());
        }
        for (index, name) in self.imports.iter().enumerate() {
            line(if index == 0 { "imports" } else { "" }, name);
        }
        for (index, name) in self.exports.iter().enumerate() {
            line(if index == 0 { "exports" } else { "" }, name);
        }
        let Sizes { total, code, names, debug, memory_image, manifest, custom, other } = self.sizes;
        line("size", &bytes(total));
        for (part, size) in [
            ("code", code),
            ("memory image", memory_image),
            ("names", names),
            ("debug info", debug),
            ("manifest", manifest),
            ("custom", custom),
            ("other", other),
        ] {
            if size > 0 {
                line("", &format!("{part:<14}{:>12}", bytes(size)));
            }
        }
        if let Some(MemoryImageSize { image_size, image_stored, .. }) = self.memory {
            line("memory", &format!("{} initially, of which {} stored", bytes(image_size), bytes(image_stored)));
        }
        text
    }
}

/// Formats the limits in groups, one per line.
fn limits(limits: &Limits) -> [String; 5] {
    [
        format!("memory {}, snapshot {}", bytes(limits.memory_bytes), bytes(limits.disk_bytes)),
        format!("CPU {} per step, {}m of a core sustained", duration(limits.cpu_per_step_ns), limits.cpu_share_millis),
        format!("reconcile {}", duration(limits.reconcile_timeout_ns)),
        format!(
            "API {} requests/s, {} at once, {} in flight, response {}",
            limits.api_requests_per_second,
            limits.api_burst,
            limits.api_in_flight,
            bytes(limits.response_bytes)
        ),
        format!("log {}/s", bytes(limits.log_bytes_per_second)),
    ]
}

fn lower(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn controller(spec: &ControllerSpec) -> String {
    let mut text = format!("{} reconciles {}", spec.name, watched(&spec.primary));
    if let [_, ..] = &spec.namespaces[..] {
        let _ = write!(text, ", namespaces {}", spec.namespaces.join(" "));
    } else if let Some(namespace) = &spec.namespace {
        let _ = write!(text, ", namespace {namespace}");
    }
    if spec.max_concurrent_reconciles > 0 {
        let _ = write!(text, ", at most {} at once", spec.max_concurrent_reconciles);
    }
    if spec.debounce_ms > 0 {
        let _ = write!(text, ", {} ms after a change", spec.debounce_ms);
    }
    text
}

fn watched(watch: &WatchSpec) -> String {
    let mut text = match watch.group.as_str() {
        "" => format!("{} {}", watch.kind, watch.version),
        group => format!("{} {group}/{}", watch.kind, watch.version),
    };
    match (&watch.namespaces[..], watch.namespace.as_deref()) {
        ([], None) => {}
        ([], Some("")) => text.push_str(", all namespaces"),
        ([], Some(namespace)) => text.push_str(&format!(", namespace {namespace}")),
        (several, _) => text.push_str(&format!(", namespaces {}", several.join(" "))),
    }
    match watch.relation {
        Relation::Own => {}
        Relation::Owner => text.push_str(", by owner"),
        Relation::Controller => text.push_str(", by controller owner"),
        Relation::Map => text.push_str(", mapped by the controller"),
    }
    for (name, selector) in [("labels", &watch.label_selector), ("fields", &watch.field_selector)] {
        if !selector.is_empty() {
            let _ = write!(text, ", {name} {selector}");
        }
    }
    if watch.generation_changed {
        text.push_str(", when the generation changes");
    }
    if !watch.predicate.is_empty() {
        let _ = write!(text, ", when {}", watch.predicate);
    }
    if watch.cached {
        text.push_str(", cached");
    }
    if watch.ignore_own_writes {
        text.push_str(", ignoring own writes");
    }
    text
}

fn permission(rule: &PolicyRule) -> String {
    let verbs = rule.verbs.join(",");
    if !rule.non_resource_urls.is_empty() {
        return format!("{verbs} on {}", rule.non_resource_urls.join(","));
    }
    let groups: Vec<&str> =
        rule.api_groups.iter().map(|group| if group.is_empty() { "core" } else { group.as_str() }).collect();
    let mut text = format!("{verbs} on {} of {}", rule.resources.join(","), groups.join(","));
    if !rule.resource_names.is_empty() {
        let _ = write!(text, " named {}", rule.resource_names.join(","));
    }
    text
}

fn bytes(count: u64) -> String {
    const KIB: f64 = 1024.0;
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=1_048_575 => format!("{:.1} KiB", count as f64 / KIB),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", count as f64 / KIB / KIB),
        _ => format!("{:.1} GiB", count as f64 / KIB / KIB / KIB),
    }
}

fn duration(ns: u64) -> String {
    format!("{:?}", std::time::Duration::from_nanos(ns))
}
