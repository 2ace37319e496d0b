//! The upstream watches of a controller.

use crate::registration_id::RegistrationId;
use crate::watch::WatchId;

/// The upstream watches of a controller. Invariant: `all` has each watch that any of its subscriptions is on, once.
#[derive(Default)]
pub(in crate::control_loop) struct SlotWatches {
    /// Those of each registration's primary kind, one for each of its namespaces.
    pub primaries: Vec<(RegistrationId, WatchId)>,
    pub all: Vec<WatchId>,
}

impl SlotWatches {
    /// The watches of a registration's primary kind.
    pub fn primaries_of(&self, registration: RegistrationId) -> impl Iterator<Item = WatchId> + '_ {
        self.primaries.iter().filter(move |(of, _)| *of == registration).map(|(_, watch)| *watch)
    }

    pub fn ram_bytes(&self) -> usize {
        self.primaries.capacity() * size_of::<(RegistrationId, WatchId)>() + self.all.capacity() * size_of::<WatchId>()
    }
}
