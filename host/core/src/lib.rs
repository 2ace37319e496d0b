//! Turns what happens around a controller (events, changes, answers, time) into decisions about it, as plain values.
//!
//! Nothing here reads a clock, a file or a socket, or starts a thread: time and random numbers are parameters.
//!
//! ```text
//! step             a guest's step as data: events in, actions out
//! controller       one controller's state machine        work_queue      its objects, requeues and backoff
//! watch            what watches bring, and for whom       cached_reads    reads answered from watches
//! own_writes       changes that a controller made itself  limits          what it may use
//! permissions      what it may ask for                    service_account  as whom
//! election         which of several hosts runs it         status          how it does
//! startup          what it is started with                crash_log       what it printed while it crashed
//! reply            answers to its requests                registration_id, excerpt
//! ```

#![forbid(unsafe_code)]

pub mod cached_reads;
pub mod control_loop;
pub mod controller;
pub mod crash_log;
pub mod election;
pub mod excerpt;
pub mod limits;
pub mod own_writes;
pub mod permissions;
pub mod registration_id;
pub mod reply;
pub mod service_account;
pub mod startup;
pub mod status;
pub mod step;
pub mod watch;
pub mod work_queue;
