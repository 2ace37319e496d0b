//! Requests of guests to the API server.

use wasmop_api::api_requests::{self, Allowance, ApiCall};
use wasmop_api::caller::Caller;
use wasmop_api::connections::Share;
use wasmop_core::control_loop::Send;

use super::{Host, Message, Request};
use crate::environment::SimulatedCredit;
use crate::plant::Plant;

impl Host {
    pub(super) fn send(&mut self, send: Send) {
        let Send { slot, call, token, is_stream, fence, service_account, method, path, headers, body, .. } = send;
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: send call {call}: {method} {path}"));
        let Some(credit) = self.control.credit(slot).cloned() else { return };
        let identity = self.world.has_peers.then_some(&*self.identity);
        let caller = Caller::controller(&name, identity, service_account);
        let call_ = ApiCall { method, path, headers, body, traceparent: None };
        let connections = (!is_stream).then(|| self.connections.clone());
        let share = self.shares[slot.index()].clone();
        let (client, tx, clock, max_bytes) = (self.client.clone(), self.tx.clone(), self.clock.clone(), send.max_bytes);
        let leaks = self.world.plant == Some(Plant::LeakConnections) && token % 10 == 9;
        let request = async move {
            if leaks && let Some(connections) = &connections {
                std::mem::forget(connections.enter(&Share::default()).await);
            }
            let connection = match connections {
                None => None,
                Some(connections) => match connections.enter(&share).await {
                    None => return,
                    entered => entered,
                },
            };
            let allowance = Allowance { credit: SimulatedCredit::semaphore(&credit), connection, max_bytes };
            let send = |replies| {
                let _ = tx.send(Message::Replies { slot, call, token, replies });
            };
            api_requests::execute(&client, caller, call_, allowance, send).await;
        };
        let task = self.tasks.spawn(api_requests::fenced_by(move || clock.now(), fence, request));
        self.requests.insert((slot, call), Request { token, task });
    }
}
