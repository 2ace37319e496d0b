//! Decides what a host does with its controllers: events and time in, decisions out, all as plain values.
//!
//! Nothing here reads a clock, a file or a socket, or starts a thread. Time and random numbers are parameters.
//!
//! ```text
//! step             one guest step as data: events in, actions out
//! controller       state machine of one controller         work_queue       its objects, requeues and backoff
//! watch            changes of watched objects              cached_reads     reads answered from watches
//! own_writes       changes made by the controller itself   limits           CPU, requests, logs, memory, disk
//! permissions      requests it may make                    service_account  the identity it makes them with
//! election         which of several hosts runs it          status           counters, conditions, readiness
//! startup          environment and arguments               crash_log        crash reports of guests
//! reply            answers to its requests                 variable_references, registration_id, excerpt
//! control_loop     all of the above in one state machine
//! ```

#![forbid(unsafe_code)]

pub mod cached_reads;
pub mod control_loop;
pub mod controller;
pub mod crash_log;
pub mod election;
pub mod excerpt;
pub mod guest_log;
pub mod guest_watch;
pub mod limits;
pub mod own_writes;
pub mod permissions;
pub mod registration_id;
pub mod reply;
pub mod service_account;
pub mod startup;
pub mod status;
pub mod step;
pub mod variable_references;
pub mod watch;
pub mod work_queue;
