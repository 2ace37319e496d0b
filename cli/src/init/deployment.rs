//! Environment, arguments and limits of the operator's container, from its Deployment.

use std::path::Path;

use serde_json::Value;
use wasmop_package::manifest::{Limits, env_problem};

use super::arguments::{self, FILLED_IN, LeftOut, OF_CHART, why_variable_left_out};
use super::dockerfile::Image;
use super::helm::{UNKNOWN, is_unknown};
use super::manifests::{Object, Source};

/// What a Deployment says about the controller.
#[derive(Debug, Default, PartialEq)]
pub struct Workload {
    /// `Deployment controller-manager in config/manager/manager.yaml`
    pub origin: String,
    /// The object's name, unless a chart decides it.
    pub name: Option<String>,
    /// The name of its ServiceAccount.
    pub account: Option<String>,
    pub variables: Vec<Variable>,
    pub arguments: Vec<String>,
    pub left_out: Vec<LeftOut>,
    pub limits: Vec<Limit>,
    /// The file with the arguments of the image, if the Deployment has none.
    pub image_file: Option<String>,
    /// Other workloads, which are not this controller.
    pub others: Vec<String>,
    /// Remarks, a sentence each.
    pub notes: Vec<String>,
}

/// An environment variable.
#[derive(Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: VariableValue,
}

#[derive(Debug, PartialEq)]
pub enum VariableValue {
    Literal(String),
    /// Why it has no value here.
    LeftOut(String),
}

/// A key of `[limits]`.
#[derive(Debug, PartialEq)]
pub struct Limit {
    pub key: &'static str,
    /// `None` if the default applies.
    pub value: Option<String>,
    pub why: String,
}

/// Containers beside the controller that scaffolds add.
const SIDECARS: [&str; 3] = ["kube-rbac-proxy", "oauth-proxy", "istio-proxy"];

/// The operator's workload in an installation. `names` are names of the project, the best first.
/// `image` is the project's own image and its file.
pub fn workload(source: &Source, names: &[&str], image: Option<(&Path, &Image)>) -> Option<Workload> {
    // A patch of kustomize has no selector.
    let complete = |object: &&Object| !object.value["spec"]["selector"].is_null() && container(&object.value).is_some();
    let mut found: Vec<&Object> =
        source.of_kind(&["Deployment", "StatefulSet", "DaemonSet"]).filter(complete).collect();
    found.sort_by_key(|object| unlikely(object, names));
    let (chosen, others) = found.split_first()?;
    let container = container(&chosen.value)?;
    let pod = &chosen.value["spec"]["template"]["spec"];
    let known = |value: &Value| value.as_str().filter(|it| !it.contains(UNKNOWN)).map(str::to_owned);
    let name = if is_unknown(&chosen.name().into()) { "(name unknown)" } else { chosen.name() };
    let template = &chosen.value["spec"]["template"];
    let mut workload = Workload {
        origin: format!("{} {name} in {}", chosen.kind(), chosen.file.display()),
        name: known(&chosen.value["metadata"]["name"]),
        account: known(&pod["serviceAccountName"]).or_else(|| known(&pod["serviceAccount"])),
        limits: limits(&container["resources"]["limits"]),
        ..Workload::default()
    };
    for other in others {
        // A manifest may be in a complete file and in its parts.
        if other.name() != chosen.name() {
            workload.others.push(format!("{} {} in {}", other.kind(), other.name(), other.file.display()));
        }
    }
    workload.read_environment(source, &template["metadata"], container);
    workload.read_arguments(container, image);
    Some(workload)
}

/// Sorts first the workload whose name is the project's, then one that is named like a controller.
fn unlikely(object: &Object, names: &[&str]) -> (bool, bool, bool) {
    let name = object.name();
    let is_named = names.iter().any(|it| name == *it || name.strip_suffix("-deployment") == Some(it));
    let is_controller = ["controller", "operator", "manager"].iter().any(|word| name.contains(word));
    (object.kind() == "DaemonSet", !is_named, !is_controller || name.contains("webhook"))
}

/// The controller's container: the one that `kubectl logs` shows, or the first that is no sidecar.
fn container(workload: &Value) -> Option<&Value> {
    let template = &workload["spec"]["template"];
    let containers = template["spec"]["containers"].as_array()?;
    let shown = &template["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
    let is_sidecar = |it: &&Value| it["name"].as_str().is_some_and(|name| SIDECARS.contains(&name));
    let by_name = containers.iter().find(|it| !shown.is_null() && it["name"] == *shown && !is_sidecar(it));
    by_name.or_else(|| containers.iter().find(|it| !is_sidecar(it))).filter(|it| it.is_object())
}

impl Workload {
    fn read_environment(&mut self, source: &Source, pod: &Value, container: &Value) {
        for from in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = from["prefix"].as_str().unwrap_or_default();
            if let Some(name) = from["configMapRef"]["name"].as_str() {
                match config_map(source, name) {
                    Some(data) => {
                        for (key, value) in data {
                            self.set(&format!("{prefix}{key}"), literal(value));
                        }
                    }
                    None => self.notes.push(format!("The variables of the ConfigMap {name} are not known here.")),
                }
            } else if let Some(name) = from["secretRef"]["name"].as_str() {
                self.notes.push(format!(
                    "The variables of the Secret {name}: the owner of the host sets them under \
                     [controllers.NAME.env] of its configuration file."
                ));
            }
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let Some(name) = variable["name"].as_str().filter(|name| !name.contains(UNKNOWN)) else { continue };
            let value = match &variable["valueFrom"] {
                Value::Null => self.with_references(literal(&variable["value"])),
                from => referenced(source, pod, name, from),
            };
            self.set(name, value);
        }
    }

    /// A value whose references the host can fill in.
    fn with_references(&self, value: VariableValue) -> VariableValue {
        match value {
            VariableValue::Literal(text) => match self.unknown_reference(&text) {
                Some(name) => {
                    VariableValue::LeftOut(format!("{text:?} in the Deployment, and `{name}` has no value here"))
                }
                None => VariableValue::Literal(text),
            },
            other @ VariableValue::LeftOut(_) => other,
        }
    }

    /// The first variable to which a text refers, as in `$(POD_IP)`, and that has no value.
    fn unknown_reference<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut references = text.split("$(").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        let has_value = |name: &str| {
            let is_literal = |it: &Variable| it.name == name && matches!(it.value, VariableValue::Literal(_));
            name == NAMESPACE_VARIABLE || self.variables.iter().any(is_literal)
        };
        references.find(|name| !has_value(name))
    }

    /// Sets a variable. A later value takes precedence, as in Kubernetes.
    fn set(&mut self, name: &str, value: VariableValue) {
        let value = match (why_variable_left_out(name), value) {
            (Some(why), _) => VariableValue::LeftOut(why.to_owned()),
            (None, VariableValue::Literal(text)) => match env_problem(name, &text) {
                Some(problem) => VariableValue::LeftOut(problem.to_owned()),
                None => VariableValue::Literal(text),
            },
            (None, value) => value,
        };
        self.variables.retain(|it| it.name != name);
        self.variables.push(Variable { name: name.to_owned(), value });
    }

    fn read_arguments(&mut self, container: &Value, image: Option<(&Path, &Image)>) {
        let list = |key: &str| {
            let texts = container[key].as_array().into_iter().flatten();
            texts.map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned)).collect::<Vec<String>>()
        };
        let command = list("command");
        let program = command.first().map(|it| it.rsplit('/').next().unwrap_or(it).to_owned());
        if matches!(program.as_deref(), Some("sh" | "bash" | "ash" | "tini" | "dumb-init")) {
            self.notes.push(format!(
                "The container starts `{}`: write the arguments of the controller itself here.",
                program.unwrap_or_default()
            ));
            return;
        }
        // The first word of the command is the program.
        let mut all: Vec<String> = command.iter().skip(1).cloned().chain(list("args")).collect();
        if command.is_empty()
            && all.is_empty()
            && let Some((file, image)) = image
        {
            all = image.arguments();
            self.image_file = (!all.is_empty()).then(|| file.display().to_string());
        }
        let (kept, left_out) = arguments::sort(&all);
        self.left_out = left_out;
        let mut kept = kept.into_iter().peekable();
        while let Some(argument) = kept.next() {
            let value =
                kept.next_if(|next| argument.starts_with("--") && !argument.contains('=') && !next.starts_with('-'));
            let words: Vec<String> = std::iter::once(argument).chain(value).collect();
            let has = |part: &str| words.iter().any(|it| it.contains(part));
            let why = if has(UNKNOWN) { OF_CHART } else { FILLED_IN };
            let is_filled_in = words.iter().any(|it| self.unknown_reference(it).is_some());
            if has(UNKNOWN) || is_filled_in || has("\0") {
                self.left_out.push(LeftOut { argument: words.join(" ").replace(UNKNOWN, "…"), why });
            } else {
                self.arguments.extend(words);
            }
        }
    }
}

/// The value of a variable that is written out.
fn literal(value: &Value) -> VariableValue {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains(UNKNOWN) {
        VariableValue::LeftOut("the chart sets it; give it a value".to_owned())
    } else {
        VariableValue::Literal(text)
    }
}

/// The variable that every controller has.
const NAMESPACE_VARIABLE: &str = "POD_NAMESPACE";
const BY_OWNER: &str = "the owner of the host sets it under [controllers.NAME.env] of its configuration file";

/// The value of a variable that comes from elsewhere. `pod` is the metadata of the Pods.
fn referenced(source: &Source, pod: &Value, name: &str, from: &Value) -> VariableValue {
    let left_out = |why: String| VariableValue::LeftOut(why);
    let text = |value: &Value| value.as_str().unwrap_or("?").replace(UNKNOWN, "…");
    if let Some(field) = from["fieldRef"]["fieldPath"].as_str() {
        if let Some(value) = of_template(pod, field) {
            return literal(value);
        }
        return left_out(match (name, field) {
            (NAMESPACE_VARIABLE, _) => "the host sets it".to_owned(),
            (_, "metadata.namespace") => return VariableValue::Literal(format!("$({NAMESPACE_VARIABLE})")),
            _ => format!("{field} of the Pod, and there is no Pod; if the controller needs it, give it a value"),
        });
    }
    let map = &from["configMapKeyRef"];
    if let Some(map_name) = map["name"].as_str() {
        let key = text(&map["key"]);
        let known = config_map(source, map_name).and_then(|data| data.get(&key));
        return match known {
            Some(value) => literal(value),
            None => left_out(format!("`{key}` of the ConfigMap {}; {BY_OWNER}", text(&map["name"]))),
        };
    }
    let secret = &from["secretKeyRef"];
    if secret.is_object() {
        return left_out(format!("`{}` of the Secret {}; {BY_OWNER}", text(&secret["key"]), text(&secret["name"])));
    }
    if from["resourceFieldRef"].is_object() {
        return left_out("not needed: the host limits CPU and memory, see [limits]".to_owned());
    }
    left_out("it comes from elsewhere; if the controller needs it, give it a value".to_owned())
}

/// A label or annotation of the Pods, which their template has: `metadata.labels['a/b']`.
fn of_template<'a>(pod: &'a Value, field: &str) -> Option<&'a Value> {
    let (map, key) = field.strip_prefix("metadata.")?.split_once("['")?;
    pod.get(map)?.get(key.strip_suffix("']")?)
}

/// The data of a ConfigMap in the same installation.
fn config_map<'a>(source: &'a Source, name: &str) -> Option<&'a serde_json::Map<String, Value>> {
    let map = source.of_kind(&["ConfigMap"]).find(|map| map.name() == name)?;
    map.value["data"].as_object()
}

/// Limits that differ from wasmop's defaults.
fn limits(limits: &Value) -> Vec<Limit> {
    let defaults = Limits::default();
    let mut found = Vec::new();
    let text = |key: &str| limits[key].as_str().map_or_else(|| limits[key].to_string(), str::to_owned);
    let why = |key: &str| format!("the Deployment's limit is `{key}: {}`", text(key));
    if let Some(bytes) = bytes(&text("memory")) {
        let (default, most) = (defaults.memory_bytes, 4 << 30);
        let mib = bytes.min(most).div_ceil(1 << 20);
        let why = why("memory");
        found.push(match bytes {
            bytes if bytes > default => Limit { key: "memory", value: Some(format!("{mib}MiB")), why },
            _ => Limit {
                key: "memory",
                value: None,
                why: format!("{why}, which is not more than {} MiB", default >> 20),
            },
        });
    }
    if let Some(millis) = thousandths(&text("cpu")) {
        let value = millis.clamp(1, 1000);
        if value != defaults.cpu_share_millis {
            let shown = if value == 1000 { "1".to_owned() } else { format!("{value}m") };
            found.push(Limit { key: "cpu-share", value: Some(shown), why: why("cpu") });
        }
    }
    found
}

/// A quantity of bytes, like `128Mi` or `1G`.
fn bytes(quantity: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("", 1),
    ];
    let (unit, factor) = UNITS.iter().find(|(unit, _)| quantity.ends_with(unit))?;
    let number: f64 = quantity.strip_suffix(unit)?.parse().ok()?;
    let bytes = number * *factor as f64;
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

/// A quantity of CPU, like `500m` or `0.5`, in thousandths of a core.
fn thousandths(quantity: &str) -> Option<u64> {
    let number: f64 = match quantity.strip_suffix('m') {
        Some(number) => number.parse().ok()?,
        None => quantity.parse::<f64>().ok()? * 1000.0,
    };
    (number > 0.0 && number < 1e9).then_some(number.round() as u64)
}

#[cfg(test)]
mod tests;
