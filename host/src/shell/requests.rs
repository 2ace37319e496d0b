//! Runs the requests of guests as tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wasmop_api::api_requests::{self, Allowance, ApiCall};
use wasmop_api::caller::Caller;
use wasmop_api::connections::{Connections, Share};
use wasmop_api::external_hosts::External;
use wasmop_api::guest_watches::{GuestWatches, OpenWatch};
use wasmop_core::control_loop::{Destination, Send, SlotId};
use wasmop_core::guest_watch::{GuestWatch, GuestWatchCounts};
use wasmop_core::reply::Reply;
use wasmop_core::service_account::ServiceAccount;

use super::{Message, Shell};
use crate::traces::{Peer, RequestSpan};

/// The requests in flight of all controllers.
pub(crate) struct RunningRequests {
    /// Limit for requests to the API server, except for streams.
    api_server: Connections,
    /// Limit for requests to external hosts.
    external: Connections,
    external_client: Arc<External>,
    /// Watches of guest-driven packages.
    watches: GuestWatches,
    /// Controllers that have made requests since their last suspend.
    by_slot: HashMap<SlotId, SlotRequests>,
}

#[derive(Default)]
struct SlotRequests {
    /// The controller's share of the connections.
    share: Share,
    /// Tasks by the guest's call id.
    running: BTreeMap<u64, Running>,
}

struct Running {
    token: u64,
    handle: Handle,
    span: Option<Box<RequestSpan>>,
}

/// By what a request is cancelled.
enum Handle {
    Task(AbortHandle),
    Watch(OpenWatch),
}

impl Handle {
    fn abort(&self) {
        match self {
            Handle::Task(task) => task.abort(),
            Handle::Watch(watch) => watch.abort(),
        }
    }
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
        // The receiver is gone once the host has ended.
        let _ = self.tx.send(Message::Replies { slot: self.slot, call: self.call, token: self.token, replies });
    }
}

impl RunningRequests {
    pub fn new(
        api_server: Connections,
        external: Connections,
        external_client: Arc<External>,
        watches: GuestWatches,
    ) -> RunningRequests {
        RunningRequests { api_server, external, external_client, watches, by_slot: HashMap::new() }
    }

    /// How many watches guest-driven packages have.
    pub fn guest_watches(&self) -> GuestWatchCounts {
        self.watches.counts()
    }

    /// Cancels a request, if it is in flight.
    pub fn abort(&mut self, slot: SlotId, call: u64) {
        let running = self.by_slot.get_mut(&slot).and_then(|requests| requests.running.remove(&call));
        if let Some(running) = running {
            running.handle.abort();
        }
    }

    /// Handles pieces of a response.
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

    /// Drops the entry of a suspended controller without requests in flight.
    pub fn shrink(&mut self, slot: SlotId) {
        if self.by_slot.get(&slot).is_some_and(|requests| requests.running.is_empty()) {
            self.by_slot.remove(&slot);
        }
    }
}

impl Shell {
    /// Makes a request while its fence holds. A request waits for a free connection, except for a stream.
    pub(super) fn send(&mut self, send: Send) {
        let Send { slot, call, task, token, is_stream, fence, service_account, destination, .. } = send;
        let Some(credit) = self.control.credit(slot).cloned() else { return };
        let peer = match &destination {
            Destination::ApiServer => Peer::ApiServer { path: &send.path },
            Destination::External(contact) => Peer::External(&contact.target),
        };
        let span = self.telemetry.request(slot, task, &send.method, &peer);
        let keeps_up = send.keeps_up;
        let mut api_call = ApiCall {
            method: send.method,
            path: send.path,
            headers: send.headers,
            body: send.body,
            traceparent: span.as_ref().and_then(|span| span.traceparent()),
        };
        let answers = Answers { tx: self.tx.clone(), slot, call, token };
        // External hosts get neither the host's name nor its traces.
        let caller = match &destination {
            Destination::ApiServer => self.caller(slot, service_account),
            Destination::External(_) => Caller::controller(self.control.name(slot), None, None),
        };
        let requests = self.requests.by_slot.entry(slot).or_default();
        let share = requests.share.clone();
        let connections = match destination {
            Destination::ApiServer if is_stream => None,
            Destination::ApiServer => Some(self.requests.api_server.clone()),
            Destination::External(_) => Some(self.requests.external.clone()),
        };
        let kept_up = keeps_up.then(|| GuestWatch::of(&api_call.method, &api_call.path, &api_call.headers)).flatten();
        if let Some(watch) = kept_up {
            let send = move |replies| answers.send(replies);
            let open = self.requests.watches.open(watch, caller, credit.semaphore(), fence, send);
            requests.running.insert(call, Running { token, handle: Handle::Watch(open), span });
            return;
        }
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
                tokio::spawn(api_requests::fenced(fence, async move {
                    let Some(allowance) = allowance.await else { return };
                    let send = |replies| answers.send(replies);
                    api_requests::execute(&client, caller, api_call, allowance, send).await;
                }))
            }
            Destination::External(contact) => {
                let user_agent = caller.user_agent;
                api_call.traceparent = None;
                let external = self.requests.external_client.clone();
                tokio::spawn(api_requests::fenced(fence, async move {
                    let Some(allowance) = allowance.await else { return };
                    let send = |replies| answers.send(replies);
                    external.execute(contact, user_agent, api_call, allowance, send).await;
                }))
            }
        };
        requests.running.insert(call, Running { token, handle: Handle::Task(running.abort_handle()), span });
    }

    fn caller(&self, slot: SlotId, service_account: Option<Arc<ServiceAccount>>) -> Caller {
        let identity = self.peers.as_ref().map(|peers| &**peers.identity());
        Caller::controller(self.control.name(slot), identity, service_account)
    }
}
