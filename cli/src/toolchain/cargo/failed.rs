//! Explains a cargo build that fails: the crate that causes it, the reason, and a remedy.

use cargo_metadata::{Dependency, Package};
use semver::Version;

use super::graph::Graph;
use super::ported::Ported;
use super::{ActiveFeatures, TARGET};
use crate::error::{Failure, failure};
use crate::process::Failed;
use crate::toolchain::advice::{self, Rule};
use crate::toolchain::port::UnknownVersion;

/// Explains a failed build by a dependency, or by the project's own code.
pub fn explain(graph: &Graph, unmodified: bool, ported: &[Ported], failed: Failed) -> anyhow::Error {
    let crates: Vec<&Package> = failing_crates(&failed.output)
        .into_iter()
        .filter_map(|(name, version)| graph.find(&name, version.as_ref()))
        .collect();
    let known = crates.iter().find_map(|package| {
        let rule = advice::on_crate(&package.name, Some(&package.version), &failed.output)?;
        Some(by_rule(graph, unmodified, package, rule))
    });
    if let Some(failure) = known {
        return failure.into();
    }
    match crates.first() {
        Some(package) if ported.iter().any(|it| it.is(&package.name, &package.version)) => {
            rules_do_not_fit(package).into()
        }
        Some(package) if package.source.is_some() => not_for_wasm(graph, unmodified, package).into(),
        Some(package) => own_code(graph, unmodified, package, &failed.output).into(),
        // An error of the linker, of the lock file, or of cargo itself.
        None => failed.into(),
    }
}

/// A crate with features that the crate `wasmop` does not support.
pub fn by_features(graph: &Graph, active: &ActiveFeatures) -> Option<Failure> {
    let rule = advice::on_features(&active.name, Some(&active.version), &active.features)?;
    Some(by_rule(graph, false, graph.find(&active.name, Some(&active.version))?, rule))
}

/// The dependency that keeps a finished module from working, by a symptom of the module.
pub fn by_symptom(graph: &Graph, unmodified: bool, symptom: &str) -> Option<Failure> {
    let (name, rule) = advice::on_symptom(symptom)?;
    let package = graph.find(name, None)?;
    Some(failure(
        format!("the crate {} cannot work in a controller: {}", named(graph, package), rule.why),
        remedy(graph, unmodified, package, rule),
    ))
}

/// A crate whose version has no port rules.
pub fn by_version(graph: &Graph, package: &Package, unknown: &UnknownVersion) -> Failure {
    let versions: Vec<String> = unknown.known.iter().map(Version::to_string).collect();
    let problem = format!(
        "the crate {} is of a version that wasmop does not build for WebAssembly; it builds {} {}",
        named(graph, package),
        package.name,
        versions.join(", ")
    );
    let path = graph.path_to(&package.id);
    let (Some(direct), Some(newest)) = (path.get(1), unknown.known.last()) else {
        return failure(problem, "depend on that version");
    };
    let declared = graph.declared(&direct.name);
    // kube and its parts are released together.
    let released_together = direct.version == package.version;
    let help = match declared {
        Some(declared) if released_together => match unknown.known.iter().rfind(|known| declared.req.matches(known)) {
            Some(known) => format!("cargo update -p {}@{} --precise {known}", direct.name, direct.version),
            None => format!("in Cargo.toml write {}", declaration(declared, &[], Some(newest))),
        },
        _ => format!("use a version of `{}` that depends on {} {newest}, or remove it", direct.name, package.name),
    };
    failure(problem, help)
}

fn by_rule(graph: &Graph, unmodified: bool, package: &Package, rule: &Rule) -> Failure {
    failure(
        format!("the crate {} does not build for WebAssembly: {}", named(graph, package), rule.why),
        remedy(graph, unmodified, package, rule),
    )
}

fn remedy(graph: &Graph, unmodified: bool, package: &Package, rule: &Rule) -> String {
    let path = graph.path_to(&package.id);
    let direct = path.get(1).map_or(package.name.as_str(), |direct| direct.name.as_str());
    let declared = graph.declared(direct);
    let declaration = declared.map(|declared| declaration(declared, &rule.features, None)).unwrap_or_default();
    let version = package.version.to_string();
    rule.remedy(&[
        ("name", package.name.as_str()),
        ("version", &version),
        ("direct", direct),
        ("declaration", &declaration),
        ("requests", requests(unmodified)),
    ])
}

/// How a program sends requests to other hosts.
fn requests(unmodified: bool) -> &'static str {
    if unmodified {
        "requests to other hosts go through reqwest, hyper-util or hyper-rustls, for which the host speaks TLS"
    } else {
        "requests to other hosts go through `wasmop::fetch`, for which the host speaks TLS"
    }
}

fn rules_do_not_fit(package: &Package) -> Failure {
    failure(
        format!(
            "the copy of `{}` {} with port rules does not compile; the compiler's messages are above",
            package.name, package.version
        ),
        "if the rules are the project's, correct them; if they are wasmop's, please report it with the messages",
    )
}

fn not_for_wasm(graph: &Graph, unmodified: bool, package: &Package) -> Failure {
    let path = graph.path_to(&package.id);
    let direct = path.get(1).map_or(package.name.as_str(), |direct| direct.name.as_str());
    failure(
        format!(
            "the crate {} does not build for WebAssembly ({TARGET}), and wasmop has no rules that port it; the compiler's messages are above",
            named(graph, package)
        ),
        format!(
            "turn off the feature of `{direct}` that needs it, or replace `{direct}`; `cargo tree --target {TARGET} -e features -i {}@{}` shows which features those are{}",
            package.name,
            package.version,
            if unmodified {
                "\nor write rules for it: `port = [\"port/*.toml\"]` under [build], see docs/wasmop-toml.md"
            } else {
                ""
            }
        ),
    )
}

fn own_code(graph: &Graph, unmodified: bool, package: &Package, output: &str) -> Failure {
    let problem = format!("`{}` does not compile; the compiler's messages are above", package.name);
    let known = graph.root().into_iter().flat_map(|root| &root.dependencies).find_map(|dependency| {
        let used = graph.find(&dependency.name, None)?;
        let rule = advice::on_use_of(&used.name, Some(&used.version), output)?;
        let direct = used.name.as_str();
        Some((
            direct,
            rule.why.as_str(),
            rule.remedy(&[("name", direct), ("direct", direct), ("requests", requests(unmodified))]),
        ))
    });
    match known {
        Some((name, why, remedy)) => failure(format!("{problem}\nabout `{name}`: {why}"), remedy),
        None => failure(
            problem,
            "correct them; code for native programs only (sockets, threads, processes) goes under `#[cfg(not(target_family = \"wasm\"))]`",
        ),
    }
}

/// `` `openssl-sys` 0.9.118 (web → reqwest → native-tls → openssl-sys) ``.
fn named(graph: &Graph, package: &Package) -> String {
    let path: Vec<&str> = graph.path_to(&package.id).iter().map(|package| package.name.as_str()).collect();
    match path.len() {
        0 | 1 => format!("`{}` {}", package.name, package.version),
        _ => format!("`{}` {} ({})", package.name, package.version, path.join(" → ")),
    }
}

/// A dependency in the syntax of `Cargo.toml`, without some of its features or in another version.
fn declaration(dependency: &Dependency, without: &[String], version: Option<&Version>) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let requirement = match version {
        Some(version) => format!("{}.{}", version.major, version.minor),
        None => dependency.req.to_string().trim_start_matches('^').to_owned(),
    };
    let features: Vec<String> =
        dependency.features.iter().filter(|feature| !without.contains(feature)).map(|feature| text(feature)).collect();
    let key = dependency.rename.as_deref().unwrap_or(&dependency.name);
    if dependency.uses_default_features && features.is_empty() && dependency.rename.is_none() {
        return format!("`{key} = {}`", text(&requirement));
    }
    let mut parts = vec![format!("version = {}", text(&requirement))];
    if dependency.rename.is_some() {
        parts.insert(0, format!("package = {}", text(&dependency.name)));
    }
    if !dependency.uses_default_features {
        parts.push("default-features = false".to_owned());
    }
    if !features.is_empty() {
        parts.push(format!("features = [{}]", features.join(", ")));
    }
    format!("`{key} = {{ {} }}`", parts.join(", "))
}

/// The crates that cargo failed to build, with their versions if cargo names them.
fn failing_crates(output: &str) -> Vec<(String, Option<Version>)> {
    let mut found: Vec<(String, Option<Version>)> = Vec::new();
    for line in output.lines() {
        // error: could not compile `mio` (lib) due to 48 previous errors
        // error: failed to run custom build command for `ring v0.17.14`
        let quoted = ["error: could not compile `", "error: failed to run custom build command for `"]
            .into_iter()
            .find_map(|begin| line.strip_prefix(begin))
            .and_then(|rest| rest.split_once('`'));
        let Some((package, _)) = quoted else { continue };
        let mut words = package.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let version = words.next().and_then(|word| Version::parse(word.trim_start_matches('v')).ok());
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, version));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_crates_are_found_in_cargos_output() {
        let output = "\
   Compiling mio v1.2.5
error[E0432]: unresolved import `crate::sys::IoSourceState`
error: could not compile `mio` (lib) due to 48 previous errors
warning: build failed, waiting for other jobs to finish...
error: failed to run custom build command for `ring v0.17.14`
error: could not compile `mio` (lib) due to 1 previous error
error: failed to run custom build command for `web v0.1.0 (/tmp/a web)`
";
        let found = failing_crates(output);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mio", "ring", "web"]);
        assert_eq!(found[1].1, Some(Version::new(0, 17, 14)));
        assert_eq!(failing_crates("error: linking with `rust-lld` failed: exit status: 1"), []);
    }

    #[test]
    fn a_dependency_is_written_without_unsupported_features() {
        let dependency = |json: serde_json::Value| -> Dependency {
            let mut whole = serde_json::json!({
                "name": "kube", "source": null, "req": "^5.0", "kind": null, "rename": null, "optional": false,
                "uses_default_features": true, "features": [], "target": null, "registry": null,
            });
            whole.as_object_mut().expect("an object").extend(json.as_object().expect("an object").clone());
            serde_json::from_value(whole).expect("a dependency")
        };
        let plain = dependency(serde_json::json!({ "features": ["ws"] }));
        assert_eq!(declaration(&plain, &["ws".to_owned()], None), "`kube = \"5.0\"`");
        let more = dependency(serde_json::json!({
            "req": "^4", "uses_default_features": false, "features": ["client", "ws"]
        }));
        assert_eq!(
            declaration(&more, &["ws".to_owned()], Some(&Version::new(5, 0, 0))),
            "`kube = { version = \"5.0\", default-features = false, features = [\"client\"] }`"
        );
    }
}
