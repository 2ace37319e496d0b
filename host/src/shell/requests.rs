//! Requests of guests as tasks beside the loop.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wasmop_api::api_requests::{self, Allowance, ApiCall};
use wasmop_api::caller::Caller;
use wasmop_api::connections::{Connections, Share};
use wasmop_api::external_hosts::External;
use wasmop_core::control_loop::{Destination, Send, SlotId};
use wasmop_core::reply::Reply;

use super::{Message, Shell};
use crate::traces::{Peer, RequestSpan};

/// The requests under way of all controllers.
pub(crate) struct RunningRequests {
    /// To the API server, for requests that end.
    api_server: Connections,
    /// To external hosts.
    external: Connections,
    external_client: Arc<External>,
    /// Only of controllers that have made requests since they were last suspended.
    by_slot: HashMap<SlotId, SlotRequests>,
}

#[derive(Default)]
struct SlotRequests {
    /// Of the host's connections.
    share: Share,
    /// By the guest's call id.
    running: BTreeMap<u64, Running>,
}

struct Running {
    token: u64,
    task: AbortHandle,
    span: Option<Box<RequestSpan>>,
}

/// Where the answers to one request go.
struct Answers {
    tx: mpsc::UnboundedSender<Message>,
    slot: SlotId,
    call: u64,
    token: u64,
}

impl Answers {
    fn send(&self, replies: Vec<Reply>) {
        // Without a receiver the host has ended.
        let _ = self.tx.send(Message::Replies { slot: self.slot, call: self.call, token: self.token, replies });
    }
}

impl RunningRequests {
    pub fn new(api_server: Connections, external: Connections, external_client: Arc<External>) -> RunningRequests {
        RunningRequests { api_server, external, external_client, by_slot: HashMap::new() }
    }

    /// Cancels a request, if it is under way.
    pub fn abort(&mut self, slot: SlotId, call: u64) {
        let running = self.by_slot.get_mut(&slot).and_then(|requests| requests.running.remove(&call));
        if let Some(running) = running {
            running.task.abort();
        }
    }

    /// Pieces of an answer have come.
    pub fn on_replies(&mut self, slot: SlotId, call: u64, token: u64, replies: &[Reply]) {
        let Some(requests) = self.by_slot.get_mut(&slot) else { return };
        let Some(running) = requests.running.get_mut(&call).filter(|running| running.token == token) else { return };
        if let Some(span) = &mut running.span {
            replies.iter().for_each(|reply| span.on_reply(reply));
        }
        if replies.iter().any(|reply| matches!(reply, Reply::End | Reply::Failed(_) | Reply::TooLarge)) {
            requests.running.remove(&call);
        }
    }

    /// A controller is suspended: without requests under way it needs nothing here.
    pub fn shrink(&mut self, slot: SlotId) {
        if self.by_slot.get(&slot).is_some_and(|requests| requests.running.is_empty()) {
            self.by_slot.remove(&slot);
        }
    }
}

impl Shell {
    /// Makes a request, for as long as its fence holds: when there is room among the connections, or at once if it is
    /// a stream.
    pub(super) fn send(&mut self, send: Send) {
        let Send { slot, call, task, token, is_stream, fence, service_account, destination, .. } = send;
        let Some(credit) = self.control.credit(slot).cloned() else { return };
        let name = self.control.name(slot);
        let peer = match &destination {
            Destination::ApiServer => Peer::ApiServer { path: &send.path },
            Destination::External(contact) => Peer::External(&contact.target),
        };
        let span = self.telemetry.request(slot, task, &send.method, &peer);
        let mut api_call = ApiCall {
            method: send.method,
            path: send.path,
            headers: send.headers,
            body: send.body,
            traceparent: span.as_ref().and_then(|span| span.traceparent()),
        };
        let answers = Answers { tx: self.tx.clone(), slot, call, token };
        let requests = self.requests.by_slot.entry(slot).or_default();
        let share = requests.share.clone();
        let connections = match destination {
            Destination::ApiServer if is_stream => None,
            Destination::ApiServer => Some(self.requests.api_server.clone()),
            Destination::External(_) => Some(self.requests.external.clone()),
        };
        let max_bytes = send.max_bytes;
        let allowance = async move {
            let connection = match connections {
                None => None,
                Some(connections) => Some(connections.enter(&share).await?),
            };
            Some(Allowance { credit: credit.semaphore(), connection, max_bytes })
        };
        let running = match destination {
            Destination::ApiServer => {
                let client = self.client.clone();
                let identity = self.peers.as_ref().map(|peers| &**peers.identity());
                let caller = Caller::controller(name, identity, service_account);
                tokio::spawn(api_requests::fenced(fence, async move {
                    let Some(allowance) = allowance.await else { return };
                    let send = |replies| answers.send(replies);
                    api_requests::execute(&client, caller, api_call, allowance, send).await;
                }))
            }
            Destination::External(contact) => {
                // Neither the host's name among its peers nor its traces concern anybody outside of the cluster.
                let user_agent = Caller::controller(name, None, None).user_agent;
                api_call.traceparent = None;
                let external = self.requests.external_client.clone();
                tokio::spawn(api_requests::fenced(fence, async move {
                    let Some(allowance) = allowance.await else { return };
                    let send = |replies| answers.send(replies);
                    external.execute(contact, user_agent, api_call, allowance, send).await;
                }))
            }
        };
        requests.running.insert(call, Running { token, task: running.abort_handle(), span });
    }
}
