//! What is known of how controllers do, for metrics, probes and people.
//!
//! ```text
//! counters  plain numbers of each controller      problems      what holds as a condition
//! observed  a copy of what the host's loop knows  save_failure  why a snapshot could not be written
//! state     where an instance is
//! ```

pub mod counters;
pub mod observed;
pub mod problems;
pub mod save_failure;
pub mod state;
