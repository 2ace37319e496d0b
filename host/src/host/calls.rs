//! A guest's requests to the API server and to external hosts, if it may make them, and the answers into its inbox.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use wasmop_api::api_requests::{self, Allowance, ApiCall};
use wasmop_api::caller::Caller;
use wasmop_api::connections::Connections;
use wasmop_core::limits::problem::{Limit, Problem};
use wasmop_core::permissions::external::ExternalDenied;
use wasmop_core::permissions::{ApiRequest, Denied, is_stream};
use wasmop_core::reply::Reply;
use wasmop_core::step::{Call, EventKind};

use super::slot::Write;
use super::{Host, Message, RESPONSE_CREDIT, Request};
use crate::traces::{Peer, RequestSpan};

/// Most bytes of a path that are logged.
const MAX_SHOWN: usize = 1024;

/// As much of it as is logged.
fn short(text: &str) -> String {
    match text.len() > MAX_SHOWN {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_SHOWN)]),
        false => text.into(),
    }
}

/// Where the answers to one request go.
struct Answers {
    tx: mpsc::UnboundedSender<Message>,
    slot: u32,
    call: u64,
    token: u64,
}

impl Answers {
    fn send(&self, replies: Vec<Reply>) {
        // Without a receiver the host has ended.
        let _ = self.tx.send(Message::Replies { slot: self.slot, call: self.call, token: self.token, replies });
    }
}

impl Host {
    /// Sends a guest's request, if it has the permission.
    pub(super) fn request(&mut self, index: u32, call: Call) {
        let now = self.now();
        if !call.target.is_empty() {
            return self.contact(index, call);
        }
        let slot = &mut self.slots[index as usize];
        let request =
            ApiRequest { method: &call.method, path_and_query: &call.path, headers: &call.headers, body: &call.body };
        let as_account = slot.service_account.is_some();
        let checked = match &self.learning {
            None => slot.permissions.check_request(&request, as_account).map(Some),
            Some(learning) => {
                let object = slot.controller.object_of(call.task);
                let object = (call.task != 0).then_some(&*object);
                learning.check(&slot.name, &slot.permissions, (&request, as_account), object).map(|()| None)
            }
        };
        let allowed = match checked {
            Ok(allowed) => allowed,
            Err(denied) => return self.deny(index, &call, &denied),
        };
        if let (Some(writes), Some(allowed)) = (&mut slot.writes, &allowed) {
            writes.sent(call.id, allowed, &call.path);
        }
        if let (Some(own), Some(allowed)) = (&mut slot.own_writes, &allowed)
            // What such a request answers was not written.
            && !call.path.contains("dryRun")
        {
            own.sent(call.id, allowed, slot.controller.task_object(call.task), &call.body);
        }
        let write = match &allowed {
            Some(allowed) if !call.path.contains("dryRun") => {
                Write::of(allowed, slot.controller.task_object(call.task))
            }
            _ => None,
        };
        if let Some(write) = &write {
            slot.self_triggers.get_or_insert_default().writes(&write.object, now);
        }
        let (client, id) = (self.client.clone(), call.id);
        // A stream lasts, and must not keep others waiting.
        let stream = is_stream(&call.method, &call.path);
        let connections = (!stream).then(|| self.connections.clone());
        let identity = self.others.as_ref().map(|others| &**others.identity());
        let caller = Caller::controller(&slot.name, identity, slot.service_account.clone());
        let span = self.trace_request(index, call.task, &call.method, &Peer::ApiServer { path: &call.path });
        let traceparent = span.as_ref().and_then(|span| span.traceparent());
        let api_call =
            ApiCall { method: call.method, path: call.path, headers: call.headers, body: call.body, traceparent };
        self.launch(index, id, connections, span, |allowance, answers| async move {
            api_requests::execute(&client, caller, api_call, allowance, |replies| answers.send(replies)).await;
        });
        if let Some(request) = self.slots[index as usize].requests.get_mut(&id) {
            request.write = write;
        }
    }

    /// Sends a guest's request to an external host, if it has the permission.
    fn contact(&mut self, index: u32, call: Call) {
        let slot = &mut self.slots[index as usize];
        let checked = match &self.learning {
            None => slot.permissions.check_external(&call.target),
            Some(learning) => learning.check_external(&slot.name, &slot.permissions, &call.target),
        };
        let contact = match checked {
            Ok(contact) => contact,
            Err(denied) => return self.deny_contact(index, &call, &denied),
        };
        // Which of several hosts it is concerns nobody outside of the cluster.
        let user_agent = Caller::controller(&slot.name, None, None).user_agent;
        let (external, id) = (self.external.clone(), call.id);
        let span = self.trace_request(index, call.task, &call.method, &Peer::External(&contact.target));
        // The host's traces concern nobody outside of the cluster either.
        let traceparent = None;
        let call =
            ApiCall { method: call.method, path: call.path, headers: call.headers, body: call.body, traceparent };
        let connections = Some(self.external_connections.clone());
        self.launch(index, id, connections, span, |allowance, answers| async move {
            external.execute(contact, user_agent, call, allowance, |replies| answers.send(replies)).await;
        });
    }

    /// Runs a request beside the loop, for as long as the controller is this host's: when there is room among these
    /// connections, or at once if it is a stream and they are `None`.
    fn launch<F>(
        &mut self,
        index: u32,
        call: u64,
        connections: Option<Connections>,
        span: Option<Box<RequestSpan>>,
        run: impl FnOnce(Allowance, Answers) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = &mut self.slots[index as usize];
        let token = self.next_token;
        self.next_token += 1;
        let credit = slot.credit.get_or_insert_with(|| Arc::new(Semaphore::new(RESPONSE_CREDIT))).clone();
        let answers = Answers { tx: self.tx.clone(), slot: index, call, token };
        let share = slot.share.get_or_insert_default().clone();
        let max_bytes = slot.package.limits().response_bytes;
        let stream = connections.is_none();
        let task = async move {
            let connection = match connections {
                None => None,
                Some(connections) => match connections.enter(&share).await {
                    None => return,
                    entered => entered,
                },
            };
            run(Allowance { credit, connection, max_bytes }, answers).await;
        };
        let task = tokio::spawn(api_requests::fenced(slot.lead.fence(), task));
        slot.requests.insert(call, Request { stream, token, task: task.abort_handle(), span, write: None });
    }

    /// Answers a request to an external host that is not allowed; nobody but the host has said anything, so there is
    /// no response.
    fn deny_contact(&mut self, index: u32, call: &Call, denied: &ExternalDenied) {
        self.trace_unsent(index, call, "request denied");
        let slot = &mut self.slots[index as usize];
        let (name, reason) = (slot.name.clone(), denied.problem());
        let request = short(&format!("{} {}{}", call.method, call.target, short(&call.path)));
        let object = slot.controller.object_of(call.task);
        let help = denied.help(&name);
        if self.may_log(index, request.len() + object.len() + reason.len() + help.len()) {
            tracing::warn!(controller = &*name, request, object = &*object, reason, help, "permission denied");
        }
        let slot = &mut self.slots[index as usize];
        slot.controller.answer(call.id, EventKind::Failed, 0, format!("wasmop: {reason}").into());
    }

    /// Answers a request that is not allowed.
    fn deny(&mut self, index: u32, call: &Call, denied: &Denied) {
        self.trace_unsent(index, call, "request denied");
        let slot = &mut self.slots[index as usize];
        let name = slot.name.clone();
        let request = short(&format!("{} {}", call.method, short(&call.path)));
        let object = slot.controller.object_of(call.task);
        let (reason, help) = (short(&denied.to_string()), denied.help(&name));
        if self.may_log(index, request.len() + object.len() + reason.len() + help.len()) {
            tracing::warn!(controller = &*name, request, object = &*object, reason, help, "permission denied");
        }
        let slot = &mut self.slots[index as usize];
        let headers = Bytes::from_static(b"content-type: application/json\n");
        slot.controller.answer_itself(call.id, EventKind::Head, 403, headers);
        slot.controller.answer_itself(call.id, EventKind::Body, 0, denied.status_json().into());
        slot.controller.answer_itself(call.id, EventKind::End, 0, Bytes::new());
    }

    pub(super) fn on_replies(&mut self, index: u32, call: u64, token: u64, replies: Vec<Reply>) {
        let slot = &mut self.slots[index as usize];
        if slot.requests.get(&call).is_none_or(|r| r.token != token) {
            // The guest dropped the call while this was on its way.
            if let Some(credit) = &slot.credit {
                credit.add_permits(replies.iter().map(Reply::credited_bytes).sum());
            }
            return;
        }
        let mut too_large = None;
        for reply in replies {
            if let Some(span) = slot.requests.get_mut(&call).and_then(|request| request.span.as_mut()) {
                span.on_reply(&reply);
            }
            if let Some(writes) = &mut slot.writes {
                writes.on_reply(call, &reply);
            }
            slot.follow_write(call, &reply);
            let settled = slot.own_writes.as_mut().and_then(|own| own.on_reply(call, &reply));
            slot.settle(settled);
            match reply {
                Reply::Head { status, headers } => {
                    slot.controller.answer(call, EventKind::Head, u32::from(status), headers.into());
                }
                Reply::Body(bytes) => {
                    slot.controller.answer(call, EventKind::Body, 0, bytes);
                }
                Reply::End => {
                    slot.controller.answer(call, EventKind::End, 0, Bytes::new());
                    slot.requests.remove(&call);
                }
                Reply::Failed(why) => {
                    slot.controller.answer(call, EventKind::Failed, 0, why.into());
                    slot.requests.remove(&call);
                }
                Reply::TooLarge => {
                    let object = slot.controller.call_object(call);
                    let most = slot.package.limits().response_bytes;
                    let why = format!("wasmop: the response has more than {most} bytes (limits.response)");
                    slot.controller.answer(call, EventKind::Failed, 0, why.clone().into());
                    slot.requests.remove(&call);
                    slot.counters.limit_hit(Limit::ResponseSize);
                    too_large = Some((object, why));
                }
            }
        }
        if slot.requests.is_empty() && slot.controller.is_idle() {
            slot.credit = None;
        }
        if let Some((object, why)) = too_large {
            self.tell(index, Problem::Limit(Limit::ResponseSize), object, &why);
        }
    }
}
