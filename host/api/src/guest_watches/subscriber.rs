//! One watch of a guest: where its answer goes, and what it may still be sent.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use wasmop_core::election::Fence;
use wasmop_core::reply::{CHUNK_BYTES, Reply};

use super::shared_stream::SharedStream;
use crate::election::boot_clock;

/// The head of an answer whose connection the guest shares.
const HEAD: &str = "content-type: application/json\n";

/// A handle of a guest's watch, by which the guest drops it.
#[derive(Clone, Default)]
pub struct OpenWatch(Arc<Mutex<Place>>);

/// What serves a watch at the moment.
#[derive(Default)]
pub(super) enum Place {
    #[default]
    Nothing,
    /// A connection of its own.
    Task(AbortHandle),
    Shared(Weak<SharedStream>),
    /// The guest has dropped it.
    Aborted,
}

impl OpenWatch {
    /// Ends the watch. The guest gets nothing more of it.
    pub fn abort(&self) {
        let place = std::mem::replace(&mut *self.0.lock(), Place::Aborted);
        match place {
            Place::Task(task) => task.abort(),
            Place::Shared(stream) => {
                if let Some(stream) = stream.upgrade() {
                    stream.forget_aborted();
                }
            }
            Place::Nothing | Place::Aborted => {}
        }
    }

    pub(super) fn is_aborted(&self) -> bool {
        matches!(*self.0.lock(), Place::Aborted)
    }

    /// Starts the task that serves it, unless the guest has dropped it. The task may hand it over at once.
    pub(super) fn serve_by(&self, start: impl FnOnce() -> AbortHandle) {
        let mut place = self.0.lock();
        if !matches!(*place, Place::Aborted) {
            *place = Place::Task(start());
        }
    }

    /// The stream serves it from now on.
    pub(super) fn serve_shared(&self, stream: &Arc<SharedStream>) {
        let mut place = self.0.lock();
        if !matches!(*place, Place::Aborted) {
            *place = Place::Shared(Arc::downgrade(stream));
        }
    }
}

/// What came of a delivery without waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Yes,
    /// The guest has not taken enough of what it got before.
    NoCredit,
    /// Nobody waits for it any more.
    Gone,
}

/// One watch of a guest.
pub(super) struct Subscriber {
    send: Box<dyn Fn(Vec<Reply>) + Send + Sync>,
    credit: Arc<Semaphore>,
    pub fence: Option<Arc<Fence>>,
    pub user_agent: HeaderValue,
    takes_bookmarks: bool,
    /// The guest has got the head of the answer.
    has_head: bool,
    pub open: OpenWatch,
}

impl Subscriber {
    pub fn new(
        send: Box<dyn Fn(Vec<Reply>) + Send + Sync>,
        credit: Arc<Semaphore>,
        fence: Option<Arc<Fence>>,
        user_agent: HeaderValue,
        takes_bookmarks: bool,
        open: OpenWatch,
    ) -> Subscriber {
        Subscriber { send, credit, fence, user_agent, takes_bookmarks, has_head: false, open }
    }

    pub fn has_head(&self) -> bool {
        self.has_head
    }

    /// Sends complete lines as soon as there is credit. `None`: nobody waits for them any more.
    pub async fn deliver(&mut self, mut lines: Bytes) -> Option<()> {
        while !lines.is_empty() || !self.has_head {
            let piece = lines.split_to(lines.len().min(CHUNK_BYTES));
            let replies = self.replies(piece);
            self.credit.acquire_many(cost(&replies)).await.ok()?.forget();
            self.send(replies);
        }
        Some(())
    }

    /// Sends complete lines, if there is credit for all of them.
    pub fn try_deliver(&mut self, mut lines: Bytes) -> Delivered {
        if self.open.is_aborted() || !self.may_send() {
            return Delivered::Gone;
        }
        let mut replies = self.replies(lines.split_to(lines.len().min(CHUNK_BYTES)));
        while !lines.is_empty() {
            replies.push(Reply::Body(lines.split_to(lines.len().min(CHUNK_BYTES))));
        }
        if replies.is_empty() {
            return Delivered::Yes;
        }
        match self.credit.try_acquire_many(cost(&replies)) {
            Ok(permits) => permits.forget(),
            Err(_) if self.credit.is_closed() => return Delivered::Gone,
            Err(_) => return Delivered::NoCredit,
        }
        self.send(replies);
        Delivered::Yes
    }

    /// Ends the watch as the API server does at its time-out. `bookmark`: the last one that the guest did not get, so
    /// that its next watch continues from there.
    pub fn end(mut self, bookmark: Option<Bytes>) {
        if self.open.is_aborted() || !self.may_send() {
            return;
        }
        if let Some(bookmark) = bookmark.filter(|_| self.takes_bookmarks) {
            self.try_deliver(bookmark);
        }
        let last = match self.has_head {
            true => Reply::End,
            false => Reply::Failed("the watch ended before it began".into()),
        };
        (self.send)(vec![last]);
    }

    /// Fails a watch that has not begun.
    pub fn fail(self, why: String) {
        (self.send)(vec![Reply::Failed(why)]);
    }

    /// Passes on the API server's refusal.
    pub async fn refuse(self, code: u16, status: Bytes) {
        let head = Reply::Head { status: code, headers: HEAD.into() };
        let replies = match status.is_empty() || status.len() > CHUNK_BYTES {
            true => vec![head, Reply::End],
            false => vec![head, Reply::Body(status), Reply::End],
        };
        if let Ok(permits) = self.credit.acquire_many(cost(&replies)).await {
            permits.forget();
            (self.send)(replies);
        }
    }

    fn may_send(&self) -> bool {
        self.fence.as_ref().is_none_or(|fence| fence.holds(boot_clock::now()))
    }

    /// A piece, after the head if that is due.
    fn replies(&self, piece: Bytes) -> Vec<Reply> {
        let mut replies = Vec::new();
        if !self.has_head {
            replies.push(Reply::Head { status: 200, headers: HEAD.into() });
        }
        if !piece.is_empty() {
            replies.push(Reply::Body(piece));
        }
        replies
    }

    fn send(&mut self, replies: Vec<Reply>) {
        self.has_head = true;
        (self.send)(replies);
    }
}

/// Permits that replies take.
fn cost(replies: &[Reply]) -> u32 {
    u32::try_from(replies.iter().map(Reply::credited_bytes).sum::<usize>()).unwrap_or(u32::MAX)
}
