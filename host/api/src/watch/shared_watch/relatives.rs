//! The parents and children of a watch: a parent has all objects of its children.

use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::{SharedWatch, State};
use crate::watch::derivation::Derivation;

/// A watch that has all objects of another.
pub struct Parent {
    pub watch: Weak<SharedWatch>,
    pub derivation: Derivation,
}

/// A watch that can be derived from another.
pub struct Child {
    pub watch: Weak<SharedWatch>,
    pub derivation: Derivation,
    /// Set while the child is attached; notified when the parent detaches it.
    pub detach: Option<Arc<Notify>>,
}

impl State {
    pub fn has_attached_children(&self) -> bool {
        self.children.iter().any(|child| child.detach.is_some())
    }

    /// The watches derived from this one, and which of its objects they have.
    pub fn attached_children(&self) -> impl Iterator<Item = (&Derivation, Arc<SharedWatch>)> {
        let attached = self.children.iter().filter(|child| child.detach.is_some());
        attached.filter_map(|child| Some((&child.derivation, child.watch.upgrade()?)))
    }

    /// Has detached children check whether they can attach.
    pub fn notify_children(&self) {
        let others = self.children.iter().filter(|child| child.detach.is_none());
        others.filter_map(|child| child.watch.upgrade()).for_each(|watch| watch.parent_changed.notify_one());
    }

    /// Detaches all children, which then ask the API server themselves.
    pub fn detach_children(&mut self) {
        let attached = self.children.iter_mut().filter_map(|child| child.detach.take());
        attached.for_each(|detach| detach.notify_one());
    }
}
