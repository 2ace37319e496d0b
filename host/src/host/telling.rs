//! Kubernetes Events about controllers that misbehave, on the object being reconciled or, without one, on the
//! namespace that the host is at home in.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use wasmop_api::event_recorder::{EventRecorder, Note};
use wasmop_core::limits::problem::{Problem, Told, how_to_raise};
use wasmop_core::registration_id::RegistrationId;
use wasmop_core::work_queue::Key;
use wasmop_package::manifest::WatchSpec;

use super::Host;

/// What has been told, and by whom.
pub(super) struct Teller {
    told: Told,
    recorder: EventRecorder,
}

impl Teller {
    pub(super) fn new(client: &kube::Client) -> Teller {
        Teller { told: Told::default(), recorder: EventRecorder::new(client.clone()) }
    }
}

/// What an Event is about.
pub(super) enum Regarding {
    Object {
        kind: Box<WatchSpec>,
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
        let remedy = problem.limit_key().and_then(|key| how_to_raise(key, slot.package.limits(), &self.limits));
        let message = &remedy.map_or_else(|| message.to_owned(), |remedy| format!("{message}; {remedy}"));
        let key = object.as_ref().map_or("", |(_, key)| &**key);
        slot.counters.problem(now, key, problem, message);
        let Some(more) = self.teller.told.happened(index, problem, now) else { return };
        let regarding = object.and_then(|(registration, key)| {
            let kind = slot.controller.registration(registration)?.spec.primary.clone().into();
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
        let text = help_first(&format!("controller {controller}: {message}"));
        let note = Note { controller, reason: problem.reason(), action: problem.action(), text };
        let client = self.client.clone();
        self.teller.recorder.publish(note, async move { reference(&client, regarding).await });
    }
}

/// A text with its remedy right after its first line: the end of a long note is cut.
fn help_first(text: &str) -> String {
    match text.split_once("\nhelp: ") {
        Some((problem, help)) => match problem.split_once('\n') {
            Some((what, detail)) => format!("{what}\nhelp: {help}\n{detail}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_comes_before_what_may_be_long() {
        for (text, expected) in [
            ("it failed", "it failed"),
            ("it failed\nhelp: do this", "it failed\nhelp: do this"),
            ("it failed\nat a\nat b\nhelp: do this", "it failed\nhelp: do this\nat a\nat b"),
            ("it failed\nat a", "it failed\nat a"),
        ] {
            assert_eq!(help_first(text), expected);
        }
    }
}
