//! One connection that serves equal watches of several guests.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use wasmop_core::guest_watch::{Position, Progress};

use super::batch::{Batch, Next};
use super::lines::{Lines, NotOpened};
use super::subscriber::{Delivered, Subscriber};
use super::{Key, Watches};

/// The watch that its subscribers share.
///
/// Invariant: every subscriber has got all changes up to `position`, or to its own `seen` if that is later.
pub(super) struct SharedStream {
    key: Key,
    state: Mutex<State>,
    /// Notified when a subscriber has gone.
    gone: Notify,
}

struct State {
    /// All changes up to this version were read.
    position: u64,
    subscribers: Vec<Member>,
    /// The last bookmark and its version.
    bookmark: Option<(u64, Bytes)>,
}

struct Member {
    subscriber: Subscriber,
    /// The version that the guest knows: of its last change, or of its list. It may be later than the stream's, and earlier
    /// than the last bookmark, which the guest does not get.
    seen: u64,
}

impl SharedStream {
    pub fn new(key: Key, version: u64) -> SharedStream {
        let state = State { position: version, subscribers: Vec::new(), bookmark: None };
        SharedStream { key, state: Mutex::new(state), gone: Notify::new() }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn subscribers(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    /// Adds a subscriber that has all changes up to `version`. Gives it back if the stream is ahead of it.
    pub fn join(self: &Arc<Self>, version: u64, mut subscriber: Subscriber) -> Result<(), Subscriber> {
        let mut state = self.state.lock();
        if version < state.position {
            return Err(subscriber);
        }
        match subscriber.try_deliver(Bytes::new()) {
            Delivered::Yes => {}
            Delivered::NoCredit => return Err(subscriber),
            // Nobody misses it.
            Delivered::Gone => return Ok(()),
        }
        subscriber.open.serve_shared(self);
        state.subscribers.push(Member { subscriber, seen: version });
        Ok(())
    }

    /// Lets go of subscribers whose guests have dropped their watch.
    pub fn forget_aborted(&self) {
        let mut state = self.state.lock();
        state.subscribers.retain(|member| !member.subscriber.open.is_aborted());
        if state.subscribers.is_empty() {
            state.subscribers = Vec::new();
            self.gone.notify_one();
        }
    }

    /// Ends the watches of all subscribers, so that their guests ask again and see why.
    fn end(&self, watches: &Weak<Watches>) {
        if let Some(all) = watches.upgrade() {
            all.forget(self);
        }
        let mut state = self.state.lock();
        let bookmark = state.bookmark.take();
        for Member { subscriber, seen } in std::mem::take(&mut state.subscribers) {
            let later = bookmark.as_ref().filter(|(version, _)| *version > seen);
            subscriber.end(later.map(|(_, line)| line.clone()));
        }
    }

    /// Keeps the watch up until nobody needs it, or the API server refuses it.
    pub async fn run(self: Arc<Self>, watches: Weak<Watches>, mut lines: Option<Lines>) {
        let mut failures = 0;
        loop {
            let Some(all) = watches.upgrade() else { return };
            if all.retire(&self) {
                return;
            }
            let (client, timings) = (all.client.clone(), all.timings);
            drop(all);
            let position = self.state.lock().position;
            let mut open = match lines.take() {
                Some(lines) => lines,
                None => match Lines::open(&client, &self.key, &Position::After(position), None).await {
                    Ok(opened) => opened,
                    Err(NotOpened::Refused { code, .. }) if !matches!(code, 429 | 500..) => {
                        return self.end(&watches);
                    }
                    Err(error) => {
                        tracing::debug!(resource = self.key.stream.resource(), ?error, "a watch cannot continue yet");
                        failures += 1;
                        sleep(timings.delay(failures)).await;
                        continue;
                    }
                },
            };
            let begun = Instant::now();
            if self.follow(&mut open, &watches).await.is_none() {
                return;
            }
            failures = if begun.elapsed() < timings.good { failures + 1 } else { 0 };
            if failures > 0 {
                sleep(timings.delay(failures)).await;
            }
        }
    }

    /// Passes on the lines of one connection until it ends. `None`: the stream is over.
    async fn follow(self: &Arc<Self>, lines: &mut Lines, watches: &Weak<Watches>) -> Option<()> {
        let mut progress = Progress::new(Position::After(self.state.lock().position));
        loop {
            let next = tokio::select! {
                biased;
                () = self.gone.notified() => {
                    if watches.upgrade()?.retire(self) {
                        return None;
                    }
                    continue;
                }
                next = lines.next() => next,
            };
            let Some(line) = next else { return Some(()) };
            let batch = Batch::fill(line, lines, &mut progress);
            let next = batch.next;
            self.publish(batch, &progress, watches);
            match next {
                Next::Lines => {}
                Next::Garbage => return Some(()),
                Next::End => {
                    self.end(watches);
                    return None;
                }
            }
        }
    }

    /// Gives subscribers the lines that they lack. Those without credit get connections of their own.
    fn publish(self: &Arc<Self>, batch: Batch, progress: &Progress, watches: &Weak<Watches>) {
        let mut slow = Vec::new();
        let mut state = self.state.lock();
        let before = state.position;
        let position = progress.version().unwrap_or(before);
        state.position = position;
        if batch.bookmark.is_some() {
            state.bookmark.clone_from(&batch.bookmark);
        }
        let mut members = std::mem::take(&mut state.subscribers);
        members.retain(|member| !member.subscriber.open.is_aborted());
        let had_members = members.len();
        for mut member in members {
            let lines = batch.after(Some(member.seen));
            let delivered = if lines.is_empty() { Delivered::Yes } else { member.subscriber.try_deliver(lines) };
            match delivered {
                Delivered::Yes => {
                    if !batch.lines.is_empty() {
                        member.seen = member.seen.max(position);
                    }
                    state.subscribers.push(member);
                }
                Delivered::NoCredit => slow.push(member),
                Delivered::Gone => {}
            }
        }
        if state.subscribers.len() < had_members || had_members == 0 {
            self.gone.notify_one();
        }
        drop(state);
        let Some(all) = watches.upgrade() else { return };
        for Member { subscriber, seen } in slow {
            // Up to `before` it has all, also if it has got nothing for so long that its own version is compacted.
            all.connect(self.key.clone(), Position::After(seen.max(before)), subscriber);
        }
    }
}
