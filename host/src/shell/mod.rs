//! The shell around the [control loop](wasmop_core::control_loop): passes events from channels to the loop, and
//! carries out its effects on threads and in tasks.
//!
//! ```text
//! workers, requests, watches, election, kernel ─► Message ─► Shell ─► HostEvent ─► ControlLoop
//!                                                              ▲                       │
//!                                                              └────── HostEffect ◄────┘
//! workers    steps and saves on the step scheduler     requests  requests as tasks
//! election   leases, and controllers that come and go  telemetry spans, Events, the activity trace
//! status     answers to the status server
//! ```
//!
//! The shell makes no decisions. It holds what the loop cannot: instances, files, sockets and clocks.

mod election;
mod message;
mod requests;
mod status;
mod telemetry;
mod workers;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wasmop_api::connections::{Connections, Peer};
use wasmop_api::election::boot_clock;
use wasmop_api::environment::HubEnvironment;
use wasmop_api::external_hosts::External;
use wasmop_api::guest_watches::GuestWatches;
use wasmop_api::watch::Delivery;
use wasmop_core::control_loop::{ControlLoop, HostEffect, HostEvent, Now, Phase, SlotId};
use wasmop_core::status::observed;
use wasmop_snapshot::sync::Syncer;
use wasmop_vm::compiled_package::CODE_LINGERS;
use wasmop_vm::engine::Engine;
use wasmop_vm::step_scheduler::StepScheduler;

pub(crate) use self::election::Peers;
pub(crate) use self::message::Message;
use self::requests::RunningRequests;
pub(crate) use self::telemetry::Telemetry;
pub(crate) use self::telemetry::TelemetryOptions;
pub(crate) use self::workers::{Home, Tenant};
use crate::settings::Settings;

/// Most events taken from each source before controllers run.
const EVENTS_PER_ROUND: usize = 1024;

/// The control loop with the host's I/O.
pub(crate) struct Shell {
    pub started: Instant,
    pub control: ControlLoop<HubEnvironment>,
    /// By slot.
    pub tenants: Vec<Tenant>,
    pub engine: Engine,
    pub scheduler: StepScheduler,
    pub syncer: Syncer,
    pub client: kube::Client,
    pub tx: mpsc::UnboundedSender<Message>,
    pub requests: RunningRequests,
    pub telemetry: Telemetry,
    /// Controllers whose packages could not be installed.
    pub failed: Vec<observed::Controller>,
    /// When to look for unused code of packages; `None` while none is loaded.
    pub code_check: Option<tokio::time::Instant>,
    /// The host's own credentials impersonate a user, so that no controller can be impersonated.
    pub impersonates: bool,
    pub shutdown_timeout: Duration,
    /// The hosts that share its controllers.
    pub peers: Option<Peers>,
}

/// The sources of events.
pub(crate) struct Inputs {
    pub messages: mpsc::UnboundedReceiver<Message>,
    pub watches: mpsc::UnboundedReceiver<Delivery>,
    pub settings: Option<mpsc::UnboundedReceiver<Settings>>,
}

impl Shell {
    pub(crate) fn now(&self) -> Now {
        Now { host: self.started.elapsed(), boot: boot_clock::now() }
    }

    /// Runs the host until `shutdown` completes, then suspends all controllers.
    pub(crate) async fn run(mut self, mut inputs: Inputs, shutdown: impl Future<Output = ()>) {
        self.control.start(self.now());
        self.dispatch();
        self.join_election();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            // A time beyond the range of the clock never comes.
            let wake = self.control.next_wake().and_then(|at| self.started.checked_add(at));
            let wake = wake.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(settings) = recv(&mut inputs.settings) => self.apply(settings),
                Some(message) = inputs.messages.recv() => self.receive(message),
                Some(delivery) = inputs.watches.recv() => self.take_in(delivery),
                () = sleep_until(wake) => {}
                () = sleep_until(self.code_check) => {
                    self.code_check = self.drop_unused_code().map(|wait| tokio::time::Instant::now() + wait);
                    continue;
                }
            }
            // Pending events are handled together, in one step instead of several. Each source gets its turn in every
            // round, so that none starves the others.
            for message in std::iter::from_fn(|| inputs.messages.try_recv().ok()).take(EVENTS_PER_ROUND) {
                self.receive(message);
            }
            for delivery in std::iter::from_fn(|| inputs.watches.try_recv().ok()).take(EVENTS_PER_ROUND) {
                self.take_in(delivery);
            }
            self.dispatch();
        }
        self.shut_down(inputs.messages).await;
    }

    /// Handles an event of a watch. Its bytes count as in flight until then.
    fn take_in(&mut self, delivery: Delivery) {
        let now = self.now();
        self.control.take_watch(&delivery.event, now);
    }

    /// Lets the loop decide, and carries out its effects.
    fn dispatch(&mut self) {
        let now = self.now();
        for effect in self.control.dispatch(now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: HostEffect) {
        match effect {
            HostEffect::Step(step) => self.step(*step),
            HostEffect::Save(save) => self.save(*save),
            HostEffect::SuspendSoftly { slot, reason } => self.suspend_softly(slot, reason),
            HostEffect::Discard { slot } => self.discard(slot),
            HostEffect::Send(send) => self.send(*send),
            HostEffect::Abort { slot, call } => self.requests.abort(slot, call),
            HostEffect::Publish(notice) => self.telemetry.publish(&self.client, *notice),
            HostEffect::RecordActivity { slot, at, trigger } => {
                self.telemetry.record_activity(at, self.control.name(slot), trigger);
            }
            HostEffect::Span(event) => self.telemetry.span(event, &self.control, &self.tenants, self.started),
            HostEffect::ClearMemoryPool => self.engine.memory_pool().clear(),
            HostEffect::GivenUp { slot } => self.given_up(slot),
        }
    }

    /// Applies new settings, or keeps the previous ones if the new ones are invalid.
    fn apply(&mut self, settings: Settings) {
        match settings.checked(&self.control, self.impersonates) {
            Ok(settings) => {
                let now = self.now();
                self.control.take(HostEvent::Settings(settings), now);
            }
            Err(error) => {
                let text = error.to_string();
                let (problem, help) = text.split_once("\nhelp: ").unwrap_or((&text, ""));
                tracing::error!(problem, help, "the new settings are refused: the previous ones stay in force");
            }
        }
    }

    /// Frees unused code and memory. Returns when to look again.
    fn drop_unused_code(&self) -> Option<Duration> {
        let mut seen = BTreeSet::new();
        let packages = self.tenants.iter().filter(|tenant| seen.insert(Arc::as_ptr(&tenant.package)));
        let pooled = self.engine.memory_pool().drop_idle(CODE_LINGERS);
        packages.filter_map(|tenant| tenant.package.drop_idle_code(CODE_LINGERS)).chain(pooled).min()
    }

    fn is_any(&self, is_one: impl Fn(Phase) -> bool) -> usize {
        self.control.ids().filter(|id| is_one(self.control.phase(*id))).count()
    }

    /// Finishes running steps, suspends all controllers, and flushes their snapshots.
    async fn shut_down(&mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let limit = tokio::time::Instant::now() + self.shutdown_timeout;
        let now = self.now();
        self.control.take(HostEvent::Shutdown, now);
        self.dispatch();
        loop {
            let busy = self.is_any(|phase| matches!(phase, Phase::Busy));
            if busy == 0 {
                break;
            }
            match tokio::time::timeout_at(limit, messages.recv()).await {
                Ok(Some(message)) => {
                    self.receive(message);
                    self.dispatch();
                }
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(
                        busy,
                        timeout_ms = self.shutdown_timeout.as_millis() as u64,
                        "not all controllers were suspended in time: these continue from their last snapshots"
                    );
                    break;
                }
            }
        }
        let syncer = self.syncer.clone();
        let (tx, flushed) = tokio::sync::oneshot::channel();
        // The runtime would wait for one of its own threads.
        std::thread::spawn(move || {
            syncer.flush();
            let _ = tx.send(());
        });
        if tokio::time::timeout_at(limit, flushed).await.is_err() {
            tracing::warn!(
                "the disk did not confirm all snapshots in time: a crash of the machine now would lose them"
            );
        }
        self.leave_election().await;
        self.telemetry.interrupt();
        let suspended = self.is_any(|phase| matches!(phase, Phase::Suspended { .. }));
        tracing::info!(suspended, "shutdown complete");
    }

    pub(crate) fn tenant(&mut self, slot: SlotId) -> &mut Tenant {
        &mut self.tenants[slot.index()]
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn recv<T>(from: &mut Option<mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

/// The connection limits of a host, by kind of peer.
pub(crate) fn running_requests(client: &kube::Client, external: Arc<External>) -> RunningRequests {
    let watches = GuestWatches::new(client.clone());
    RunningRequests::new(Connections::new(Peer::ApiServer), Connections::new(Peer::External), external, watches)
}
