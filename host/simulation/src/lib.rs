//! Whole hosts in virtual time: the real control loop and the real watches, against an API server, disks, clocks and
//! guests that are values. One seed is one run, and repeats bit for bit.
//!
//! ```text
//!  scenario ─► run ─► hosts (ControlLoop + WatchHub) ─► server ─► cluster
//!                │      │ worker ─► guest    │ disk        ▲
//!                │      └─ election          │             └─ faults
//!                └─► observer, ledger, settled: invariants
//! ```
//!
//! Everything runs on one thread, on tokio's paused clock: time passes only when nothing is left to do at a moment.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod disk;
pub mod election;
pub mod environment;
pub mod faults;
pub mod guest;
pub mod host;
pub mod ledger;
pub mod observer;
pub mod plant;
pub mod random;
pub mod run;
pub mod scenario;
pub mod server;
pub mod settled;
pub mod worker;
pub mod world;
