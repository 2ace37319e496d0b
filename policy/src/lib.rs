//! When a controller that has nothing to do is suspended, and when it is resumed ahead of its next
//! event. Pure: events and time in, decisions out; the host does the rest.
//!
//! ```text
//! policy      what a user may ask for               predictor  one controller's history; decides for it
//! cost        what memory, CPU and waiting are      budget     which instances go when memory is short
//!             worth
//! history     gaps between events, compactly        simulate   a trace replayed under a policy
//! ahead       whether resuming early pays           trace      times of events: CSV, and generators
//! ```
//!
//! `docs/policy.md` has the reasoning and the figures.

#![deny(unsafe_code)]

mod ahead;
pub mod budget;
mod cost;
mod duration;
mod history;
mod policy;
mod predictor;
mod random;
pub mod simulate;
mod stopping;
pub mod trace;

pub use cost::{Cycle, Prices};
pub use duration::parse_duration;
pub use policy::{Policy, PolicyError};
pub use predictor::{Cause, Decision, Predictor, Situation};
