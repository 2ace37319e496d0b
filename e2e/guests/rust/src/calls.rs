//! Values that JSON easily changes, sent through every call of the client.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions, TypeMeta,
};
use kube::{Api, Client, CustomResource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::FIELD_MANAGER;
use crate::probe::Probe;

/// The label of all objects created here. A test removes leftovers.
const LABEL: &str = "calls";
/// The smallest integer that a double cannot represent.
const ODD: i64 = (1 << 53) + 1;

/// A Probe with values, without `spec.values.extra`.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(
    group = "e2e.wasmop.dev",
    version = "v1",
    kind = "Probe",
    root = "TypedProbe",
    namespaced,
    status = "TypedPart",
    schema = "disabled"
)]
pub struct TypedSpec {
    value: String,
    values: Values,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TypedPart {
    value: String,
    values: Values,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Values {
    max: i64,
    min: i64,
    odd: i64,
    cpu: Quantity,
    memory: Quantity,
    port: IntOrString,
    name: IntOrString,
    micro: MicroTime,
    text: String,
}

fn typed_values() -> Value {
    json!({
        "max": i64::MAX, "min": i64::MIN, "odd": ODD, "cpu": "1000m", "memory": "1024Mi",
        "port": 8080, "name": "http", "micro": "2026-01-02T03:04:05.000600Z", "text": "<&>\u{2028}",
    })
}

fn extra() -> Value {
    json!({ "n": ODD, "max": i64::MAX })
}

fn untyped_values() -> Value {
    let mut values = typed_values();
    values["extra"] = extra();
    values
}

/// Returns `exact`, or the first call that changed a value.
pub async fn calls(client: &Client, namespace: &str, name: &str) -> String {
    let typed = Series {
        api: Api::<TypedProbe>::namespaced(client.clone(), namespace),
        untyped: untyped_api(client, namespace),
        name: format!("{name}-typed"),
        values: typed_values(),
        drops_unknown: true,
    };
    let untyped = Series {
        api: untyped_api(client, namespace),
        untyped: untyped_api(client, namespace),
        name: format!("{name}-untyped"),
        values: untyped_values(),
        drops_unknown: false,
    };
    let deployments = Api::namespaced(client.clone(), namespace);
    let all = async {
        typed.run().await?;
        untyped.run().await?;
        deployment_calls(&deployments, name).await
    };
    all.await.map_or_else(|error| error, |()| "exact".to_owned())
}

fn untyped_api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Probe>(&()))
}

/// The calls with one type of Probe.
struct Series<K> {
    api: Api<K>,
    untyped: Api<DynamicObject>,
    name: String,
    values: Value,
    drops_unknown: bool,
}

impl<K: Clone + Debug + Serialize + DeserializeOwned> Series<K> {
    async fn run(&self) -> Result<(), String> {
        // An interrupted reconcile leaves the object behind.
        match self.api.delete(&self.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => {
                self.answered("delete what is left", result)?;
            }
        }
        let created = self.api.create(&PostParams::default(), &self.with("spec", "create")?).await;
        self.expect("create", "spec", "create", created)?;
        self.reads().await?;
        self.patches().await?;
        self.status().await?;
        self.unknown_field("patches", true).await?;
        let mut replacement = self.tree("get", &self.answered("get", self.api.get(&self.name).await)?)?;
        replacement["spec"]["value"] = json!("replace");
        replacement["spec"]["values"] = self.values.clone();
        let replaced = self.api.replace(&self.name, &PostParams::default(), &self.object(replacement)?).await;
        self.expect("replace", "spec", "replace", replaced)?;
        // A typed object does not send the unknown field.
        self.unknown_field("replace", !self.drops_unknown).await?;
        self.deletes().await
    }

    async fn reads(&self) -> Result<(), String> {
        self.expect("get", "spec", "create", self.api.get(&self.name).await)?;
        let listed = self.api.list(&ListParams::default().labels(&self.selector())).await;
        let mut items = self.answered("list", listed)?.items;
        match (items.pop(), items.len()) {
            (Some(item), 0) => self.expect("list", "spec", "create", Ok(item)),
            (_, others) => Err(format!("{} list: {others} others", self.name)),
        }
    }

    async fn patches(&self) -> Result<(), String> {
        let (name, params) = (self.name.as_str(), PatchParams::default());
        // A field that the typed object lacks.
        let raw = json!({ "spec": { "value": "raw merge patch", "values": { "extra": extra() } } });
        let patched = self.api.patch(name, &params, &Patch::Merge(&raw)).await;
        self.expect("raw merge patch", "spec", "raw merge patch", patched)?;

        let patched = self.api.patch(name, &params, &Patch::Merge(&self.with("spec", "merge patch")?)).await;
        self.expect("merge patch", "spec", "merge patch", patched)?;

        let mut operations = vec![json!({ "op": "add", "path": "/spec/value", "value": "JSON patch" })];
        for (field, value) in self.values.as_object().into_iter().flatten() {
            operations.push(json!({ "op": "add", "path": format!("/spec/values/{field}"), "value": value }));
        }
        let patch = serde_json::from_value(operations.into()).map_err(|error| format!("{name} JSON patch: {error}"))?;
        let patched = self.api.patch(name, &params, &Patch::Json::<()>(patch)).await;
        self.expect("JSON patch", "spec", "JSON patch", patched)?;

        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = self.api.patch(name, &params, &Patch::Apply(&self.with("spec", "apply")?)).await;
        self.expect("apply", "spec", "apply", applied)
    }

    async fn status(&self) -> Result<(), String> {
        let (name, params) = (self.name.as_str(), PatchParams::default());
        let with = |value: &str| json!({ "value": value, "values": self.values });
        let mut whole = self.tree("get", &self.answered("get", self.api.get(name).await)?)?;
        whole["status"] = with("status replace");
        let replaced = self.api.replace_status(name, &PostParams::default(), &self.object(whole)?).await;
        self.expect("status replace", "status", "status replace", replaced)?;

        let patch = json!({ "status": with("status merge patch") });
        let patched = self.api.patch_status(name, &params, &Patch::Merge(&patch)).await;
        self.expect("status merge patch", "status", "status merge patch", patched)?;
        self.expect("status get", "status", "status merge patch", self.api.get_status(name).await)?;

        let mut whole = self.tree("get", &self.answered("get", self.api.get(name).await)?)?;
        whole["status"] = with("subresource replace");
        let whole = self.object(whole)?;
        let replaced = self.api.replace_subresource("status", name, &PostParams::default(), &whole).await;
        self.expect("subresource replace", "status", "subresource replace", replaced)?;

        let patch = json!({ "status": with("subresource merge patch") });
        let patched = self.api.patch_subresource("status", name, &params, &Patch::Merge(&patch)).await;
        self.expect("subresource merge patch", "status", "subresource merge patch", patched)?;
        let read = self.answered("subresource get", self.api.get_subresource("status", name).await)?;
        self.expect("subresource get", "status", "subresource merge patch", Ok(read.clone()))?;
        self.expect("spec after that", "spec", "apply", Ok(read))
    }

    /// Checks whether the object has the field that the typed object lacks.
    async fn unknown_field(&self, after: &str, there: bool) -> Result<(), String> {
        let call = format!("unknown field after {after}");
        let object = self.answered(&call, self.untyped.get(&self.name).await)?;
        let found = object.data["spec"]["values"].get("extra");
        let wanted = there.then(extra);
        if found == wanted.as_ref() { Ok(()) } else { Err(format!("{} {call}: it is {found:?}", self.name)) }
    }

    async fn deletes(&self) -> Result<(), String> {
        let current = self.tree("get", &self.answered("get", self.api.get(&self.name).await)?)?;
        let text = |field: &str| current["metadata"][field].as_str().map(str::to_owned);
        let preconditions = Preconditions { resource_version: text("resourceVersion"), uid: text("uid") };
        let deleted = self.api.delete(&self.name, &DeleteParams::default().preconditions(preconditions)).await;
        self.answered("delete", deleted)?;
        self.gone("delete").await?;

        let created = self.api.create(&PostParams::default(), &self.with("spec", "create")?).await;
        self.expect("create again", "spec", "create", created)?;
        let mine = ListParams::default().labels(&self.selector());
        self.answered("delete all", self.api.delete_collection(&DeleteParams::default(), &mine).await)?;
        self.gone("delete all").await
    }

    async fn gone(&self, call: &str) -> Result<(), String> {
        match self.answered(call, self.api.get_opt(&self.name).await)? {
            None => Ok(()),
            Some(_) => Err(format!("{} {call}: still there", self.name)),
        }
    }

    fn selector(&self) -> String {
        format!("{LABEL}={}", self.name)
    }

    /// The object with the values in one part, and a value that identifies the call.
    fn with(&self, part: &str, value: &str) -> Result<K, String> {
        let TypeMeta { api_version, kind } = TypeMeta::resource::<Probe>();
        self.object(json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": self.name, "labels": { LABEL: self.name } },
            part: { "value": value, "values": self.values },
        }))
    }

    fn object(&self, tree: Value) -> Result<K, String> {
        serde_json::from_value(tree).map_err(|error| format!("{}: {error}", self.name))
    }

    fn tree(&self, call: &str, object: &K) -> Result<Value, String> {
        tree(&self.name, call, object)
    }

    fn answered<T>(&self, call: &str, answer: kube::Result<T>) -> Result<T, String> {
        answered(&self.name, call, answer)
    }

    /// Checks that the response has the values in one part.
    fn expect(&self, call: &str, part: &str, value: &str, answer: kube::Result<K>) -> Result<(), String> {
        let got = self.tree(call, &self.answered(call, answer)?)?;
        let got = &got[part];
        if got["value"] != value {
            return Err(format!("{} {call}: value is {}", self.name, got["value"]));
        }
        equal(&self.name, call, &got["values"], &self.values)
    }
}

fn answered<T>(name: &str, call: &str, answer: kube::Result<T>) -> Result<T, String> {
    answer.map_err(|error| format!("{name} {call}: {error}"))
}

fn tree(name: &str, call: &str, object: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| format!("{name} {call}: {error}"))
}

/// Checks that two trees are equal; the error names the first difference.
fn equal(name: &str, call: &str, got: &Value, want: &Value) -> Result<(), String> {
    for (field, value) in want.as_object().into_iter().flatten() {
        if got[field] != *value {
            return Err(format!("{name} {call}: {field} is {}, not {value}", got[field]));
        }
    }
    let extra = got.as_object().into_iter().flatten().find(|(field, _)| want.get(field).is_none());
    extra.map_or(Ok(()), |(field, value)| Err(format!("{name} {call}: {field} is {value}, not missing")))
}

/// A paused Deployment, which creates no Pods.
fn deployment(name: &str, seconds: i32) -> Result<Deployment, String> {
    let labels = json!({ LABEL: name });
    let container = json!({
        "name": "c",
        "image": "none",
        "ports": [{ "name": "http", "containerPort": 8080 }],
        "resources": { "limits": { "cpu": "1000m", "memory": "1024Mi" } },
        "readinessProbe": { "tcpSocket": { "port": "http" } },
        "livenessProbe": { "tcpSocket": { "port": 8080 } },
    });
    let tree = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": 0,
            "paused": true,
            "minReadySeconds": seconds,
            "selector": { "matchLabels": labels },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": ODD, "containers": [container] },
            },
        },
    });
    serde_json::from_value(tree).map_err(|error| format!("{name}: {error}"))
}

/// Checks the values of a Deployment, with quantities as the API server spells them.
fn is_deployment(name: &str, call: &str, seconds: i32, answer: kube::Result<Deployment>) -> Result<(), String> {
    let got = tree(name, call, &answered(name, call, answer)?)?;
    let pod = &got["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let rolling = &got["spec"]["strategy"]["rollingUpdate"];
    let got = json!({
        "grace": pod["terminationGracePeriodSeconds"],
        "cpu": container["resources"]["limits"]["cpu"],
        "memory": container["resources"]["limits"]["memory"],
        "ready": container["readinessProbe"]["tcpSocket"]["port"],
        "live": container["livenessProbe"]["tcpSocket"]["port"],
        "maxSurge": rolling["maxSurge"],
        "maxUnavailable": rolling["maxUnavailable"],
        "seconds": got["spec"]["minReadySeconds"],
    });
    let want = json!({
        "grace": ODD, "cpu": "1", "memory": "1Gi", "ready": "http", "live": 8080, "maxSurge": "25%",
        "maxUnavailable": 1, "seconds": seconds,
    });
    equal(name, call, &got, &want)
}

/// The calls with a Deployment. Other clients write its status at the same time, so no call sends a resource version.
async fn deployment_calls(api: &Api<Deployment>, name: &str) -> Result<(), String> {
    let is = |call: &str, seconds, answer| is_deployment(name, &format!("deployment {call}"), seconds, answer);
    match api.delete(name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        result => {
            answered(name, "deployment delete what is left", result)?;
        }
    }
    is("create", 1, api.create(&PostParams::default(), &deployment(name, 1)?).await)?;
    is("get", 1, api.get(name).await)?;
    let listed = api.list(&ListParams::default().labels(&format!("{LABEL}={name}"))).await;
    let mut items = answered(name, "deployment list", listed)?.items;
    match (items.pop(), items.len()) {
        (Some(item), 0) => is("list", 1, Ok(item))?,
        (_, others) => return Err(format!("{name} deployment list: {others} others")),
    }
    let params = PatchParams::default();
    is("merge patch", 2, api.patch(name, &params, &Patch::Merge(&deployment(name, 2)?)).await)?;
    is("strategic merge patch", 3, api.patch(name, &params, &Patch::Strategic(&deployment(name, 3)?)).await)?;
    let operations = json!([{ "op": "replace", "path": "/spec", "value": deployment(name, 4)?.spec }]);
    let patch = serde_json::from_value(operations).map_err(|error| format!("{name} deployment JSON patch: {error}"))?;
    is("JSON patch", 4, api.patch(name, &params, &Patch::Json::<()>(patch)).await)?;
    let apply = PatchParams::apply(FIELD_MANAGER).force();
    is("apply", 5, api.patch(name, &apply, &Patch::Apply(&deployment(name, 5)?)).await)?;
    is("replace", 6, api.replace(name, &PostParams::default(), &deployment(name, 6)?).await)?;

    let scaled = |call: &str, replicas: i32, answer: kube::Result<Scale>| {
        let scale = answered(name, call, answer)?;
        match scale.spec.as_ref().and_then(|spec| spec.replicas) {
            Some(found) if found == replicas => Ok(scale),
            found => Err(format!("{name} deployment {call}: replicas is {found:?}, not {replicas}")),
        }
    };
    let patch = json!({ "spec": { "replicas": 3 } });
    scaled("scale patch", 3, api.patch_scale(name, &params, &Patch::Merge(&patch)).await)?;
    let mut scale = scaled("scale get", 3, api.get_scale(name).await)?;
    scale.metadata.resource_version = None;
    scale.spec.get_or_insert_default().replicas = Some(2);
    scaled("scale replace", 2, api.replace_scale(name, &PostParams::default(), &scale).await)?;
    answered(name, "deployment delete", api.delete(name, &DeleteParams::background()).await)?;
    Ok(())
}
