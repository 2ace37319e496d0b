//! The registrations of a controller, matched by content when an instance restarts, never by position.
//!
//! An instance numbers its registrations from 0. A restart may change their order, their watches and their number. So
//! the host gives each an id that it never reuses:
//!
//! ```text
//! instance 1 registers   a 0   b 1   c 2        ids 0 1 2
//! it is lost             a –   b –   c –        their queues and watches stay
//! instance 2 registers   c 0   a 1   d 2        ids 2 0 3, c and a with their queues
//! it has registered                             b is retired: its queue and its watches go
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmop_package::manifest::ControllerSpec;

use crate::excerpt::excerpt;
use crate::registration_id::RegistrationId;
use crate::work_queue::{Backoff, SavedQueue, WorkQueue};

/// Most registrations of an instance, including rejected ones.
const MAX_CALLS: u32 = 256;
/// Most watches of one controller, over all registrations.
pub(super) const MAX_WATCHES: usize = 64;
/// Longest registration, in bytes.
pub(super) const MAX_SPEC_BYTES: usize = 64 << 10;

/// A registered reconciler.
#[derive(Debug)]
pub struct Registration {
    /// Its id.
    pub id: RegistrationId,
    /// The objects it reconciles and watches.
    pub spec: Arc<ControllerSpec>,
    /// Its work queue.
    pub queue: WorkQueue,
    /// Failures of its map functions in a row.
    pub(super) map_failures: u32,
    /// Its number in this instance; `None` until the instance registers it.
    index: Option<u32>,
}

impl Registration {
    /// Whether this instance has registered it.
    pub fn is_live(&self) -> bool {
        self.index.is_some()
    }
}

#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// Ordered by id.
    all: Vec<Registration>,
    next_id: u32,
    /// Registrations of this instance, including rejected ones, which it counts too.
    calls: u32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedRegistrations {
    all: Vec<SavedRegistration>,
    calls: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRegistration {
    id: RegistrationId,
    index: u32,
    /// `ControllerSpec` as JSON: postcard can't skip fields.
    spec: String,
    queue: SavedQueue,
}

impl Registrations {
    /// Registrations of this instance.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// All registrations, including those that this instance has not repeated.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.all.iter()
    }

    /// All registrations, mutable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Registration> {
        self.all.iter_mut()
    }

    /// Registrations of this instance.
    pub fn live(&self) -> impl Iterator<Item = &Registration> {
        self.all.iter().filter(|registration| registration.index.is_some())
    }

    /// A registration.
    pub fn get(&self, id: RegistrationId) -> Option<&Registration> {
        self.all.get(self.position(id)?)
    }

    /// A registration, mutable.
    pub fn get_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        let position = self.position(id)?;
        self.all.get_mut(position)
    }

    fn position(&self, id: RegistrationId) -> Option<usize> {
        self.all.binary_search_by_key(&id, |registration| registration.id).ok()
    }

    /// The number of a registration in this instance.
    pub fn index(&self, id: RegistrationId) -> Option<u32> {
        self.get(id)?.index
    }

    /// Number of registrations.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The registration whose turn it is, with its number in this instance. `None` if there is none or this instance
    /// has not registered it.
    pub fn in_turn(&mut self, turn: usize) -> Option<(u32, &mut Registration)> {
        let turn = turn.checked_rem(self.all.len())?;
        let registration = self.all.get_mut(turn)?;
        registration.index.map(|index| (index, registration))
    }

    /// Registers a `ControllerSpec` as JSON.
    ///
    /// # Errors Why the registration is rejected.
    pub fn register(&mut self, json: &str) -> Result<RegistrationId, String> {
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        if json.len() > MAX_SPEC_BYTES {
            return Err(format!("registration has {} bytes; at most {MAX_SPEC_BYTES} are allowed", json.len()));
        }
        let spec: ControllerSpec = serde_json::from_str(json)
            .map_err(|error| format!("registration is not a controller spec: {error}: {}", excerpt(json)))?;
        if index >= MAX_CALLS {
            return Err(format!("more than {MAX_CALLS} registrations"));
        }
        check_watches(self.live().map(|registration| &*registration.spec).chain([&spec]))?;
        if let Some(same) = self.waiting(|registration| *registration.spec == spec) {
            same.index = Some(index);
            return Ok(same.id);
        }
        spec.check_predicates().map_err(|refused| refused.to_string())?;
        // A registration of the same objects keeps its queue; watches may differ.
        if let Some(alike) = self.waiting(|registration| reconcile_the_same(&registration.spec, &spec)) {
            alike.queue.set_max_concurrent(spec.max_concurrent_reconciles);
            alike.queue.set_debounce(spec.debounce());
            (alike.spec, alike.index) = (Arc::new(spec), Some(index));
            return Ok(alike.id);
        }
        let id = RegistrationId(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or("the controller has used up its registration ids")?;
        let mut queue = WorkQueue::new(spec.max_concurrent_reconciles, Backoff::default());
        queue.set_debounce(spec.debounce());
        // Most controllers have one, and each suspended one would keep unused capacity.
        self.all.reserve_exact(1);
        self.all.push(Registration { id, spec: Arc::new(spec), queue, map_failures: 0, index: Some(index) });
        Ok(id)
    }

    /// The first matching registration that this instance has not repeated.
    fn waiting(&mut self, wanted: impl Fn(&Registration) -> bool) -> Option<&mut Registration> {
        self.all.iter_mut().find(|registration| registration.index.is_none() && wanted(registration))
    }

    /// Removes registrations that this instance has not repeated, once it has finished registering.
    pub fn retire(&mut self) -> Vec<RegistrationId> {
        let retired: Vec<_> = self.all.iter().filter(|r| r.index.is_none()).map(|r| r.id).collect();
        if !retired.is_empty() {
            self.all.retain(|registration| registration.index.is_some());
            self.all.shrink_to_fit();
        }
        retired
    }

    /// The instance is lost and the next one registers again. Returns the registrations that a finished instance had
    /// left out.
    pub fn begin_restart(&mut self) -> Vec<RegistrationId> {
        let retired = if self.live().next().is_some() { self.retire() } else { Vec::new() };
        self.all.iter_mut().for_each(|registration| registration.index = None);
        self.calls = 0;
        retired
    }

    /// The registrations for a snapshot.
    pub fn save(&self, now: Duration) -> SavedRegistrations {
        let save = |registration: &Registration| {
            Some(SavedRegistration {
                id: registration.id,
                index: registration.index?,
                spec: serde_json::to_string(&*registration.spec).unwrap_or_default(),
                queue: registration.queue.export(now),
            })
        };
        SavedRegistrations { all: self.all.iter().filter_map(save).collect(), calls: self.calls }
    }

    /// Restores from a snapshot taken `elapsed` ago. `saved` is not trusted.
    pub fn restore(saved: SavedRegistrations, now: Duration, elapsed: Duration) -> Result<Registrations, String> {
        let mut restored = Registrations { calls: saved.calls, ..Registrations::default() };
        restored.all.reserve_exact(saved.all.len());
        for SavedRegistration { id, index, spec, queue: saved } in saved.all {
            let spec: ControllerSpec = serde_json::from_str(&spec).map_err(|e| format!("registration: {e}"))?;
            let is_known = restored.all.iter().any(|other| other.index == Some(index));
            if is_known || index >= restored.calls || id.0 < restored.next_id {
                return Err(format!("registration {id} is there twice"));
            }
            let mut queue = WorkQueue::new(spec.max_concurrent_reconciles, Backoff::default());
            queue.set_debounce(spec.debounce());
            queue.import(saved, now, elapsed);
            restored.next_id = id.0.checked_add(1).ok_or("the controller has used up its registration ids")?;
            restored.all.push(Registration { id, spec: Arc::new(spec), queue, map_failures: 0, index: Some(index) });
        }
        check_watches(restored.all.iter().map(|registration| &*registration.spec))?;
        Ok(restored)
    }
}

/// Whether two registrations reconcile the same objects.
fn reconcile_the_same(a: &ControllerSpec, b: &ControllerSpec) -> bool {
    let (p, q) = (&a.primary, &b.primary);
    a.name == b.name
        && (&a.namespace, &a.namespaces) == (&b.namespace, &b.namespaces)
        && (&p.group, &p.kind) == (&q.group, &q.kind)
        && (&p.label_selector, &p.field_selector) == (&q.label_selector, &q.field_selector)
}

fn check_watches<'a>(specs: impl Iterator<Item = &'a ControllerSpec>) -> Result<(), String> {
    let watches: usize = specs.map(ControllerSpec::watch_count).sum();
    match watches > MAX_WATCHES {
        true => Err(format!("registrations have {watches} watches; at most {MAX_WATCHES} are allowed")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
