//! Status of the host and its controllers, for metrics, probes and people.
//!
//! ```text
//! counters  counters of each controller          problems      current conditions
//! observed  a snapshot of the host's status      save_failure  why a snapshot could not be written
//! state     where an instance is
//! ```

pub mod counters;
pub mod observed;
pub mod problems;
pub mod save_failure;
pub mod state;
