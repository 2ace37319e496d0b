//! Leader election: decides which of several hosts runs which controller. The cluster's Leases are the only store.
//!
//! ```text
//! rendezvous  assigns controllers to hosts          elector  state machine of one host: answers in, requests out
//! peers       other hosts, as one host sees them    record   the content of a Lease
//! fence       whether a host may act right now      timing   durations
//! group       settings that hosts share
//! ```
//!
//! A host renews one Lease, its own. It writes a controller's Lease only when the holder changes, and holds it as long
//! as its own Lease is renewed. The load does not grow with the number of controllers.
//!
//! The clock, the client and the local state are in `wasmop-api`.

mod elector;
mod fence;
mod group;
mod peers;
mod record;
mod rendezvous;
mod timing;

pub use elector::{Elector, News, Trouble};
pub use fence::{Fence, Term};
pub use group::{DEFAULT_GROUP, Group};
pub use record::{Answer, Failure, Record, Request, Role, Tenure, Write};
pub use rendezvous::assigned;
pub use timing::{Timing, TimingError};
