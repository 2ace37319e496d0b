//! A watch whose objects are all in a wider one of the same identity need not ask the API server: it follows that one.
//!
//! ```text
//!  API server ◄── upstream of all ── index of all ─┬─► those of namespace a ── index
//!                                                  └─► those with app=x ────── index
//! ```
//!
//! Everything else stays as it is: a watch that follows has an index, a journal and listeners of its own, and goes on by
//! itself from where it is as soon as the wider one has trouble or ends. So what it costs is what it cost before,
//! less its connection and what the API server does for it; whole objects are shared.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::narrowing::{Narrowing, labels_of};
use super::shared::{Shared, State};

/// Until a wider watch that is behind is looked at again.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A watch that has all objects of another.
pub(super) struct Wider {
    watch: Weak<Shared>,
    narrowing: Narrowing,
}

/// A watch all of whose objects another one has.
pub(super) struct Narrower {
    watch: Weak<Shared>,
    narrowing: Narrowing,
    /// Set while it follows: tells it that it can no longer.
    let_go: Option<Arc<Notify>>,
}

/// Whether a watch can follow a wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    Now,
    /// As soon as the wider one has seen as much.
    Behind,
    /// Not before it is in order again, if ever.
    No,
}

/// That a watch follows another, until it is dropped.
pub(super) struct Following {
    wider: Arc<Shared>,
    narrower: Arc<Shared>,
    let_go: Arc<Notify>,
}

/// Tells two watches of each other, if the one's objects are all in the other.
pub(super) fn acquaint(wider: &Arc<Shared>, narrower: &Arc<Shared>, narrowing: Narrowing) {
    let mut its = wider.state();
    its.narrower.retain(|narrower| narrower.watch.strong_count() > 0);
    let watch = Arc::downgrade(narrower);
    its.narrower.push(Narrower { watch, narrowing: narrowing.clone(), let_go: None });
    drop(its);
    narrower.state().wider.push(Wider { watch: Arc::downgrade(wider), narrowing });
    narrower.nudged.notify_one();
}

impl State {
    pub fn is_followed(&self) -> bool {
        self.narrower.iter().any(|narrower| narrower.let_go.is_some())
    }

    /// The watches that follow this one, and which of its objects are theirs.
    pub fn followers(&self) -> impl Iterator<Item = (&Narrowing, Arc<Shared>)> {
        let following = self.narrower.iter().filter(|narrower| narrower.let_go.is_some());
        following.filter_map(|narrower| Some((&narrower.narrowing, narrower.watch.upgrade()?)))
    }

    /// Has the others look whether they can follow it.
    pub fn nudge(&self) {
        let others = self.narrower.iter().filter(|narrower| narrower.let_go.is_none());
        others.filter_map(|narrower| narrower.watch.upgrade()).for_each(|watch| watch.nudged.notify_one());
    }

    /// Whoever follows it is on its own.
    pub fn let_go(&mut self) {
        let following = self.narrower.iter_mut().filter_map(|narrower| narrower.let_go.take());
        following.for_each(|let_go| let_go.notify_one());
    }

    fn can_follow(&self, wider: &State, narrowing: &Narrowing) -> Followed {
        let is_fit = !wider.closed && wider.waiting.is_none() && (wider.whole || !self.whole) && !self.widening;
        // What came before tells no more than the key.
        let are_labels_lost = || narrowing.asks_labels() && wider.index.listed().any(|seen| seen.object.is_none());
        match self.reached {
            _ if !is_fit || are_labels_lost() => Followed::No,
            None => Followed::Now,
            // It does not go back in time.
            Some(reached) => match wider.position.filter(|_| wider.synced) {
                None => Followed::No,
                Some(position) if position < reached => Followed::Behind,
                Some(_) => Followed::Now,
            },
        }
    }
}

impl Shared {
    /// Has it follow a wider watch, if there is one that it can follow.
    pub fn follow(self: &Arc<Self>) -> Option<Following> {
        self.wider().into_iter().find_map(|(wider, narrowing)| {
            let mut its = wider.state();
            let mut state = self.state();
            if state.can_follow(&its, &narrowing) != Followed::Now {
                return None;
            }
            let is_it = |narrower: &&mut Narrower| std::ptr::eq(narrower.watch.as_ptr(), &**self);
            let let_go = Arc::new(Notify::new());
            its.narrower.iter_mut().find(is_it)?.let_go = Some(let_go.clone());
            self.catch_up(&mut state, &its, &narrowing);
            drop((state, its));
            Some(Following { wider, narrower: self.clone(), let_go })
        })
    }

    /// Takes over what a wider watch knows.
    fn catch_up(&self, state: &mut State, wider: &State, narrowing: &Narrowing) {
        state.follows = true;
        // The wider one's objects have room already.
        state.index.keep_in(Arc::default());
        if !wider.index.has_begun() {
            return;
        }
        // Labels of what is known by its metadata are not known, by which its own followers may judge.
        state.let_go();
        self.begin_list_of(state);
        for seen in wider.index.listed() {
            let (has_room, object) = (seen.object.is_some(), seen.object.clone());
            let labels = object.as_deref().filter(|_| narrowing.asks_labels()).and_then(labels_of);
            if narrowing.contains(&seen.key, labels) {
                self.apply_to(state, seen, labels, has_room);
            }
        }
        if wider.index.is_complete() {
            self.finish_list_of(state);
            self.set_position_of(state, wider.position);
            if wider.synced {
                self.synced_of(state);
            }
        }
    }

    /// Until there is a wider watch that it can follow.
    pub async fn can_follow(&self) {
        loop {
            let can = self.wider().into_iter().map(|(wider, narrowing)| {
                let its = wider.state();
                self.state().can_follow(&its, &narrowing)
            });
            let can: Vec<_> = can.collect();
            if can.contains(&Followed::Now) {
                return;
            }
            if can.contains(&Followed::Behind) {
                tokio::time::sleep(CATCH_UP).await;
            } else {
                self.nudged.notified().await;
            }
        }
    }

    fn wider(&self) -> Vec<(Arc<Shared>, Narrowing)> {
        let mut state = self.state();
        state.wider.retain(|wider| wider.watch.strong_count() > 0);
        state.wider.iter().filter_map(|wider| Some((wider.watch.upgrade()?, wider.narrowing.clone()))).collect()
    }

    /// Nobody wants it any more.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // Before those that follow it ask for room for what they keep of it.
        state.index.keep_in(Arc::default());
        state.let_go();
    }
}

impl Following {
    /// Until the wider watch is no longer to be followed.
    pub async fn ended(&self) {
        self.let_go.notified().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut its = self.wider.state();
        its.narrower.retain_mut(|narrower| {
            if narrower.let_go.as_ref().is_some_and(|let_go| Arc::ptr_eq(let_go, &self.let_go)) {
                narrower.let_go = None;
            }
            narrower.watch.strong_count() > 0
        });
        drop(its);
        let mut state = self.narrower.state();
        state.follows = false;
        state.index.keep_in(self.narrower.room.clone());
    }
}
