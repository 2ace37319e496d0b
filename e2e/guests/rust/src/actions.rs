//! The actions that `spec.action` can request.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, ServiceAccount};
use kube::api::{GetParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};

use crate::memory::{Known, Memory};
use crate::probe::{Probe, ProbeStatus};
use crate::{Error, FIELD_MANAGER};

/// One Probe, and everything an action needs.
pub struct Acting<'a> {
    pub client: &'a Client,
    pub memory: &'a Memory,
    pub events: &'a Recorder,
    pub probe: Arc<Probe>,
    pub known: Known,
    /// Reconciles of this guest so far.
    pub total: u64,
}

/// The result of an action.
#[derive(Default)]
pub struct Done {
    /// The value of `status.echo`.
    pub echo: String,
    /// The delay of the action `requeue`.
    pub requeue: Option<Duration>,
}

impl Acting<'_> {
    /// Performs the action of the Probe.
    pub async fn act(&self) -> Result<Done, Error> {
        let delay = Duration::from_millis(self.probe.spec.delay_ms);
        let mut done = Done::default();
        match self.probe.spec.action.as_str() {
            "" | "child" => self.apply_child(&self.probe.spec.value).await?,
            // An endless loop of reconciles: each writes a new value, which triggers the next one.
            "churn" => self.apply_child(&self.total.to_string()).await?,
            "conflict" => done.echo = self.conflict().await?,
            "requeue" => {
                let now = wall_clock_ns();
                done.echo = format!("{},{now}", self.known.requeued);
                self.memory.update(&self.uid(), |known| known.requeued = now);
                done.requeue = Some(delay);
            }
            "error" => done.echo = self.error()?,
            "sleep" => {
                let start = std::time::Instant::now();
                tokio::time::sleep(delay).await;
                done.echo = format!("slept={}", start.elapsed().as_millis());
            }
            "ticker" => {
                let mut ticker = tokio::time::interval_at(tokio::time::Instant::now() + delay, delay);
                for _ in 0..self.probe.spec.count {
                    ticker.tick().await;
                }
                done.echo = format!("ticks={}", self.probe.spec.count);
            }
            "slow" => {
                for _ in 0..3 {
                    self.read_child().await?;
                }
                self.apply_child(&self.probe.spec.value).await?;
                done.echo = "slow-done".to_owned();
            }
            "hold" => {
                self.read_child().await?;
                done.echo = "held".to_owned();
            }
            "fetch" => done.echo = self.fetch().await?,
            "cached" => done.echo = self.read_cached().await?,
            "write-cached" => {
                for n in 0..self.probe.spec.count {
                    let value = format!("{}-{n}", self.probe.spec.value);
                    let patch = serde_json::json!({ "data": { "value": value } });
                    self.children()
                        .patch(&self.probe.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                        .await?;
                    let read = self.read_cached().await?;
                    if !read.starts_with(&format!("{value},")) {
                        return Err(Error::Failed(format!("wrote {value}, and read {read}")));
                    }
                }
                done.echo = "read its writes".to_owned();
            }
            "replace" => {
                for n in 0..self.probe.spec.count {
                    let name = self.probe.name_any();
                    let mut child = self.children().get(&name).await?;
                    let value = format!("{}-{n}", self.probe.spec.value);
                    child.data.get_or_insert_default().insert("value".to_owned(), value);
                    self.children().replace(&name, &PostParams::default(), &child).await?;
                }
            }
            // See `status`.
            "exact" => {}
            "calls" => {
                let namespace = self.probe.namespace().unwrap_or_default();
                done.echo = crate::calls::calls(self.client, &namespace, &self.probe.name_any()).await;
            }
            "quantity" => done.echo = self.quantity().await?,
            "events" => self.report().await?,
            "token" => done.echo = self.token().await?,
            "list" => done.echo = self.list().await?,
            "random" => {
                let mut bytes = [0_u8; 16];
                getrandom::fill(&mut bytes).map_err(|error| Error::Failed(error.to_string()))?;
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                done.echo = format!("{hex},{}", self.memory.check_thousand());
            }
            "clock" => done.echo = format!("{},{}", wall_clock_ns(), self.known.first.elapsed().as_nanos()),
            "startup" => {
                tracing::debug!("what it was started with");
                let mode = std::env::var("MODE").unwrap_or_default();
                let arguments: Vec<String> = std::env::args().skip(1).collect();
                done.echo = format!("{mode};{};{}", arguments.join(","), self.client.default_namespace());
            }
            // In Rust a panic crashes the program.
            "crash" => panic!("the Probe {} asked for a crash", self.probe.name_any()),
            "panic" => panic!("the Probe {} asked for a panic", self.probe.name_any()),
            "loop" => loop {
                std::hint::spin_loop();
            },
            "grow" => self.memory.grow(),
            "heap" => self.memory.hold(self.probe.spec.count),
            "leak" => {
                let done_before = self.probe.status.as_ref().map(|status| status.observed_generation);
                if done_before != self.probe.metadata.generation {
                    self.memory.leak(self.probe.spec.count);
                }
                done.echo = "leaked".to_owned();
            }
            unknown => return Err(Error::Failed(format!("unknown action `{unknown}`"))),
        }
        Ok(done)
    }

    fn uid(&self) -> String {
        self.probe.uid().unwrap_or_default()
    }

    fn children(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.probe.namespace().unwrap_or_default())
    }

    /// Gets the ConfigMap with the Probe's name. Tests delay that request.
    async fn read_child(&self) -> Result<(), Error> {
        self.children().get_opt(&self.probe.name_any()).await?;
        Ok(())
    }

    /// Reads the ConfigMap with the Probe's name and lists all ConfigMaps, both from the cache. Returns the value, the
    /// resource version, and whether the two reads agree.
    async fn read_cached(&self) -> Result<String, Error> {
        let name = self.probe.name_any();
        let child = self.children().get_with(&name, &GetParams::any()).await?;
        let all = self.children().list(&ListParams::default().match_any()).await?;
        let same = all.items.iter().any(|listed| *listed == child);
        let value = child.data.as_ref().and_then(|data| data.get("value")).cloned().unwrap_or_default();
        Ok(format!("{value},{},{same}", child.resource_version().unwrap_or_default()))
    }

    /// Gets the URL in the value, and posts the response back. Returns status and body of both, and the first location.
    async fn fetch(&self) -> Result<String, Error> {
        let url = self.probe.spec.value.as_str();
        let failed = |error: &dyn std::error::Error| Error::Failed(error.to_string());
        let request = http::Request::get(url).header("authorization", "Bearer own").body("");
        let got = wasmop::fetch(request.map_err(|error| failed(&error))?).await.map_err(|error| failed(&error))?;
        let request = http::Request::post(url).header("content-type", "text/plain").body(got.body().clone());
        let posted = wasmop::fetch(request.map_err(|error| failed(&error))?).await.map_err(|error| failed(&error))?;
        let text = |response: &http::Response<bytes::Bytes>| {
            format!("{} {}", response.status().as_u16(), String::from_utf8_lossy(response.body()))
        };
        let location = got.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(format!("{}; {}; {location}", text(&got), text(&posted)))
    }

    async fn apply_child(&self, value: &str) -> Result<(), Error> {
        let name = self.probe.name_any();
        let mut child = config_map(&self.probe, &name);
        child.data = Some([("value".to_owned(), value.to_owned())].into());
        child.metadata.owner_references = self.probe.controller_owner_ref(&()).map(|owner| vec![owner]);
        self.children().patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&child)).await?;
        Ok(())
    }

    /// Leaves a ConfigMap with the last value of the deleted Probe.
    pub async fn leave_trace(&self) -> Result<Action, Error> {
        let trace = config_map(&self.probe, &format!("{}-deleted", self.probe.name_any()));
        match self.children().create(&PostParams::default(), &trace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            result => {
                result?;
            }
        }
        Ok(Action::await_change())
    }

    /// Applies quantities twice, spelled differently from the API server. The second apply must change nothing.
    async fn quantity(&self) -> Result<String, Error> {
        let name = self.probe.name_any();
        let deployments: Api<Deployment> =
            Api::namespaced(self.client.clone(), &self.probe.namespace().unwrap_or_default());
        let labels = serde_json::json!({ "probe": name });
        let limits = serde_json::json!({ "cpu": "1000m", "memory": "1024Mi" });
        let deployment = serde_json::json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "c", "image": "none", "resources": { "limits": limits } }] },
                },
            },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let first = deployments.patch(&name, &params, &Patch::Apply(&deployment)).await?;
        let second = deployments.patch(&name, &params, &Patch::Apply(&deployment)).await?;
        let same = first.metadata.generation == second.metadata.generation;
        Ok(if same { "unchanged" } else { "updated" }.to_owned())
    }

    /// Emits two Events in one step, and one about an object whose name no Event can have.
    async fn report(&self) -> Result<(), Error> {
        let event = |reason: &str| Event {
            type_: EventType::Normal,
            reason: reason.to_owned(),
            note: Some(format!("of {}", self.probe.name_any())),
            action: "Report".to_owned(),
            secondary: None,
        };
        let probe = self.probe.object_ref(&());
        let role = ObjectReference {
            api_version: Some("rbac.authorization.k8s.io/v1".to_owned()),
            kind: Some("ClusterRole".to_owned()),
            name: Some(format!("system:{}", self.probe.namespace().unwrap_or_default())),
            ..ObjectReference::default()
        };
        let (first, second, odd) = (event("First"), event("Second"), event("OddName"));
        let (first, second, odd) = futures::join!(
            self.events.publish(&first, &probe),
            self.events.publish(&second, &probe),
            self.events.publish(&odd, &role)
        );
        first?;
        second?;
        odd?;
        Ok(())
    }

    /// Creates a token if the value requests it, and reads the ServiceAccount with the Probe's name from the cache.
    async fn token(&self) -> Result<String, Error> {
        let name = self.probe.name_any();
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.client.clone(), &self.probe.namespace().unwrap_or_default());
        if self.probe.spec.value == "create" {
            accounts.create_token_request(&name, &PostParams::default(), &TokenRequest::default()).await?;
        }
        Ok(accounts.get_with(&name, &GetParams::any()).await?.name_any())
    }

    /// Lists the ConfigMaps with the Probe's name as a label.
    async fn list(&self) -> Result<String, Error> {
        let bulk = ListParams::default().labels(&format!("bulk={}", self.probe.name_any()));
        let all = self.children().list(&bulk).await?;
        let bytes: usize = all.items.iter().filter_map(|item| item.data.as_ref()?.get("bulk")).map(String::len).sum();
        Ok(format!("{},{bytes}", all.items.len()))
    }

    fn error(&self) -> Result<String, Error> {
        let count = self.probe.spec.count;
        if self.known.errors >= count {
            return Ok(format!("errors={}", self.known.errors));
        }
        let errors = self.known.errors + 1;
        self.memory.update(&self.uid(), |known| known.errors = errors);
        Err(Error::Failed(format!("error {errors} of {count}, as asked for{}", self.probe.spec.value)))
    }

    /// Provokes a conflict with a status update from an outdated copy, then reads again and retries until it succeeds.
    async fn conflict(&self) -> Result<String, Error> {
        let probes: Api<Probe> = Api::namespaced(self.client.clone(), &self.probe.namespace().unwrap_or_default());
        let name = self.probe.name_any();
        let newer = format!("newer than {}", self.probe.resource_version().unwrap_or_default());
        let patch = serde_json::json!({ "status": { "echo": newer } });
        probes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;

        let mut copy = Probe::clone(&self.probe);
        let mut conflicts = 0;
        loop {
            let echo = format!("conflicts={conflicts}");
            copy.status = Some(ProbeStatus { echo: echo.clone(), ..self.status() });
            match probes.replace_status(&name, &PostParams::default(), &copy).await {
                Ok(_) => return Ok(echo),
                Err(kube::Error::Api(status)) if status.is_conflict() => conflicts += 1,
                Err(error) => return Err(error.into()),
            }
            copy = probes.get(&name).await?;
        }
    }

    /// The status after this reconcile, without the echo.
    pub fn status(&self) -> ProbeStatus {
        ProbeStatus {
            observed_generation: self.probe.metadata.generation.unwrap_or_default(),
            total: self.total,
            seen: self.known.seen,
            value: self.probe.spec.value.clone(),
            count: if self.probe.spec.action == "exact" { self.probe.spec.count } else { 0 },
            echo: String::new(),
        }
    }
}

fn config_map(probe: &Probe, name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), namespace: probe.namespace(), ..ObjectMeta::default() },
        data: Some([("value".to_owned(), probe.spec.value.clone())].into()),
        ..ConfigMap::default()
    }
}

fn wall_clock_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
