//! A controller that uses only the WIT world of wasmop. It is built with the stock `wasm32-wasip2` target and
//! `wit-bindgen`, without SDK, executor or async.
//!
//! It counts the reconciles of each Probe in memory and writes the counts to its status.

mod actions;

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::{Value, json};

wit_bindgen::generate!({ path: "../../../wit", world: "controller" });

use wasmop::controller::runtime::{self, Event, EventKind, Request};

struct Component;
export!(Component);

thread_local! {
    static CONTROLLER: RefCell<Controller> = RefCell::default();
}

impl exports::wasmop::controller::guest::Guest for Component {
    fn step() {
        CONTROLLER.with_borrow_mut(|controller| {
            loop {
                let event = runtime::next();
                if event.kind == EventKind::Nothing {
                    return;
                }
                let payload = if event.len > 0 { runtime::read() } else { Vec::new() };
                controller.on(event, payload);
            }
        });
    }
}

#[derive(Default)]
struct Controller {
    /// Reconciles so far.
    total: u64,
    /// Reconciles by object.
    seen: HashMap<String, u64>,
    /// Requests in flight by call id.
    calls: HashMap<u64, Call>,
    next_call: u64,
}

struct Call {
    task: u64,
    /// The path of the Probe.
    path: String,
    /// Whether this is the second request, which writes the status.
    writes: bool,
    status: u32,
    body: Vec<u8>,
}

impl Controller {
    fn on(&mut self, event: Event, payload: Vec<u8>) {
        match event.kind {
            EventKind::Start => register(&payload),
            EventKind::Reconcile => {
                let key = String::from_utf8_lossy(&payload).into_owned();
                let Some((namespace, name)) = key.split_once('/') else {
                    return runtime::done(event.id, None, Some("Probes are namespaced"));
                };
                let path = format!("/apis/e2e.wasmop.dev/v1/namespaces/{namespace}/probes/{name}");
                self.call(event.id, path, None);
            }
            EventKind::Head => {
                if let Some(call) = self.calls.get_mut(&event.id) {
                    call.status = event.aux;
                }
            }
            EventKind::Body => {
                if let Some(call) = self.calls.get_mut(&event.id) {
                    call.body.extend(payload);
                }
            }
            EventKind::End => {
                if let Some(call) = self.calls.remove(&event.id) {
                    self.answered(call);
                }
            }
            EventKind::Failed => {
                if let Some(call) = self.calls.remove(&event.id) {
                    runtime::done(call.task, None, Some(&String::from_utf8_lossy(&payload)));
                }
            }
            EventKind::Cancel => self.calls.retain(|_, call| call.task != event.id),
            EventKind::Map | EventKind::Nothing => {}
        }
    }

    /// Reads the Probe, or patches its status.
    fn call(&mut self, task: u64, path: String, patch: Option<Value>) {
        self.next_call += 1;
        let (method, suffix, headers) = match patch {
            None => ("GET", "", "accept: application/json\n"),
            Some(_) => ("PATCH", "/status", "content-type: application/merge-patch+json\naccept: application/json\n"),
        };
        let request = Request {
            target: String::new(),
            method: method.into(),
            path: format!("{path}{suffix}"),
            headers: headers.into(),
            body: patch.as_ref().map(|patch| patch.to_string().into_bytes()).unwrap_or_default(),
        };
        runtime::call(self.next_call, task, &request);
        let call = Call { task, path, writes: patch.is_some(), status: 0, body: Vec::new() };
        self.calls.insert(self.next_call, call);
    }

    fn answered(&mut self, call: Call) {
        match (call.status, call.writes) {
            // 404: the Probe was deleted.
            (404, _) | (200..300, true) => runtime::done(call.task, None, None),
            (200..300, false) => match serde_json::from_slice(&call.body) {
                Ok(probe) => {
                    runtime::enter(call.task);
                    let status = self.reconcile(&probe);
                    self.call(call.task, call.path, Some(json!({ "status": status })));
                }
                Err(error) => runtime::done(call.task, None, Some(&error.to_string())),
            },
            (status, _) => {
                let error = format!("{status}: {}", String::from_utf8_lossy(&call.body));
                runtime::done(call.task, None, Some(&error));
            }
        }
    }

    fn reconcile(&mut self, probe: &Value) -> Value {
        self.total += 1;
        let seen = self.seen.entry(probe["metadata"]["uid"].to_string()).or_default();
        *seen += 1;
        json!({
            "observedGeneration": probe["metadata"]["generation"],
            "total": self.total,
            "seen": *seen,
            "value": probe["spec"]["value"],
            "echo": actions::act(&probe["spec"]),
        })
    }
}

fn register(start: &[u8]) {
    let start: Value = serde_json::from_slice(start).unwrap_or_default();
    let name = start["name"].as_str().unwrap_or_default();
    println!("started as {name}");
    let spec = json!({
        "name": "probe",
        "primary": {
            "group": "e2e.wasmop.dev", "version": "v1", "kind": "Probe", "plural": "probes",
            // Several guests share a cluster. Each reconciles the Probes with its label.
            "labelSelector": format!("guest={name}"), "generationChanged": true,
        },
    });
    runtime::register(&spec.to_string());
}
