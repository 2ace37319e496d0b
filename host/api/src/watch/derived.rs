//! A derived watch takes its objects from a parent watch of the same identity instead of asking the API server.
//!
//! ```text
//!  API server ◄── upstream of all ── index of all ─┬─► namespace a ── index
//!                                                  └─► app=x ──────── index
//! ```
//!
//! A derived watch keeps its own index, journal and subscribers, and shares whole objects with its parent. It saves a
//! connection and the API server's work. When the parent fails or ends, it continues on its own from its position.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::derivation::{Derivation, labels_of};
use super::shared_watch::relatives::{Child, Parent};
use super::shared_watch::{SharedWatch, State};

/// Time after which a child looks again at a parent that is behind it.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Whether a watch can be derived from a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParentState {
    Ready,
    /// The child has seen later resource versions than the parent.
    Behind,
    /// The parent is waiting or closed, or lacks something that the child needs.
    Unfit,
}

/// Derives `child` from `parent` until it is dropped.
pub(super) struct Attachment {
    parent: Arc<SharedWatch>,
    child: Arc<SharedWatch>,
    /// Notified when the parent detaches the child.
    detach: Arc<Notify>,
}

/// Links two watches of which `parent` has all objects of `child`. The child attaches later, when the parent is ready.
pub(super) fn link(parent: &Arc<SharedWatch>, child: &Arc<SharedWatch>, derivation: Derivation) {
    let mut parent_state = parent.state();
    parent_state.children.retain(|child| child.watch.strong_count() > 0);
    let watch = Arc::downgrade(child);
    parent_state.children.push(Child { watch, derivation: derivation.clone(), detach: None });
    drop(parent_state);
    child.state().parents.push(Parent { watch: Arc::downgrade(parent), derivation });
    child.parent_changed.notify_one();
}

impl State {
    fn parent_state(&self, parent: &State, derivation: &Derivation) -> ParentState {
        let is_fit = !parent.closed && parent.waiting.is_none() && (parent.whole || !self.whole) && !self.widening;
        // The index does not keep the labels of objects of which it has metadata only.
        let are_labels_lost = || derivation.asks_labels() && parent.index.listed().any(|seen| seen.object.is_none());
        match self.reached {
            _ if !is_fit || are_labels_lost() => ParentState::Unfit,
            None => ParentState::Ready,
            // A watch never goes back in time.
            Some(reached) => match parent.position.filter(|_| parent.synced) {
                None => ParentState::Unfit,
                Some(position) if position < reached => ParentState::Behind,
                Some(_) => ParentState::Ready,
            },
        }
    }
}

impl SharedWatch {
    /// Attaches the watch to the first parent that is ready.
    pub fn attach(self: &Arc<Self>) -> Option<Attachment> {
        self.parents().into_iter().find_map(|(parent, derivation)| {
            let mut parent_state = parent.state();
            let mut state = self.state();
            if state.parent_state(&parent_state, &derivation) != ParentState::Ready {
                return None;
            }
            let is_self = |child: &&mut Child| std::ptr::eq(child.watch.as_ptr(), Arc::as_ptr(self));
            let detach = Arc::new(Notify::new());
            parent_state.children.iter_mut().find(is_self)?.detach = Some(detach.clone());
            self.catch_up(&mut state, &parent_state, &derivation);
            drop((state, parent_state));
            Some(Attachment { parent, child: self.clone(), detach })
        })
    }

    /// Copies the parent's objects into the index, as a list.
    fn catch_up(&self, state: &mut State, parent: &State, derivation: &Derivation) {
        state.derived = true;
        // The parent's objects are in the budget already.
        state.index.keep_in(Arc::default());
        if !parent.index.has_begun() {
            return;
        }
        // The index drops the labels that this watch's own children may select by.
        state.detach_children();
        self.begin_list_of(state);
        for seen in parent.index.listed() {
            let (has_room, object) = (seen.object.is_some(), seen.object.clone());
            let labels = object.as_deref().filter(|_| derivation.asks_labels()).and_then(labels_of);
            if derivation.contains(&seen.key, labels) {
                self.apply_to(state, seen, labels, has_room);
            }
        }
        if parent.index.is_complete() {
            self.finish_list_of(state);
            self.set_position_of(state, parent.position);
            if parent.synced {
                self.synced_of(state);
            }
        }
    }

    /// Waits until a parent is ready.
    pub async fn parent_ready(&self) {
        loop {
            let states = self.parents().into_iter().map(|(parent, derivation)| {
                let parent_state = parent.state();
                self.state().parent_state(&parent_state, &derivation)
            });
            let states: Vec<_> = states.collect();
            if states.contains(&ParentState::Ready) {
                return;
            }
            if states.contains(&ParentState::Behind) {
                tokio::time::sleep(CATCH_UP).await;
            } else {
                self.parent_changed.notified().await;
            }
        }
    }

    fn parents(&self) -> Vec<(Arc<SharedWatch>, Derivation)> {
        let mut state = self.state();
        state.parents.retain(|parent| parent.watch.strong_count() > 0);
        state.parents.iter().filter_map(|parent| Some((parent.watch.upgrade()?, parent.derivation.clone()))).collect()
    }

    /// Ends the watch when its last subscriber has left.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // Frees the budget before detached children claim it for the objects that they keep.
        state.index.keep_in(Arc::default());
        state.detach_children();
    }
}

impl Attachment {
    /// Waits until the parent detaches the child.
    pub async fn ended(&self) {
        self.detach.notified().await;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut parent_state = self.parent.state();
        parent_state.children.retain_mut(|child| {
            if child.detach.as_ref().is_some_and(|detach| Arc::ptr_eq(detach, &self.detach)) {
                child.detach = None;
            }
            child.watch.strong_count() > 0
        });
        drop(parent_state);
        let mut state = self.child.state();
        state.derived = false;
        state.index.keep_in(self.child.room.clone());
    }
}
