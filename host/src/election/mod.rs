//! Which of several hosts runs which controller. The cluster's Leases decide; there is no store of our own.
//!
//! ```text
//! pure  rendezvous  controllers to live hosts          elector  one host's part: time and answers in, requests out
//!       hosts       who is alive, as one host sees it   record   what a Lease says     timing  durations
//! edge  fence       may I act, at this moment           leases   requests to the API server and back
//!       driver      the elector, with a clock and a client      kept  what a state directory says of the past
//! ```
//!
//! A host renews one Lease, its own. A controller's Lease is written when its holder changes, and is held as long as that
//! host's own Lease is renewed, so that the load does not grow with the number of controllers.

mod driver;
mod elector;
mod fence;
mod hosts;
mod kept;
mod leases;
mod record;
mod rendezvous;
mod timing;

pub use driver::Election;
pub use elector::{News, Trouble};
pub use fence::{Fence, Term, now};
pub use kept::Kept;
pub use record::Tenure;
pub use rendezvous::assigned;
pub use timing::{Timing, TimingError};

/// What hosts that share controllers have to say the same of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Of the hosts that share controllers; a DNS label.
    pub name: String,
    /// Where the Leases are; `None`: where the host is at home.
    pub namespace: Option<String>,
    pub timing: Timing,
}

/// The group's name if none is given.
pub const DEFAULT_GROUP: &str = "wasmop";
