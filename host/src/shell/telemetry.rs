//! The host's OpenTelemetry spans, Kubernetes Events and activity trace.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use wasmop_api::environment::HubEnvironment;
use wasmop_api::event_recorder::{EventRecorder, Note};
use wasmop_core::control_loop::{ControlLoop, Notice, SaveReason, SlotId, SpanEvent, Written};
use wasmop_core::step::StepReport;
use wasmop_core::work_queue::Key;
use wasmop_package::manifest::WatchSpec;
use wasmop_policy::Trigger;

use super::message::WrittenAt;
use super::workers::Tenant;
use crate::activity_recorder::ActivityRecorder;
use crate::traces::{Begin, Peer, RequestSpan, Stepped, Suspended, SuspendedBytes, Traces};

/// The outputs of a host's telemetry.
pub(crate) struct TelemetryOptions {
    pub traces: Option<Traces>,
    pub activity: Option<ActivityRecorder>,
}

/// The recorders of a host, each of which is optional.
pub(crate) struct Telemetry {
    traces: Option<Traces>,
    activity: Option<ActivityRecorder>,
    events: EventRecorder,
}

impl Telemetry {
    pub fn new(client: &kube::Client, options: TelemetryOptions) -> Telemetry {
        let TelemetryOptions { traces, activity } = options;
        Telemetry { traces, activity, events: EventRecorder::new(client.clone()) }
    }

    /// Writes a Kubernetes Event about a controller, in the background.
    pub fn publish(&self, client: &kube::Client, notice: Notice) {
        let Notice { controller, problem, object, message } = notice;
        let text = help_first(&format!("controller {controller}: {message}"));
        let note = Note { controller, reason: problem.reason(), action: problem.action(), text };
        let client = client.clone();
        self.events.publish(note, async move { reference(&client, object).await });
    }

    pub fn record_activity(&mut self, at: Duration, controller: &str, trigger: Trigger) {
        if let Some(activity) = &mut self.activity {
            activity.record(at, controller, trigger);
        }
    }

    /// Records progress of a reconcile. `started`: zero of the host's clock.
    pub fn span(
        &mut self,
        event: SpanEvent,
        control: &ControlLoop<HubEnvironment>,
        tenants: &[Tenant],
        started: Instant,
    ) {
        let Some(traces) = &mut self.traces else { return };
        match event {
            SpanEvent::Begin(begun) => {
                let package = &tenants[begun.slot.index()].package;
                let manifest = &package.manifest;
                let begin = Begin {
                    controller: control.name(begun.slot),
                    package: (&manifest.name, &manifest.version),
                    tier: package.tier(),
                    registration: &begun.registration,
                    object: &begun.object,
                    at: started + begun.at,
                    attempt: begun.attempt,
                    waited: begun.waited,
                };
                traces.begin(begun.slot.0, begun.task, &begin);
            }
            SpanEvent::Event { slot, task, name, method, path } => {
                traces.event(slot.0, task, name, &method, path.as_deref());
            }
            SpanEvent::Blame { slot, task, cause, message } => traces.blame(slot.0, task, cause, &message),
            SpanEvent::End { slot, task, outcome } => traces.end(slot.0, task, &outcome),
            SpanEvent::Lost { slot, reason } => traces.lost(slot.0, &reason),
            SpanEvent::Stopped { slot } => traces.stopped(slot.0),
        }
    }

    /// A worker gets events of these tasks. `snapshot_bytes`: size of the snapshot to resume from.
    pub fn stepping(&mut self, slot: SlotId, tasks: impl Iterator<Item = u64>, snapshot_bytes: Option<u64>) {
        if let Some(traces) = &mut self.traces {
            traces.stepping(slot.0, tasks, snapshot_bytes);
        }
    }

    /// The worker has finished.
    pub fn stepped(&mut self, slot: SlotId, begun: Instant, report: &StepReport, was_suspended: bool, events: usize) {
        let Some(traces) = &mut self.traces else { return };
        traces.stepped(
            slot.0,
            &Stepped {
                begun,
                resume: report.resume.filter(|_| was_suspended),
                step: report.step,
                cpu: report.cpu,
                events,
                rolled_back: report.failures.len(),
                cause: report.failures.last().map(|failure| failure.cause.as_str()),
            },
        );
    }

    /// An instance was written to disk, or could not be.
    pub fn saved(&mut self, slot: SlotId, name: &Arc<str>, written: WrittenAt, result: Result<&Written, &io::Error>) {
        let Some(traces) = &mut self.traces else { return };
        let WrittenAt { reason, begun, took } = written;
        let suspended = Suspended {
            controller: name,
            checkpoint: reason == SaveReason::LogFull,
            reason: reason.as_str(),
            begun,
            took,
            result: result.map_err(ToString::to_string).map(|written| SuspendedBytes {
                dirty: written.dirty_bytes,
                written: written.written_bytes,
                on_disk: written.disk_bytes,
            }),
        };
        traces.suspended(slot.0, &suspended);
    }

    /// A request of a reconcile starts; `None` if it is not traced.
    pub fn request(&self, slot: SlotId, task: u64, method: &str, peer: &Peer<'_>) -> Option<Box<RequestSpan>> {
        self.traces.as_ref()?.request(slot.0, task, method, peer)
    }

    /// The host ends; the next one continues the reconciles in flight.
    pub fn interrupt(&mut self) {
        if let Some(traces) = &mut self.traces {
            traces.interrupt();
        }
    }
}

/// Moves the remedy after the first line, since the end of a long note is cut.
fn help_first(text: &str) -> String {
    match text.split_once("\nhelp: ") {
        Some((problem, help)) => match problem.split_once('\n') {
            Some((what, detail)) => format!("{what}\nhelp: {help}\n{detail}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// The object of an Event, or the host's own namespace. `kubectl describe` finds Events by the object's uid, so the
/// host looks it up.
async fn reference(client: &kube::Client, object: Option<(Box<WatchSpec>, Key)>) -> ObjectReference {
    let Some((kind, key)) = object else {
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
