//! Connections for responses that end: so many for the whole host, and a share of them for each controller.
//!
//! Both are needed. The host's number bounds open files and the load on the API server. The share keeps one controller
//! from queueing before all others. While a response waits for its guest, it counts towards the controller's share
//! alone: a guest that does not take its answers holds up nobody else.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of the whole host.
const MAX_CONNECTIONS: usize = 64;
/// Of one controller.
const MAX_SHARE: usize = 16;

/// Those of the host, to one kind of peer.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Semaphore>);

/// Those of a controller.
#[derive(Clone, Debug)]
pub struct Share(Arc<Semaphore>);

/// Room for one connection.
#[derive(Debug)]
pub struct Connection {
    all: Connections,
    /// Given up while the response waits for its guest.
    permit: Option<OwnedSemaphorePermit>,
    _share: OwnedSemaphorePermit,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections(Arc::new(Semaphore::new(MAX_CONNECTIONS)))
    }
}

impl Default for Share {
    fn default() -> Share {
        Share(Arc::new(Semaphore::new(MAX_SHARE)))
    }
}

impl Connections {
    /// Waits for room, first in the controller's share and then in the host. `None` if the host ends.
    pub async fn enter(&self, share: &Share) -> Option<Connection> {
        let share = share.0.clone().acquire_owned().await.ok()?;
        let permit = self.0.clone().acquire_owned().await.ok()?;
        Some(Connection { all: self.clone(), permit: Some(permit), _share: share })
    }

    /// Connections that the host has room for.
    #[cfg(test)]
    pub fn available(&self) -> usize {
        self.0.available_permits()
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
        self.permit = self.all.0.clone().acquire_owned().await.ok();
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
        let (all, hog) = (Connections::default(), Share::default());
        let held: Vec<_> = std::iter::from_fn(|| now(all.enter(&hog)).flatten()).collect();
        assert_eq!(held.len(), MAX_SHARE);
        let other = Share::default();
        assert!(now(all.enter(&other)).is_some_and(|connection| connection.is_some()));
        drop(held);
        assert!(now(all.enter(&hog)).is_some_and(|connection| connection.is_some()));
    }

    #[tokio::test]
    async fn who_waits_for_a_guest_holds_up_its_own_controller_alone() {
        let all = Connections::default();
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
        let (all, share) = (Connections::default(), Share::default());
        let mut connection = all.enter(&share).await.unwrap();
        let before = all.0.available_permits();
        assert_eq!(connection.leave_for(async { all.0.available_permits() }).await, before);
    }
}
