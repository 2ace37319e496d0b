//! The part of the election that needs a clock, the API server and a state directory. Its rules are in
//! `wasmop_core::election`.
//!
//! ```text
//! driver      the elector, with a clock and a client    leases       requests to the API server and back
//! boot_clock  the clock of the election                 local_state  what a state directory says of the past
//! ```

pub mod boot_clock;
mod driver;
mod leases;
mod local_state;

pub use driver::Election;
pub use leases::Leases;
pub use local_state::LocalState;
