//! Which controllers this host runs, of those that other hosts could run as well: begins what it gains, ends what it
//! gives up or has lost.
//!
//! ```text
//!  Standby ─ gained: snapshot, or anew ─► Held ─ give up: answers, save ─┬─► stand by: nothing is left of it ─► Standby
//!                                           └─── lost: drop everything ──┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use wasmop_policy::Predictor;

use super::event::Gained;
use super::host_state::HostState;
use super::slot::{InstanceFacts, Phase, SlotId};
use super::suspension::SaveReason;
use super::{ControlLoop, Environment, HostEffect, SpanEvent};
use crate::controller::Controller;
use crate::election::Fence;
use crate::limits::request_rate::RequestThrottle;
use crate::watch::WatchPosition;

/// How long a controller that is given up may wait for answers to requests that it has made.
const ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// Whether a controller runs here.
#[derive(Debug)]
pub enum Leadership {
    /// There are no other hosts.
    Alone,
    /// Another host runs it, or none does.
    Standby,
    /// This host runs it.
    Held(Arc<Fence>),
    /// It ends what it does, and waits for answers until then.
    GivesUp {
        /// Holds as long as the lease does.
        fence: Arc<Fence>,
        /// On the host's clock.
        until: Duration,
    },
    /// The lease is lost: what is left of it goes.
    Lost,
}

impl Leadership {
    /// What outgoing requests are checked against; `None`: nothing.
    pub fn fence(&self) -> Option<Arc<Fence>> {
        match self {
            Leadership::Held(fence) | Leadership::GivesUp { fence, .. } => Some(fence.clone()),
            Leadership::Alone | Leadership::Standby | Leadership::Lost => None,
        }
    }

    /// Whether it runs here and is not about to stop, as far as is known.
    pub(super) fn is_active(&self) -> bool {
        matches!(self, Leadership::Alone | Leadership::Held(_))
    }

    /// Whether what it has done until now counts. `boot`: the machine's clock.
    pub fn holds(&self, boot: Duration) -> bool {
        match self {
            Leadership::Alone => true,
            Leadership::Held(fence) | Leadership::GivesUp { fence, .. } => fence.holds(boot),
            Leadership::Standby | Leadership::Lost => false,
        }
    }
}

/// What a controller continues with: state, predictor, snapshot, and what it has seen of its watches.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Queues, tasks and deadlines.
    pub controller: Controller,
    /// What is known of when it is needed.
    pub predictor: Predictor,
    /// Bytes of its snapshot; `None`: it starts from the base image.
    pub snapshot_bytes: Option<u64>,
    /// How much of its watches it has seen.
    pub places: Vec<WatchPosition>,
}

impl Recovered {
    /// A controller without a snapshot. `clock`: what a fresh instance's monotonic clock shows, in nanoseconds.
    pub fn fresh(now: Duration, clock: u64) -> Recovered {
        Recovered { controller: Controller::new(now, clock), ..Recovered::default() }
    }

    /// A controller with a snapshot. `monotonic_ns`: the instance's clock when it was written, `elapsed`: the time
    /// since; `startup`: fingerprint of what the program is started with now.
    ///
    /// # Errors
    ///
    /// Says why the snapshot cannot be continued from.
    pub fn from_snapshot(
        state: HostState,
        snapshot_bytes: u64,
        (monotonic_ns, elapsed): (u64, Duration),
        startup: u64,
        now: Duration,
    ) -> Result<Recovered, String> {
        // A program reads these once, and what it has made of them is in its memory.
        if state.startup != startup {
            return Err("environment, arguments or log level have changed".into());
        }
        let clock = monotonic_ns.wrapping_add(elapsed.as_nanos() as u64);
        let controller = Controller::restore(state.controller, now, clock, elapsed)?;
        Ok(Recovered {
            controller,
            predictor: state.predictor,
            snapshot_bytes: Some(snapshot_bytes),
            places: state.places,
        })
    }
}

impl<E: Environment> ControlLoop<E> {
    /// Whether a controller that the election has given to this host can begin here.
    pub fn may_gain(&self, id: SlotId) -> bool {
        !self.is_shutting_down && matches!(self.slots[id].leadership, Leadership::Standby)
    }

    /// This host runs a controller from now on.
    pub(super) fn on_gained(&mut self, gained: Gained) {
        let Gained { slot: id, fence, transitions, recovered } = gained;
        if !self.may_gain(id) {
            return;
        }
        let Recovered { controller, predictor, snapshot_bytes, places } = recovered;
        let slot = &mut self.slots[id];
        if let Some(bytes) = snapshot_bytes {
            slot.counters.on_disk(bytes);
        }
        let from = if snapshot_bytes.is_some() { "snapshot" } else { "start" };
        tracing::info!(controller = &*slot.name, from, transitions, "its Lease is acquired: it runs here");
        (slot.controller, slot.phase) = (controller, Phase::Suspended { snapshot_bytes });
        slot.leadership = Leadership::Held(fence);
        slot.suspension.predictor = predictor;
        if !places.is_empty() {
            self.subscriptions.returning.insert(id, places);
        }
        self.watch_registered(id);
        self.subscriptions.returning.remove(&id);
        self.span_continued(id);
    }

    /// Another host is to run a controller.
    pub(super) fn on_give_up(&mut self, id: SlotId) {
        let until = self.now.host + ANSWERS_LIMIT;
        let leadership = &mut self.slots[id].leadership;
        if let Leadership::Held(fence) = leadership {
            *leadership = Leadership::GivesUp { fence: fence.clone(), until };
        }
    }

    /// Whether a controller may run now. Notices by itself that its lease has run out.
    pub(super) fn leads(&mut self, id: SlotId) -> bool {
        match &self.slots[id].leadership {
            Leadership::Alone => true,
            Leadership::Held(fence) if fence.holds(self.now.boot) => true,
            Leadership::Held(_) => {
                self.on_lease_lost(id);
                false
            }
            Leadership::Standby | Leadership::GivesUp { .. } | Leadership::Lost => false,
        }
    }

    /// Another host may run it now: nothing more leaves this host for it.
    pub(super) fn on_lease_lost(&mut self, id: SlotId) {
        let slot = &mut self.slots[id];
        let Some(fence) = slot.leadership.fence() else { return };
        fence.end();
        slot.leadership = Leadership::Lost;
        slot.requests.waiting.clear();
        self.abort_requests(id);
        tracing::warn!(
            controller = &*self.slots[id].name,
            "its Lease is lost: it stops here, and what it has in memory is dropped"
        );
    }

    /// Gets a controller that does not run here, or no longer, on its way to have nothing here.
    pub(super) fn step_down(&mut self, id: SlotId) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let until = match (&slot.leadership, &slot.phase) {
            (Leadership::Alone | Leadership::Standby | Leadership::Held(_), _) | (_, Phase::Busy) => {
                return self.schedule(id, None);
            }
            (Leadership::GivesUp { until, fence }, _) if fence.holds(self.now.boot) => *until,
            (Leadership::GivesUp { .. }, _) => {
                self.on_lease_lost(id);
                now
            }
            (Leadership::Lost, _) => now,
        };
        let slot = &mut self.slots[id];
        let is_lost = matches!(slot.leadership, Leadership::Lost);
        let waits = slot.requests.unary_in_flight() > 0;
        if !is_lost && waits && now < until && !self.is_shutting_down {
            return self.schedule(id, Some(until));
        }
        let is_savable = matches!(slot.phase, Phase::Resident(InstanceFacts { is_soft: false, .. }));
        // Should it come back before another host has run it, it continues from there.
        if !is_lost && is_savable && slot.suspension.save_after <= now {
            return self.save(id, SaveReason::Handover);
        }
        self.stand_by(id);
    }

    /// Nothing is left of a controller here but what is on disk.
    fn stand_by(&mut self, id: SlotId) {
        let now = self.now.host;
        self.unwatch(id, None);
        self.abort_requests(id);
        self.discard(id);
        let slot = &mut self.slots[id];
        if let Some(fence) = slot.leadership.fence() {
            fence.end();
        }
        slot.controller = Controller::new(now, slot.package.first_monotonic_ns);
        slot.requests.waiting = RequestThrottle::default();
        (slot.requests.credit, slot.throttles.liveness) = (None, None);
        slot.watches = Default::default();
        (slot.suspension.save_after, slot.suspension.anonymous_bytes) = (Duration::ZERO, 0);
        slot.suspension.predictor = Predictor::default();
        slot.leadership = Leadership::Standby;
        tracing::info!(controller = &*slot.name, "has stopped here: another host may run it");
        if self.is_traced {
            self.effects.push(HostEffect::Span(SpanEvent::Stopped { slot: id }));
        }
        self.schedule(id, None);
        self.effects.push(HostEffect::GivenUp { slot: id });
    }
}
