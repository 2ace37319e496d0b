//! Which of several hosts runs which controller. The cluster's Leases decide; there is no store of our own.
//!
//! ```text
//! rendezvous  controllers to live hosts         elector  one host's part: time and answers in, requests out
//! peers       who is alive, as one host sees it  record  what a Lease says
//! fence       may I act, at this moment         timing   durations
//! group       what hosts have to agree on
//! ```
//!
//! A host renews one Lease, its own. A controller's Lease is written when its holder changes, and is held as long as that
//! host's own Lease is renewed, so that the load does not grow with the number of controllers.
//!
//! The clock, the client and what is kept on disk are in `wasmop-api`.

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
