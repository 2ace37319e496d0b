//! The watches around one: those that have all of its objects, and those that may follow it.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::{Shared, State};
use crate::watch::narrowing::Narrowing;

/// A watch that has all objects of another.
pub struct Wider {
    pub watch: Weak<Shared>,
    pub narrowing: Narrowing,
}

/// A watch all of whose objects another one has.
pub struct Narrower {
    pub watch: Weak<Shared>,
    pub narrowing: Narrowing,
    /// Set while it follows: tells it that it can no longer.
    pub let_go: Option<Arc<Notify>>,
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
}
