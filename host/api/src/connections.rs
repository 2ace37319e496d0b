//! Connections for responses that end: so many for the whole host, and a share of them for each controller. The API
//! server and external hosts are counted apart: what hangs on one side holds up nothing on the other.
//!
//! Both are needed. The host's number bounds open files and the load on the API server. The share keeps one controller
//! from queueing before all others. While a response waits for its guest, it counts towards the controller's share
//! alone: a guest that does not take its answers holds up nobody else.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of the whole host.
pub const MAX_CONNECTIONS: usize = 64;
/// Of one controller, to one kind of peer.
const MAX_SHARE: usize = 16;

/// Where connections lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    ApiServer,
    External,
}

/// Those of the host, to one kind of peer.
#[derive(Clone, Debug)]
pub struct Connections {
    peer: Peer,
    free: Arc<Semaphore>,
}

/// Those of a controller, to either kind of peer.
#[derive(Clone, Debug)]
pub struct Share {
    api_server: Arc<Semaphore>,
    external: Arc<Semaphore>,
}

/// Room for one connection.
#[derive(Debug)]
pub struct Connection {
    all: Connections,
    /// Given up while the response waits for its guest.
    permit: Option<OwnedSemaphorePermit>,
    _share: OwnedSemaphorePermit,
}

impl Default for Share {
    fn default() -> Share {
        let new = || Arc::new(Semaphore::new(MAX_SHARE));
        Share { api_server: new(), external: new() }
    }
}

impl Share {
    fn of(&self, peer: Peer) -> &Arc<Semaphore> {
        match peer {
            Peer::ApiServer => &self.api_server,
            Peer::External => &self.external,
        }
    }
}

impl Connections {
    pub fn new(peer: Peer) -> Connections {
        Connections { peer, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Waits for room, first in the controller's share and then in the host. `None` if the host ends.
    pub async fn enter(&self, share: &Share) -> Option<Connection> {
        let share = share.of(self.peer).clone().acquire_owned().await.ok()?;
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Connection { all: self.clone(), permit: Some(permit), _share: share })
    }

    /// Connections that the host has room for.
    pub fn available(&self) -> usize {
        self.free.available_permits()
    }
}

impl Connection {
    /// Waits for the guest, and meanwhile leaves the room in the host to others.
    pub async fn leave_for<T>(&mut self, guest: impl Future<Output = T>) -> T {
        let mut guest = std::pin::pin!(guest);
        if let Some(result) = guest.as_mut().now_or_never() {
            return result;
        }
        self.permit = None;
        let result = guest.await;
        // Only the end of the host closes it.
        self.permit = self.all.free.clone().acquire_owned().await.ok();
        result
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// What of it is ready without waiting.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[tokio::test]
    async fn one_controller_gets_its_share_and_leaves_the_rest() {
        let (all, hog) = (Connections::new(Peer::ApiServer), Share::default());
        let held: Vec<_> = std::iter::from_fn(|| now(all.enter(&hog)).flatten()).collect();
        assert_eq!(held.len(), MAX_SHARE);
        let other = Share::default();
        assert!(now(all.enter(&other)).is_some_and(|connection| connection.is_some()));
        drop(held);
        assert!(now(all.enter(&hog)).is_some_and(|connection| connection.is_some()));
    }

    #[tokio::test]
    async fn requests_to_external_hosts_that_hang_leave_those_to_the_api_server_alone() {
        let (api_server, external) = (Connections::new(Peer::ApiServer), Connections::new(Peer::External));
        let share = Share::default();
        let hanging: Vec<_> = std::iter::from_fn(|| now(external.enter(&share)).flatten()).collect();
        assert_eq!(hanging.len(), MAX_SHARE);
        assert!(now(api_server.enter(&share)).is_some_and(|connection| connection.is_some()));
    }

    #[tokio::test]
    async fn who_waits_for_a_guest_holds_up_its_own_controller_alone() {
        let all = Connections::new(Peer::ApiServer);
        let hogs: Vec<Share> = (0..MAX_CONNECTIONS / MAX_SHARE).map(|_| Share::default()).collect();
        let mut held: Vec<Connection> = Vec::new();
        for hog in &hogs {
            held.extend(std::iter::from_fn(|| now(all.enter(hog)).flatten()));
        }
        let bystander = Share::default();
        assert!(now(all.enter(&bystander)).is_none(), "all are taken");
        let (ready, taken) = oneshot::channel::<()>();
        let mut first = held.remove(0);
        let waits = tokio::spawn(async move {
            first.leave_for(taken).await.unwrap();
            first
        });
        tokio::task::yield_now().await;
        let other = now(all.enter(&bystander)).flatten().expect("the room of the one that waits");
        assert!(now(all.enter(&hogs[0])).is_none(), "its controller has no more room than before");
        ready.send(()).unwrap();
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "it goes on when there is room again");
        drop(other);
        assert!(waits.await.unwrap().permit.is_some());
    }

    #[tokio::test]
    async fn a_guest_that_is_ready_costs_no_turn() {
        let (all, share) = (Connections::new(Peer::ApiServer), Share::default());
        let mut connection = all.enter(&share).await.unwrap();
        let before = all.available();
        assert_eq!(connection.leave_for(async { all.available() }).await, before);
    }
}
