//! Builds a project into a package: compile, assemble, record registrations in a trial run, write.

use std::path::{Path, PathBuf};

use anyhow::Result;
use wasmop_core::permissions::Permissions;
use wasmop_package::manifest::{ControllerSpec, Manifest, PolicyRule, Toolchain};
use wasmop_package::{AssembleError, Inspection, Package, Refusal};
use wasmop_vm::package_description::Description;

use crate::atomic_file;
use crate::error::{HelpExt, about, failure};
use crate::output::{Step, bytes};
use crate::project::{Project, toolchain_name};
use crate::toolchain::{self, Blame, Request};

/// A written package.
pub struct Built {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub inspection: Inspection,
}

/// Builds the project and writes its package to `output`.
pub fn build(project: &Project, output: &Path, debug: bool) -> Result<Built> {
    // Errors that need no compiler come before it runs.
    let crds = project.read_crds()?;
    if output.is_dir() {
        return Err(failure(
            format!("the output `{}` is a directory", output.display()),
            format!("name a file, like `{}`", output.join(format!("{}.wasm", project.name)).display()),
        )
        .into());
    }
    let cannot_write = || format!("cannot write `{}`", output.display());
    let output_help = "choose a file that you can write to with `--output FILE`";
    atomic_file::check(output).or_help(cannot_write(), output_help)?;

    let step = {
        let what = match project.toolchain {
            Toolchain::Component => format!("{} with its own command", project.name),
            toolchain => format!("{} with {}", project.name, toolchain_name(toolchain)),
        };
        Step::begin(format!("Compiling {what}"), format!("Compiled {what}"))
    };
    let core = toolchain::build_core(&Request { project, debug, step: &step })?;
    step.done(bytes(core.module.len() as u64));

    let step = Step::begin("Packaging", "Packaged");
    let mut manifest = Manifest {
        mode: core.mode,
        mode_reason: core.mode_reason.clone(),
        unmodified: core.unmodified,
        permissions: project.permissions.clone(),
        external_hosts: project.external_hosts.clone(),
        limits: project.limits,
        suspend_policy: project.suspend_policy,
        env: project.env.clone(),
        args: project.args.clone(),
        crds,
        ..Manifest::new(&project.name, &project.version, project.language, project.toolchain, core.sdk.clone())
    };
    if manifest.unmodified {
        manifest.permissions.push(discovery());
    }
    let package = wasmop_package::assemble(&core.module, &manifest).map_err(|error| {
        let by_dependency = match &error {
            AssembleError::Refused(Refusal::ImportUnknown { module, .. }) => {
                core.blame.as_ref().and_then(|blame| blame(module))
            }
            _ => None,
        };
        by_dependency.unwrap_or_else(|| about(format!("cannot make a package of `{}`", project.name), error))
    })?;
    // A trial run of a package with a loop of its own would show nothing: without an API server, the loop waits. And
    // compiling its code for this machine takes longer than everything else.
    let package = if manifest.mode.is_host_driven() {
        step.done(bytes(package.len() as u64));
        let step = Step::begin("Starting once, in a sandbox", "Started once, in a sandbox");
        manifest.registrations = match trial_run(project, package.clone(), core.blame.as_ref()) {
            Ok(registrations) => {
                step.done(match &registrations[..] {
                    [] => {
                        "it waits for the API server before it registers; what it watches is known when it runs".into()
                    }
                    registrations => registered(registrations),
                });
                registrations
            }
            // It may need what only its owner has, and it is not written for a start without a cluster.
            Err(error) if manifest.unmodified => {
                let error = error.to_string();
                let reason = error.lines().next().unwrap_or_default();
                step.done(format!("what it watches is known when it runs: {reason}"));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        wasmop_package::with_manifest(&package, &manifest)?
    } else {
        let reason = manifest.mode_reason.iter().map(|reason| format!(" ({reason})"));
        step.done(format!(
            "{}, not started: it runs its own loop with {} {}{}",
            bytes(package.len() as u64),
            manifest.sdk.name,
            manifest.sdk.version,
            reason.collect::<String>()
        ));
        package
    };
    let inspection = wasmop_package::inspect(&package)?;

    atomic_file::replace(output, &package).or_help(cannot_write(), output_help)?;
    Ok(Built { path: output.to_owned(), manifest, inspection })
}

/// What the controller registers in a run without a cluster. Empty if it first waits for the API server.
fn trial_run(project: &Project, package: Vec<u8>, blame: Option<&Blame>) -> Result<Vec<ControllerSpec>> {
    let package = Package::parse(package)?;
    let Description { registrations, waits } = wasmop_vm::package_description::describe(&package).map_err(|error| {
        if let Some(failure) = blame.and_then(|blame| blame(&error.to_string())) {
            return failure;
        }
        about(format!("`{}`", project.name), error)
            .else_help("see the messages above; a build with --debug names functions and lines")
    })?;
    if registrations.is_empty() && !waits {
        return Err(failure(
            format!("`{}` registered no controller and waits for nothing", project.name),
            "register one in `main`",
        )
        .into());
    }
    Ok(registrations)
}

/// What a cluster lets every user read, by its ClusterRole `system:discovery`. Clients look up kinds there, and the
/// RBAC rules of an operator do not list it.
fn discovery() -> PolicyRule {
    let urls = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version"];
    PolicyRule {
        non_resource_urls: urls.map(str::to_owned).to_vec(),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    }
}

/// `reconciles Website (demo.wasmop.dev/v1)`.
fn registered(registrations: &[ControllerSpec]) -> String {
    let kinds: Vec<String> = registrations
        .iter()
        .map(|spec| {
            let primary = &spec.primary;
            let separator = if primary.group.is_empty() { "" } else { "/" };
            format!("{} ({}{separator}{})", primary.kind, primary.group, primary.version)
        })
        .collect();
    format!("reconciles {}", kinds.join(", "))
}

/// A watch that the package's own permissions deny.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingPermission {
    /// `Website (demo.wasmop.dev)`.
    pub kind: String,
    /// How to allow it.
    pub help: String,
}

/// The watches without `list` or `watch` in the manifest's permissions.
pub fn missing_permissions(manifest: &Manifest) -> Vec<MissingPermission> {
    let permissions = Permissions::new(manifest.permissions.clone());
    let mut missing: Vec<MissingPermission> = Vec::new();
    for watch in manifest.registrations.iter().flat_map(|spec| std::iter::once(&spec.primary).chain(&spec.watches)) {
        // Without a plural from the controller, the host asks the API server. Here the CRDs have it, or it follows
        // Kubernetes' convention.
        let plural = match watch.plural.as_str() {
            "" => {
                plural_in_crds(&manifest.crds, &watch.group, &watch.kind).unwrap_or_else(|| usual_plural(&watch.kind))
            }
            plural => plural.to_owned(),
        };
        let Err(denied) = permissions.may_watch(&watch.group, &plural, None) else { continue };
        let found = MissingPermission {
            kind: if watch.group.is_empty() { watch.kind.clone() } else { format!("{} ({})", watch.kind, watch.group) },
            help: denied.help(&manifest.name),
        };
        if !missing.contains(&found) {
            missing.push(found);
        }
    }
    missing
}

fn plural_in_crds(crds: &[String], group: &str, kind: &str) -> Option<String> {
    crds.iter().find_map(|crd| {
        let crd: serde_json::Value = serde_json::from_str(crd).ok()?;
        let spec = &crd["spec"];
        let matches = spec["group"] == group && spec["names"]["kind"] == kind;
        if matches { spec["names"]["plural"].as_str().map(str::to_owned) } else { None }
    })
}

/// The plural by Kubernetes' convention.
fn usual_plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.as_bytes() {
        [.., b's'] | [.., b'x'] | [.., b'c', b'h'] | [.., b's', b'h'] => format!("{lower}es"),
        [.., before, b'y'] if !b"aeiou".contains(before) => format!("{}ies", &lower[..lower.len() - 1]),
        _ => format!("{lower}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmop_package::manifest::{Language, Sdk, WatchSpec};

    fn watch(group: &str, kind: &str, plural: &str) -> WatchSpec {
        serde_json::from_value(serde_json::json!({"group": group, "version": "v1", "kind": kind, "plural": plural}))
            .expect("a watch")
    }

    fn manifest(permissions: &[(&str, &str, &[&str])], watches: Vec<WatchSpec>) -> Manifest {
        Manifest {
            registrations: vec![ControllerSpec {
                name: "web".to_owned(),
                namespace: None,
                namespaces: Vec::new(),
                max_concurrent_reconciles: 0,
                only_existing: false,
                debounce_ms: 0,
                primary: watch("x.dev", "Website", "websites"),
                watches,
            }],
            permissions: permissions
                .iter()
                .map(|(group, resource, verbs)| PolicyRule {
                    api_groups: vec![(*group).to_owned()],
                    resources: vec![(*resource).to_owned()],
                    verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
                    ..PolicyRule::default()
                })
                .collect(),
            crds: vec![r#"{"spec":{"group":"x.dev","names":{"kind":"Leaf","plural":"leaves"}}}"#.to_owned()],
            ..Manifest::new("web", "0.1.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
        }
    }

    #[test]
    fn a_watch_needs_list_and_watch_on_its_resource() {
        let all: &[&str] = &["list", "watch"];
        for (permissions, watches, blocks) in [
            (vec![("x.dev", "websites", all)], vec![], vec![]),
            (vec![("*", "*", &["*"] as &[&str])], vec![watch("", "ConfigMap", "")], vec![]),
            (vec![("x.dev", "websites", &["get", "list"])], vec![], vec!["websites"]),
            (vec![("y.dev", "websites", all)], vec![], vec!["websites"]),
            (vec![("x.dev", "websites", all)], vec![watch("", "ConfigMap", "")], vec!["configmaps"]),
            (
                vec![("x.dev", "websites", all)],
                vec![watch("x.dev", "Leaf", ""), watch("x.dev", "Leaf", "")],
                vec!["leaves"],
            ),
        ] {
            let missing = missing_permissions(&manifest(&permissions, watches));
            assert_eq!(missing.len(), blocks.len(), "{missing:?}");
            for (missing, plural) in missing.iter().zip(blocks) {
                assert!(missing.help.contains(&format!("resources = [\"{plural}\"]")), "{missing:?}");
            }
        }
    }

    #[test]
    fn plurals_follow_kubernetes_convention() {
        for (kind, plural) in [
            ("ConfigMap", "configmaps"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("PodTemplate", "podtemplates"),
        ] {
            assert_eq!(usual_plural(kind), plural);
        }
    }
}
