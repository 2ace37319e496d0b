//! The host's part in the election: which of the shared controllers it runs.

use std::path::Path;
use std::sync::Arc;

use wasmop_api::election::{Election, LocalState};
use wasmop_core::control_loop::{Gained, HostEvent, Recovered, SlotId};
use wasmop_core::election::{Fence, Group, News, Tenure, Trouble};
use wasmop_vm::instance::Origin;

use super::workers::Home;
use super::{Message, Shell};
use crate::install::recover;
use crate::options::HostError;

/// The kernel's name of the machine or Pod.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// This host among the hosts that share its controllers.
pub(crate) struct Peers {
    group: Group,
    /// A client for Leases only.
    client: kube::Client,
    local: LocalState,
    /// `None` until the controllers are installed.
    election: Option<Election>,
    /// Why this host does not hold its own Lease; `None` if it does.
    trouble: Option<String>,
}

impl Peers {
    pub fn new(group: Group, client: kube::Client, state_dir: &Path) -> Result<Peers, HostError> {
        let local = std::fs::read_to_string(HOSTNAME)
            .and_then(|hostname| LocalState::open(state_dir, hostname.trim()))
            .map_err(|source| HostError::Leases { path: state_dir.join("leases"), source })?;
        let trouble = Some("it does not hold its Lease yet".into());
        Ok(Peers { group, client, local, election: None, trouble })
    }

    /// This host's name in the group.
    pub fn identity(&self) -> &Arc<str> {
        self.local.identity()
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

impl Shell {
    /// Takes part in the election, if there is one.
    pub(super) fn join_election(&mut self) {
        let Some(peers) = &mut self.peers else { return };
        let names = self.control.ids().map(|id| self.control.name(id).clone()).collect();
        let tx = self.tx.clone();
        let tell = move |news| {
            let _ = tx.send(Message::Election(news));
        };
        tracing::info!(
            identity = &**peers.identity(),
            group = %peers.group.name,
            "sharing controllers with other hosts: each runs where its Lease says"
        );
        peers.election = Some(Election::start(&peers.group, peers.client.clone(), &peers.local, names, tell));
    }

    /// Releases all Leases after all controllers have stopped, so that other hosts need not wait.
    pub(super) async fn leave_election(&mut self) {
        if let Some(election) = self.peers.as_mut().and_then(|peers| peers.election.take()) {
            election.end().await;
        }
    }

    /// A controller has stopped on this host.
    pub(super) fn given_up(&self, slot: SlotId) {
        if let Some(election) = self.peers.as_ref().and_then(|peers| peers.election.as_ref()) {
            election.given_up(slot.0);
        }
    }

    pub(super) fn on_election(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Gained { slot, fence, before, tenure } => {
                self.gain(SlotId(slot), fence, before.as_ref(), &tenure);
            }
            News::GiveUp { slot } => self.control.take(HostEvent::GiveUp { slot: SlotId(slot) }, now),
            News::Lost { slot } => self.control.take(HostEvent::LeaseLost { slot: SlotId(slot) }, now),
            News::Trouble(trouble) => self.on_trouble(trouble),
        }
    }

    fn on_trouble(&mut self, trouble: Option<Trouble>) {
        let Some(peers) = &mut self.peers else { return };
        peers.trouble = trouble.as_ref().map(|trouble| match trouble {
            Trouble::Usurped => "another process renews its Lease".into(),
            Trouble::Failed(why) => why.clone(),
        });
        match trouble {
            None => tracing::info!(identity = &**peers.identity(), "this host holds its Lease"),
            Some(Trouble::Usurped) => tracing::error!(
                identity = &**peers.identity(),
                help = "the state directory was copied while its host ran: remove leases/identity from the copy and start that host again",
                "another process renews the Lease of this host: this one runs no controllers"
            ),
            Some(Trouble::Failed(why)) => tracing::warn!(
                reason = why,
                help = "if it is forbidden, let the host list, create, update and delete leases of coordination.k8s.io in its namespace",
                "Leases could not be read or written: without its own this host stops its controllers"
            ),
        }
    }

    /// Reads the snapshot of a controller that this host acquires, and passes it to the loop.
    fn gain(&mut self, slot: SlotId, fence: Arc<Fence>, before: Option<&Tenure>, tenure: &Tenure) {
        let Some(peers) = &self.peers else { return };
        if !self.control.may_gain(slot) {
            return;
        }
        let name = self.control.name(slot).clone();
        let tenant = &self.tenants[slot.index()];
        let now = self.now();
        // No other host has run the controller since the snapshot was written.
        let is_mine = before.is_some() && peers.local.tenure(&name).as_ref() == before;
        let fail = |source| HostError::Controller { name: name.to_string(), source };
        let recovered = tokio::task::block_in_place(|| {
            if !is_mine {
                tenant.store.discard().map_err(fail)?;
            }
            let recovered = recover(&name, &tenant.package, &tenant.store, &tenant.startup, now.host)?;
            peers.local.set_tenure(&name, tenure).map_err(fail)?;
            Ok::<_, HostError>(recovered)
        });
        let (recovered, origin) = recovered.unwrap_or_else(|error| {
            tracing::warn!(controller = &*name, reason = %error, "cannot use its snapshot: starting from the base image");
            (Recovered::fresh(now.host, tenant.package.first_monotonic_ns()), Origin::Fresh)
        });
        self.tenant(slot).home = Home::Suspended(origin);
        let gained = Gained { slot, fence, transitions: tenure.transitions, recovered };
        self.control.take(HostEvent::Gained(Box::new(gained)), now);
    }
}
