//! The I/O of the election: clock, Leases and state directory. Its rules are in `wasmop_core::election`.
//!
//! ```text
//! driver      runs the elector with a clock and client   leases       Leases as requests to the API server
//! boot_clock  the clock of the election                  local_state  the election's files in the state directory
//! ```

pub mod boot_clock;
mod driver;
mod leases;
mod local_state;

pub use driver::Election;
pub use leases::Leases;
pub use local_state::LocalState;
