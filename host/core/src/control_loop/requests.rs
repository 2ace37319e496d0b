//! The requests of controllers: limited, checked, sent, and their answers put into the inbox of the guest.
//!
//! ```text
//! guest's call ─► cached? ─► throttle ─► permission ─► HostEffect::Send ─► … ─► HostEvent::Replies ─► inbox
//!                   │           │            │
//!                   └── inbox   └ refused    └ denied: answered by the host itself
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::effect::{Destination, Send};
use super::parts::{InFlight, SlotId, Write};
use super::slot::Slot;
use super::{ControlLoop, Credit, Environment, HostEffect};
use crate::limits::problem::{Limit, Problem};
use crate::limits::request_rate::Next;
use crate::limits::self_trigger::version_in;
use crate::limits::write_storm::WriteVerdict;
use crate::own_writes::Settled;
use crate::permissions::external::ExternalDenied;
use crate::permissions::{Allowed, ApiRequest, Denied, is_stream};
use crate::reply::Reply;
use crate::status::counters::IgnoredChange;
use crate::step::{Call, EventKind};

/// Most bytes of a path that are logged.
const MAX_LOGGED_PATH: usize = 1024;

impl<C: Credit> Slot<C> {
    /// A request ends without a complete answer: what it wrote is unknown.
    pub fn request_failed(&mut self, call: u64) {
        if let Some(writes) = &mut self.requests.writes {
            writes.failed(call);
        }
        let settled = self.requests.own_writes.as_mut().and_then(|own| own.failed(call));
        self.settle(settled);
    }

    /// It is known now whether changes that were held back are the controller's own.
    fn settle(&mut self, settled: Option<Settled>) {
        if settled.is_some_and(|settled| self.controller.settle(&settled)) {
            self.counters.change_ignored(IgnoredChange::OwnWrite);
        }
    }

    /// A piece of the answer to a write may name the version that it has made.
    fn note_written_version(&mut self, call: u64, reply: &Reply) {
        let requests = &mut self.requests;
        let Some(write) = requests.in_flight.get_mut(&call).map(|request| &mut request.write) else { return };
        match reply {
            Reply::Head { status, .. } if !(200..300).contains(status) => *write = None,
            Reply::Body(bytes) => {
                let Some(version) = write.as_ref().and_then(|_| version_in(bytes)) else { return };
                if let (Some(write), Some(triggers)) = (write.take(), &mut requests.self_triggers) {
                    triggers.wrote(&write.object, version, &write.target);
                }
            }
            _ => {}
        }
    }
}

impl<E: Environment> ControlLoop<E> {
    /// A guest makes a call: answers it from the cache, refuses it, or queues it until its limits let it go.
    pub(super) fn on_call(&mut self, id: SlotId, mut call: Call) {
        if self.answer_from_cache(id, &mut call) {
            return;
        }
        let slot = &mut self.slots[id];
        let most = slot.limits().api_in_flight;
        let is_stream = call.target.is_empty() && is_stream(&call.method, &call.path);
        if is_stream && slot.requests.streams() as u64 >= most {
            let why =
                format!("wasmop: {most} watches or logs are open, which is as many as limits.api-in-flight allows");
            self.refuse(id, &call, why);
        } else {
            slot.requests.waiting.push(call, is_stream);
        }
    }

    fn refuse(&mut self, id: SlotId, call: &Call, why: String) {
        let slot = &mut self.slots[id];
        slot.counters.limit_hit(Limit::RequestsInFlight);
        let object = slot.controller.task_object(call.task);
        slot.controller.answer(call.id, EventKind::Failed, 0, Bytes::from(why.clone()));
        self.span_unsent(id, call, "request refused");
        self.report_problem(id, Problem::Limit(Limit::RequestsInFlight), object, &why);
    }

    /// The guest has dropped a call.
    pub(super) fn on_dropped_call(&mut self, id: SlotId, call: u64) {
        let slot = &mut self.slots[id];
        slot.requests.waiting.forget(call);
        if slot.requests.in_flight.remove(&call).is_some() {
            slot.request_failed(call);
            self.effects.push(HostEffect::Abort { slot: id, call });
        }
    }

    /// Sends as many of the waiting calls as the limits allow now, if the controller runs here.
    pub(super) fn send_waiting(&mut self, id: SlotId) {
        let now = self.now.host;
        while !self.is_shutting_down && !self.slots[id].requests.waiting.is_empty() && self.leads(id) {
            let slot = &mut self.slots[id];
            let limits = *slot.limits();
            let in_flight = slot.requests.unary_in_flight();
            let (next, over) = slot.requests.waiting.next(&limits, in_flight, now);
            if let Some((limit, time)) = over {
                slot.counters.throttled(limit, time);
            }
            match next {
                Next::Make(call) => self.send(id, call, false),
                Next::MakeHeldBack(call) => self.send(id, call, true),
                Next::Nothing => return,
                Next::Wait { limit, is_new } => {
                    if is_new {
                        slot.counters.limit_hit(limit);
                    }
                    // To have as many requests in flight as allowed is nothing unusual.
                    if is_new && limit == Limit::RequestRate {
                        let message =
                            format!("makes more than {} requests a second: they wait", limits.api_requests_per_second);
                        self.report_problem(id, Problem::Limit(limit), None, &message);
                    }
                    return;
                }
            }
        }
    }

    /// Sends a guest's request if it is permitted. `was_held_back`: it has waited as a write storm demands.
    fn send(&mut self, id: SlotId, call: Call, was_held_back: bool) {
        match call.target.is_empty() {
            true => self.send_to_api_server(id, call, was_held_back),
            false => self.send_to_external_host(id, call),
        }
    }

    fn send_to_api_server(&mut self, id: SlotId, call: Call, was_held_back: bool) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let request =
            ApiRequest { method: &call.method, path_and_query: &call.path, headers: &call.headers, body: &call.body };
        let as_account = slot.authority.service_account.is_some();
        let permissions = &slot.authority.permissions;
        let checked = match &self.learning {
            None => permissions.check_request(&request, as_account).map(Some),
            Some(learning) => {
                let object = slot.controller.object_of(call.task);
                let object = (call.task != 0).then_some(&*object);
                learning.check(&slot.name, permissions, (&request, as_account), object).map(|()| None)
            }
        };
        let allowed = match checked {
            Ok(allowed) => allowed,
            Err(denied) => return self.deny(id, &call, &denied),
        };
        // The answer to a dry run was not written.
        let is_dry_run = call.path.contains("dryRun");
        if let Some(allowed) = allowed.as_ref().filter(|_| !is_dry_run && !was_held_back)
            && let Some(until) = self.held_by_storm(id, allowed)
        {
            self.slots[id].requests.waiting.hold_back(call, until);
            return;
        }
        let slot = &mut self.slots[id];
        let object = slot.controller.task_object(call.task);
        let requests = &mut slot.requests;
        let mut write = None;
        if let Some(allowed) = &allowed {
            if let Some(writes) = &mut requests.writes {
                writes.sent(call.id, allowed, &call.path);
            }
            if let Some(own) = requests.own_writes.as_mut().filter(|_| !is_dry_run) {
                own.sent(call.id, allowed, object.clone(), &call.body);
            }
            write = Write::of(allowed, object).filter(|_| !is_dry_run);
        }
        if let Some(write) = &write {
            requests.self_triggers.get_or_insert_default().writes(&write.object, now);
        }
        // A stream lasts, and must not keep others waiting for a connection.
        let is_stream = is_stream(&call.method, &call.path);
        self.launch(id, call, Destination::ApiServer, is_stream, write);
    }

    /// Until when a write waits because controllers overwrite each other's changes.
    fn held_by_storm(&mut self, id: SlotId, allowed: &Allowed) -> Option<Duration> {
        let name = allowed.name.as_ref().filter(|_| matches!(allowed.verb, "create" | "update" | "patch"))?;
        let Allowed { group, resource, namespace, .. } = allowed;
        let namespace = namespace.as_deref().unwrap_or_default();
        let object = format!("{resource}.{group} {namespace}/{name}");
        let WriteVerdict::Hold { until, other } = self.write_storms.write(&object, id.0, self.now.host) else {
            return None;
        };
        let names = [&self.slots[id].name, &self.slots[SlotId(other)].name].map(Arc::clone);
        let target = format!("{resource} {namespace}/{name}");
        for (id, other) in [(id, &names[1]), (SlotId(other), &names[0])] {
            let message = format!(
                "it and the controller {other} overwrite each other's changes of {target} again and again: their writes \
                 wait; have only one of them write each field"
            );
            self.report_problem(id, Problem::WriteStorm, None, &message);
        }
        Some(until)
    }

    fn send_to_external_host(&mut self, id: SlotId, call: Call) {
        let slot = &mut self.slots[id];
        let permissions = &slot.authority.permissions;
        let checked = match &self.learning {
            None => permissions.check_external(&call.target),
            Some(learning) => learning.check_external(&slot.name, permissions, &call.target),
        };
        match checked {
            Ok(contact) => self.launch(id, call, Destination::External(contact), false, None),
            Err(denied) => self.deny_external(id, &call, &denied),
        }
    }

    fn launch(&mut self, id: SlotId, call: Call, destination: Destination, is_stream: bool, write: Option<Box<Write>>) {
        let token = self.next_token;
        self.next_token += 1;
        let slot = &mut self.slots[id];
        let environment = &mut self.environment;
        slot.requests.credit_or_insert(token, || environment.new_credit(super::RESPONSE_CREDIT_BYTES));
        slot.requests.in_flight.insert(call.id, InFlight { is_stream, token, write });
        let Call { id: number, task, method, path, headers, body, .. } = call;
        self.effects.push(HostEffect::Send(Box::new(Send {
            slot: id,
            call: number,
            task,
            token,
            is_stream,
            keeps_up: is_stream && slot.package.has_kept_up_watches,
            fence: slot.leadership.fence(),
            service_account: slot.authority.service_account.clone(),
            destination,
            method,
            path,
            headers,
            body,
            max_bytes: slot.limits().response_bytes,
        })));
    }

    /// Answers a forbidden request to an external host. Nobody but the host has said anything, so there is no response.
    fn deny_external(&mut self, id: SlotId, call: &Call, denied: &ExternalDenied) {
        self.span_unsent(id, call, "request denied");
        let slot = &mut self.slots[id];
        let (name, reason) = (slot.name.clone(), denied.problem());
        let request = shorten(&format!("{} {}{}", call.method, call.target, shorten(&call.path)));
        let object = slot.controller.object_of(call.task);
        let help = denied.help(&name);
        if self.may_log(id, request.len() + object.len() + reason.len() + help.len()) {
            tracing::warn!(controller = &*name, request, object = &*object, reason, help, "permission denied");
        }
        let slot = &mut self.slots[id];
        slot.controller.answer(call.id, EventKind::Failed, 0, format!("wasmop: {reason}").into());
    }

    /// Answers a forbidden request to the API server as the API server would.
    fn deny(&mut self, id: SlotId, call: &Call, denied: &Denied) {
        self.span_unsent(id, call, "request denied");
        let slot = &mut self.slots[id];
        let name = slot.name.clone();
        let request = shorten(&format!("{} {}", call.method, shorten(&call.path)));
        let object = slot.controller.object_of(call.task);
        let (reason, help) = (shorten(&denied.to_string()), denied.help(&name));
        if self.may_log(id, request.len() + object.len() + reason.len() + help.len()) {
            tracing::warn!(controller = &*name, request, object = &*object, reason, help, "permission denied");
        }
        let slot = &mut self.slots[id];
        let headers = Bytes::from_static(b"content-type: application/json\n");
        slot.controller.answer_itself(call.id, EventKind::Head, 403, headers);
        slot.controller.answer_itself(call.id, EventKind::Body, 0, denied.status_json().into());
        slot.controller.answer_itself(call.id, EventKind::End, 0, Bytes::new());
    }

    pub(super) fn on_replies(&mut self, id: SlotId, call: u64, token: u64, replies: Vec<Reply>) {
        let slot = &mut self.slots[id];
        if slot.requests.in_flight.get(&call).is_none_or(|request| request.token != token) {
            // The guest dropped the call while this was on its way.
            slot.requests.drop_replies(token, &replies);
            return;
        }
        let mut too_large = None;
        for reply in replies {
            if let Some(writes) = &mut slot.requests.writes {
                writes.on_reply(call, &reply);
            }
            slot.note_written_version(call, &reply);
            let settled = slot.requests.own_writes.as_mut().and_then(|own| own.on_reply(call, &reply));
            slot.settle(settled);
            let controller = &mut slot.controller;
            match reply {
                Reply::Head { status, headers } => {
                    controller.answer(call, EventKind::Head, u32::from(status), headers.into());
                }
                Reply::Body(bytes) => {
                    controller.answer(call, EventKind::Body, 0, bytes);
                }
                Reply::End => {
                    controller.answer(call, EventKind::End, 0, Bytes::new());
                    slot.requests.in_flight.remove(&call);
                }
                Reply::Failed(why) => {
                    controller.answer(call, EventKind::Failed, 0, why.into());
                    slot.requests.in_flight.remove(&call);
                }
                Reply::TooLarge => {
                    let object = controller.call_object(call);
                    let most = slot.package.limits.response_bytes;
                    let why = format!("wasmop: the response has more than {most} bytes (limits.response)");
                    slot.controller.answer(call, EventKind::Failed, 0, why.clone().into());
                    slot.requests.in_flight.remove(&call);
                    slot.counters.limit_hit(Limit::ResponseSize);
                    too_large = Some((object, why));
                }
            }
        }
        slot.return_credit();
        if let Some((object, why)) = too_large {
            self.report_problem(id, Problem::Limit(Limit::ResponseSize), object, &why);
        }
    }

    /// Cancels all requests under way; nobody gets their answers.
    pub(super) fn abort_requests(&mut self, id: SlotId) {
        let slot = &mut self.slots[id];
        for call in std::mem::take(&mut slot.requests.in_flight).into_keys() {
            slot.request_failed(call);
            self.effects.push(HostEffect::Abort { slot: id, call });
        }
    }

    /// Ends all open streams, so that the guest asks for them again.
    pub(super) fn fail_streams(&mut self, id: SlotId, why: &'static str) {
        let slot = &mut self.slots[id];
        let ended = slot.requests.in_flight.extract_if(.., |_, request| request.is_stream);
        for call in ended.map(|(call, _)| call).collect::<Vec<_>>() {
            slot.controller.answer(call, EventKind::Failed, 0, Bytes::from_static(why.as_bytes()));
            self.effects.push(HostEffect::Abort { slot: id, call });
        }
    }
}

/// A text at a length that can be logged.
fn shorten(text: &str) -> String {
    match text.len() > MAX_LOGGED_PATH {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_LOGGED_PATH)]),
        false => text.into(),
    }
}
