//! The parts that a [`Slot`](super::slot::Slot) is made of: plain data, each with its own invariants.
//!
//! Parts know nothing of each other or of the loop. The files beside this folder decide.

mod authority;
mod leadership;
mod phase;
mod recovered;
mod requests;
mod slot_id;
mod suspension;
mod throttles;
mod watches;

pub(super) use authority::Authority;
pub use leadership::Leadership;
pub use phase::{InstanceFacts, PackageFacts, Phase};
pub use recovered::Recovered;
pub(super) use requests::{InFlight, SlotRequests, Write};
pub use slot_id::SlotId;
pub use suspension::SaveReason;
pub(super) use suspension::Suspension;
pub(super) use throttles::Throttles;
pub(super) use watches::SlotWatches;
