//! Keeps up the watches of guest-driven packages: guests get changes only, and equal watches share one connection.
//!
//! ```text
//!              ┌─ own connection ─► list, or catch up ─┐ caught up
//! open ────────┤                                       ▼
//!              └──────────────────────────────► shared stream ─► each subscriber: send
//!                        ▲                             │
//!                        └── no credit: too slow ◄─────┘
//! ```
//!
//! * A watch begins on a connection of its own, which brings the list, or the changes since the guest's version.
//! * When it has come as far as the shared stream of equal watches, it joins that one, and its own connection ends. The
//!   first one becomes the shared stream.
//! * The shared stream reconnects by itself, and hides bookmarks. Its subscribers learn of neither.
//! * A subscriber without credit gets a connection of its own again, which TCP slows down to the guest's pace.
//!
//! If the API server refuses to continue, the guests' watches end, so that they ask again and see why.

mod batch;
mod lines;
mod own_connection;
mod shared_stream;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use wasmop_core::election::Fence;
use wasmop_core::guest_watch::{GuestWatch, GuestWatchCounts, Position, Stream};
use wasmop_core::reply::Reply;
use wasmop_core::service_account::ServiceAccount;

use self::lines::Lines;
use self::shared_stream::SharedStream;
use self::subscriber::Subscriber;
use crate::api_requests::fenced;
use crate::caller::Caller;

pub use self::subscriber::OpenWatch;

/// Delays of reconnects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timings {
    /// After the first failure; it doubles with each further one.
    first_delay: Duration,
    max_delay: Duration,
    /// A connection that lasted this long was a good one.
    good: Duration,
}

impl Timings {
    /// Before the next connection, after so many failures in a row.
    fn delay(&self, failures: u32) -> Duration {
        let doubled = self.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.max_delay).mul_f64(rand::random_range(0.75..1.25))
    }
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            good: Duration::from_secs(5),
        }
    }
}

/// What equal watches have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    stream: Stream,
    service_account: Option<Arc<ServiceAccount>>,
}

/// The watches of all guest-driven packages of a host. They end when it is dropped.
pub struct GuestWatches(Arc<Watches>);

struct Watches {
    client: kube::Client,
    timings: Timings,
    shared: Mutex<HashMap<Key, Arc<SharedStream>>>,
    /// Dropping it ends them. A task must not own the watches.
    tasks: Mutex<JoinSet<()>>,
}

impl GuestWatches {
    /// Without any watch.
    pub fn new(client: kube::Client) -> GuestWatches {
        GuestWatches::with_timings(client, Timings::default())
    }

    fn with_timings(client: kube::Client, timings: Timings) -> GuestWatches {
        let (shared, tasks) = (Mutex::default(), Mutex::default());
        GuestWatches(Arc::new(Watches { client, timings, shared, tasks }))
    }

    /// Opens a watch for a guest, and passes its answer to `send` in batches while the fence holds. Each batch is worth
    /// one resume. Bytes of the answer take permits of `credit`, as in [`crate::api_requests::Allowance`].
    ///
    /// # Panics
    /// It must be used within a tokio runtime.
    pub fn open(
        &self,
        watch: GuestWatch,
        caller: Caller,
        credit: Arc<Semaphore>,
        fence: Option<Arc<Fence>>,
        send: impl Fn(Vec<Reply>) + Send + Sync + 'static,
    ) -> OpenWatch {
        let open = OpenWatch::default();
        let key = Key { stream: watch.stream, service_account: caller.service_account };
        let takes_bookmarks = watch.takes_bookmarks;
        let subscriber =
            Subscriber::new(Box::new(send), credit, fence, caller.user_agent, takes_bookmarks, open.clone());
        self.0.connect(key, watch.position, subscriber);
        open
    }

    /// How many there are.
    pub fn counts(&self) -> GuestWatchCounts {
        let shared = self.0.shared.lock();
        let watches = shared.values().map(|stream| stream.subscribers()).sum();
        GuestWatchCounts { connections: shared.len(), watches }
    }
}

impl Watches {
    /// Serves a subscriber by a connection of its own, from `position` on.
    fn connect(self: &Arc<Self>, key: Key, position: Position, subscriber: Subscriber) {
        let open = subscriber.open.clone();
        let fence = subscriber.fence.clone();
        let serve = own_connection::serve(Arc::downgrade(self), key, position, subscriber);
        open.serve_by(|| self.spawn(fenced(fence, serve)));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    /// Adds a subscriber that has all changes up to `version` to the shared stream, if it is not ahead. Without a
    /// shared stream, its connection becomes one.
    fn join(
        self: &Arc<Self>,
        key: &Key,
        version: u64,
        lines: Option<Lines>,
        subscriber: Subscriber,
    ) -> Result<(), Box<(Option<Lines>, Subscriber)>> {
        let mut all = self.shared.lock();
        if let Some(stream) = all.get(key) {
            return stream.join(version, subscriber).map_err(|subscriber| Box::new((lines, subscriber)));
        }
        let stream = Arc::new(SharedStream::new(key.clone(), version));
        // It is new, so it is not ahead.
        let _ = stream.join(version, subscriber);
        all.insert(key.clone(), stream.clone());
        drop(all);
        let watches: Weak<Watches> = Arc::downgrade(self);
        self.spawn(stream.run(watches, lines));
        Ok(())
    }

    /// Forgets a stream that nobody needs. Returns whether that is so.
    fn retire(&self, stream: &SharedStream) -> bool {
        let mut all = self.shared.lock();
        let is_unused = stream.subscribers() == 0;
        if is_unused {
            all.remove(stream.key());
        }
        is_unused
    }

    /// Forgets a stream, so that nobody joins it any more.
    fn forget(&self, stream: &SharedStream) {
        self.shared.lock().remove(stream.key());
    }
}
