//! A host under load that is killed at random moments (`kills`), or whose network and API server fail (`faults`).
//!
//! ```text
//! kills           rounds of load, SIGKILL, restart and checks
//! faults          rounds of load, a fault, recovery and checks
//! workload        the objects of one controller: their wanted state, and whether the cluster has reached it
//! kill_point      the phase and the moment of a kill
//! snapshot_files  the snapshots that a kill leaves on disk, whole or torn
//! log_summary     the evidence in a host's log
//! tally           sums over all rounds
//! ```

pub mod faults;
pub mod kill_point;
pub mod kills;
pub mod log_summary;
pub mod snapshot_files;
pub mod tally;
pub mod workload;
