//! Kubernetes Events about controllers that misbehave, on the object being reconciled or, without one, on the
//! namespace that the host is at home in.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;
use wasmop_package::manifest::WatchSpec;

use super::Host;
use crate::controller::RegistrationId;
use crate::limits::problem::{Problem, Told};
use crate::queue::Key;
use crate::watch::chain;

/// The reporting controller of all Events.
const REPORTER: &str = "wasmop";
/// Events being written at once, of the whole host.
const AT_ONCE: usize = 4;
/// Most bytes of a note: Kubernetes takes 1024.
const MAX_NOTE: usize = 1000;

/// What has been told, and by whom.
pub(super) struct Teller {
    told: Told,
    /// By controller: the reporting instance of an Event is what it is about. Events of one recorder that have the same reason and
    /// object become a series.
    recorders: HashMap<Arc<str>, Recorder>,
    at_once: Arc<Semaphore>,
    refused: Arc<AtomicBool>,
}

impl Default for Teller {
    fn default() -> Teller {
        Teller {
            told: Told::default(),
            recorders: HashMap::new(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Arc::default(),
        }
    }
}

/// What an Event is about.
pub(super) enum Regarding {
    Object {
        kind: WatchSpec,
        key: Key,
    },
    /// Nothing in particular.
    Host,
}

impl Host {
    /// Tells a controller's owner what it did: as its last error, and as an Event unless there was one within
    /// the last minute. `object`: the registration and object concerned.
    pub(super) fn tell(&mut self, index: u32, problem: Problem, object: Option<(RegistrationId, Key)>, message: &str) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let key = object.as_ref().map_or("", |(_, key)| &**key);
        slot.counters.problem(now, key, problem, message);
        let Some(more) = self.teller.told.happened(index, problem, now) else { return };
        let regarding = object.and_then(|(registration, key)| {
            let kind = slot.controller.registration(registration)?.spec.primary.clone();
            Some(Regarding::Object { kind, key })
        });
        let name = slot.name.clone();
        let message = match more {
            0 => message.to_owned(),
            n => format!("{message} (and {n} times before, since the last event)"),
        };
        self.publish(name, problem, regarding.unwrap_or(Regarding::Host), &message);
    }

    /// Writes an Event, some time.
    pub(super) fn publish(&mut self, controller: Arc<str>, problem: Problem, regarding: Regarding, message: &str) {
        let mut note = format!("controller {controller}: {message}");
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let event = Event {
            type_: EventType::Warning,
            reason: problem.reason().into(),
            note: Some(note),
            action: problem.action().into(),
            secondary: None,
        };
        let client = self.client.clone();
        let recorder = self.teller.recorders.entry(controller.clone()).or_insert_with(|| {
            let reporter = Reporter { controller: REPORTER.into(), instance: Some(controller.to_string()) };
            Recorder::new(client.clone(), reporter)
        });
        let (recorder, refused, at_once) = (recorder.clone(), self.teller.refused.clone(), self.teller.at_once.clone());
        tokio::spawn(async move {
            let _permit = at_once.acquire().await;
            let reference = reference(&client, regarding).await;
            let Err(error) = recorder.publish(&event, &reference).await else { return };
            let reason = chain(&error);
            if refused.swap(true, Ordering::Relaxed) {
                tracing::debug!(controller = &*controller, reason, "an Event could not be written");
            } else {
                tracing::warn!(
                    controller = &*controller,
                    reason,
                    help = "let the host create and patch events of events.k8s.io in all namespaces it watches",
                    "an Event could not be written; of further ones nothing is said"
                );
            }
        });
    }
}

/// With the object's uid, by which `kubectl describe` finds its Events, if it can be had.
async fn reference(client: &kube::Client, regarding: Regarding) -> ObjectReference {
    let Regarding::Object { kind, key } = regarding else {
        let namespace = client.default_namespace().to_owned();
        return ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.clone()),
            namespace: Some(namespace),
            ..ObjectReference::default()
        };
    };
    let (namespace, name) = match key.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, &*key),
    };
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    let mut uid = None;
    if !kind.plural.is_empty() {
        let resource = ApiResource {
            group: kind.group,
            version: kind.version,
            api_version: api_version.clone(),
            kind: kind.kind.clone(),
            plural: kind.plural,
        };
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        uid = api.get_metadata_opt(name).await.ok().flatten().and_then(|object| object.metadata.uid);
    }
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind.kind),
        name: Some(name.into()),
        namespace: namespace.map(str::to_owned),
        uid,
        ..ObjectReference::default()
    }
}
