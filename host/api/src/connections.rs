//! Limits the concurrent requests that are not streams: of the whole host, and of each controller.
//!
//! The host's limit bounds open files and the load on the API server. The controller's share keeps one controller
//! from delaying all others. A response that waits for its guest counts towards the controller's share only, so a
//! guest that takes no replies delays no other controller. Requests to external hosts have separate limits.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limit of the whole host, to one kind of peer.
pub const MAX_CONNECTIONS: usize = 64;
/// Limit of one controller, to one kind of peer.
const MAX_SHARE: usize = 16;

/// The kind of server at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The Kubernetes API server.
    ApiServer,
    /// Any other host.
    External,
}

/// The host's limit for one kind of peer. Clones share it.
#[derive(Clone, Debug)]
pub struct Connections {
    peer: Peer,
    free: Arc<Semaphore>,
}

/// A controller's limits, one for each kind of peer. Clones share them.
#[derive(Clone, Debug)]
pub struct Share {
    api_server: Arc<Semaphore>,
    external: Arc<Semaphore>,
}

/// Permission for one request.
#[derive(Debug)]
pub struct Connection {
    all: Connections,
    /// `None` while the response waits for its guest.
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
    /// A limit of which nothing is used.
    pub fn new(peer: Peer) -> Connections {
        Connections { peer, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Waits for a permit, first of the controller's share and then of the host. `None` if the host ends.
    pub async fn enter(&self, share: &Share) -> Option<Connection> {
        let share = share.of(self.peer).clone().acquire_owned().await.ok()?;
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(Connection { all: self.clone(), permit: Some(permit), _share: share })
    }

    /// Unused permits of the host.
    pub fn available(&self) -> usize {
        self.free.available_permits()
    }
}

impl Connection {
    /// Waits for the guest. If that takes time, other requests may use the host's permit.
    pub async fn leave_for<T>(&mut self, guest: impl Future<Output = T>) -> T {
        let mut guest = std::pin::pin!(guest);
        if let Some(result) = guest.as_mut().now_or_never() {
            return result;
        }
        self.permit = None;
        let result = guest.await;
        // The semaphore is closed only when the host ends.
        self.permit = self.all.free.clone().acquire_owned().await.ok();
        result
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// The output, if the future is ready at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[tokio::test]
    async fn controller_gets_no_more_than_its_share() {
        let (all, hog) = (Connections::new(Peer::ApiServer), Share::default());
        let held: Vec<_> = std::iter::from_fn(|| now(all.enter(&hog)).flatten()).collect();
        assert_eq!(held.len(), MAX_SHARE);
        let other = Share::default();
        assert!(now(all.enter(&other)).is_some_and(|connection| connection.is_some()));
        drop(held);
        assert!(now(all.enter(&hog)).is_some_and(|connection| connection.is_some()));
    }

    #[tokio::test]
    async fn hanging_external_requests_do_not_delay_api_requests() {
        let (api_server, external) = (Connections::new(Peer::ApiServer), Connections::new(Peer::External));
        let share = Share::default();
        let hanging: Vec<_> = std::iter::from_fn(|| now(external.enter(&share)).flatten()).collect();
        assert_eq!(hanging.len(), MAX_SHARE);
        assert!(now(api_server.enter(&share)).is_some_and(|connection| connection.is_some()));
    }

    #[tokio::test]
    async fn response_that_waits_for_its_guest_delays_its_own_controller_only() {
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
        assert!(!waits.is_finished(), "it continues when a permit is free");
        drop(other);
        assert!(waits.await.unwrap().permit.is_some());
    }

    #[tokio::test]
    async fn ready_guest_keeps_the_permit() {
        let (all, share) = (Connections::new(Peer::ApiServer), Share::default());
        let mut connection = all.enter(&share).await.unwrap();
        let before = all.available();
        assert_eq!(connection.leave_for(async { all.available() }).await, before);
    }
}
