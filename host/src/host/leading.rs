//! Which controllers this host runs, of those that other hosts could run as well: begins what it gains, ends what it is to
//! give up or has lost.
//!
//! ```text
//!  Standby ─ gained: snapshot, or anew ─► Held ─ give up: answers, save ─┬─► stand by: nothing is left of it ─► Standby
//!                                            └─── lost: drop everything ─┘
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmop_api::election::boot_clock::holds_now;
use wasmop_api::election::{Election, Kept};
use wasmop_core::controller::Controller;
use wasmop_core::election::{Fence, Group, News, Tenure, Trouble};
use wasmop_core::limits::request_rate::Requests;
use wasmop_policy::Predictor;
use wasmop_vm::instance::{Instance, Origin};

use super::suspending::Why;
use super::{Host, HostError, Phase};

/// How long a controller that is given up may wait for answers to requests that it has made.
const ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// Where the kernel says what the machine or Pod is called.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// This host among others.
pub(super) struct Others {
    group: Group,
    /// For Leases alone.
    client: kube::Client,
    kept: Kept,
    /// Once the controllers are installed.
    election: Option<Election>,
    /// Why this host does not hold its own Lease, if it does not.
    trouble: Option<String>,
}

/// Whether a controller runs here.
pub(super) enum Lead {
    /// There are no other hosts.
    Alone,
    /// Another host runs it, or nobody.
    Standby,
    Held(Arc<Fence>),
    /// It ends what it does, and waits for answers until then.
    GivesUp {
        fence: Arc<Fence>,
        until: Duration,
    },
    /// Its time is over: what is left of it goes.
    Lost,
}

impl Lead {
    /// What outgoing requests are checked against; `None`: nothing.
    pub fn fence(&self) -> Option<Arc<Fence>> {
        match self {
            Lead::Held(fence) | Lead::GivesUp { fence, .. } => Some(fence.clone()),
            Lead::Alone | Lead::Standby | Lead::Lost => None,
        }
    }

    /// Whether what it has done until now counts.
    fn holds(&self) -> bool {
        match self {
            Lead::Alone => true,
            Lead::Held(fence) | Lead::GivesUp { fence, .. } => holds_now(fence),
            Lead::Standby | Lead::Lost => false,
        }
    }
}

impl Others {
    pub fn new(group: Group, client: kube::Client, state_dir: &Path) -> Result<Others, HostError> {
        let kept = std::fs::read_to_string(HOSTNAME)
            .and_then(|hostname| Kept::open(state_dir, hostname.trim()))
            .map_err(|source| HostError::Leases { path: state_dir.join("leases"), source })?;
        let trouble = Some("its Lease is not held yet".into());
        Ok(Others { group, client, kept, election: None, trouble })
    }

    /// This host's name among them.
    pub fn identity(&self) -> &Arc<str> {
        self.kept.identity()
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Host {
    /// Takes part in the election, if there is one.
    pub(super) fn stand(&mut self) {
        let Some(others) = &mut self.others else { return };
        let names = self.slots.iter().map(|slot| slot.name.clone()).collect();
        let tx = self.tx.clone();
        let tell = move |news| {
            let _ = tx.send(super::Message::Election(news));
        };
        tracing::info!(
            identity = &**others.identity(),
            group = %others.group.name,
            "sharing controllers with other hosts: each runs where its Lease says"
        );
        others.election = Some(Election::start(&others.group, others.client.clone(), &others.kept, names, tell));
    }

    /// Gives back what is held, so that others need not wait. All controllers have stopped.
    pub(super) async fn stand_down(&mut self) {
        if let Some(election) = self.others.as_mut().and_then(|others| others.election.take()) {
            election.end().await;
        }
    }

    /// Returns the slot that may have something to do now.
    pub(super) fn on_election(&mut self, news: News) -> Option<u32> {
        match news {
            News::Gained { slot, fence, before, tenure } => {
                self.gain(slot, fence, before.as_ref(), &tenure);
                Some(slot)
            }
            News::GiveUp { slot: index } => {
                let until = self.now() + ANSWERS_LIMIT;
                let slot = &mut self.slots[index as usize];
                if let Lead::Held(fence) = &slot.lead {
                    let fence = fence.clone();
                    slot.lead = Lead::GivesUp { fence, until };
                }
                Some(index)
            }
            News::Lost { slot } => {
                self.lose(slot);
                Some(slot)
            }
            News::Trouble(trouble) => {
                self.on_trouble(trouble);
                None
            }
        }
    }

    fn on_trouble(&mut self, trouble: Option<Trouble>) {
        let Some(others) = &mut self.others else { return };
        others.trouble = trouble.as_ref().map(|trouble| match trouble {
            Trouble::Usurped => "another process has its name".into(),
            Trouble::Failed(why) => why.clone(),
        });
        match trouble {
            None => tracing::info!(identity = &**others.identity(), "the Lease of this host is held"),
            Some(Trouble::Usurped) => tracing::error!(
                identity = &**others.identity(),
                help = "the state directory was copied while its host ran: remove leases/identity from the copy and start that host again",
                "another process renews the Lease of this host's name: this one runs nothing"
            ),
            Some(Trouble::Failed(why)) => tracing::warn!(
                reason = why,
                help = "if it is forbidden, let the host list, create, update and delete leases of coordination.k8s.io in its namespace",
                "Leases could not be read or written: without its own this host stops its controllers"
            ),
        }
    }

    /// Whether a controller may run now. Notices by itself that its time is over.
    pub(super) fn leads(&mut self, index: u32) -> bool {
        match &self.slots[index as usize].lead {
            Lead::Alone => true,
            Lead::Held(fence) if holds_now(fence) => true,
            Lead::Held(_) => {
                self.lose(index);
                false
            }
            Lead::Standby | Lead::GivesUp { .. } | Lead::Lost => false,
        }
    }

    /// Whether what a step did still counts.
    pub(super) fn counts(&self, index: u32) -> bool {
        self.slots[index as usize].lead.holds()
    }

    /// It is another's now, perhaps: nothing more leaves this host for it.
    fn lose(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(fence) = slot.lead.fence() else { return };
        fence.end();
        slot.lead = Lead::Lost;
        slot.abort_requests();
        slot.waiting.clear();
        tracing::warn!(
            controller = &*slot.name,
            "its Lease is lost: it stops here, and what it has in memory is dropped"
        );
    }

    fn gain(&mut self, index: u32, fence: Arc<Fence>, before: Option<&Tenure>, tenure: &Tenure) {
        let slot = &self.slots[index as usize];
        let Some(others) = &self.others else { return };
        if self.shutting_down || !matches!(slot.lead, Lead::Standby) {
            return;
        }
        let (name, package, store) = (slot.name.clone(), slot.package.clone(), slot.store.clone());
        let startup = slot.startup.clone();
        // Then nobody else has run it since the snapshot was written.
        let is_mine = before.is_some() && others.kept.tenure(&name).as_ref() == before;
        let recovered = tokio::task::block_in_place(|| {
            if !is_mine {
                store.discard().map_err(|source| HostError::Controller { name: name.to_string(), source })?;
            }
            let recovered = self.recover(&name, &package, &store, &startup)?;
            others
                .kept
                .set_tenure(&name, tenure)
                .map_err(|source| HostError::Controller { name: name.to_string(), source })?;
            Ok::<_, HostError>(recovered)
        });
        let (controller, predictor, phase, places) = recovered.unwrap_or_else(|error| {
            tracing::warn!(controller = &*name, reason = %error, "its snapshot cannot be used: starting anew");
            self.anew(&package)
        });
        let slot = &mut self.slots[index as usize];
        let mut from = "start";
        if let Phase::Suspended(Origin::Snapshot(snapshot)) = &phase {
            slot.counters.on_disk(snapshot.disk_bytes);
            from = "snapshot";
        }
        tracing::info!(
            controller = &*name,
            from,
            transitions = tenure.transitions,
            "its Lease is acquired: it runs here"
        );
        (slot.controller, slot.phase, slot.lead) = (controller, phase, Lead::Held(fence));
        slot.deciding.predictor = predictor;
        if !places.is_empty() {
            self.returning.insert(index, places);
        }
        self.watch_registered(index);
        self.returning.remove(&index);
        self.trace_continued(index);
    }

    /// Gets a controller that does not run here, or no longer, on its way to have nothing here.
    pub(super) fn step_down(&mut self, index: u32) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let until = match (&slot.lead, &slot.phase) {
            (Lead::Alone | Lead::Standby | Lead::Held(_), _) | (_, Phase::Busy) => {
                self.schedule(index, None);
                return;
            }
            (Lead::GivesUp { until, fence }, _) if holds_now(fence) => *until,
            (Lead::GivesUp { .. }, _) => {
                self.lose(index);
                now
            }
            (Lead::Lost, _) => now,
        };
        let slot = &mut self.slots[index as usize];
        let is_lost = matches!(slot.lead, Lead::Lost);
        let waits = slot.requests.values().any(|request| !request.stream);
        if !is_lost && waits && now < until && !self.shutting_down {
            self.schedule(index, Some(until));
            return;
        }
        let is_savable = matches!(&slot.phase, Phase::Resident(instance) if matches!(**instance, Instance::Full(_)));
        // Should it come back before anybody else has run it, it goes on from there.
        if !is_lost && is_savable && slot.save_after <= now {
            self.save(index, Why::Handover);
            return;
        }
        self.stand_by(index);
    }

    /// Nothing is left of a controller here but what is on disk.
    fn stand_by(&mut self, index: u32) {
        let now = self.now();
        for (watch, subscription) in self.subscriptions_of(index, None) {
            self.unsubscribe(watch, subscription);
        }
        let slot = &mut self.slots[index as usize];
        if let Some(fence) = slot.lead.fence() {
            fence.end();
        }
        slot.abort_requests();
        slot.phase = Phase::Suspended(Origin::Fresh);
        slot.controller = Controller::new(now, slot.package.first_monotonic_ns());
        (slot.waiting, slot.credit, slot.liveness) = (Requests::default(), None, None);
        (slot.primaries, slot.watches) = (Vec::new(), Vec::new());
        (slot.save_after, slot.deciding.anonymous_bytes) = (Duration::ZERO, 0);
        slot.deciding.predictor = Predictor::default();
        slot.lead = Lead::Standby;
        if let Some(traces) = &mut self.traces {
            traces.stopped(index);
        }
        tracing::info!(controller = &*slot.name, "has stopped here: another host may run it");
        self.schedule(index, None);
        if let Some(election) = self.others.as_ref().and_then(|others| others.election.as_ref()) {
            election.given_up(index);
        }
    }
}
