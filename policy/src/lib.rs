//! Decides when an idle controller is suspended, and whether it is resumed before its next event.
//!
//! The crate is pure: events and times go in, decisions come out. The host carries the decisions out.
//!
//! ```text
//! policy             the policies a user can choose     predictor  the history and decisions of one controller
//! cost               prices of memory, CPU and waiting  budget     which instances to evict when memory is short
//! history            gaps between events                activity   activity traces: CSV and generators
//! stopping           when to suspend                    simulation replays an activity trace under a policy
//! predictive_resume  whether resuming early pays
//! ```
//!
//! `docs/policy.md` has the reasoning and the figures.
//!
//! ```
//! use std::time::Duration;
//! use wasmop_policy::{Decision, Policy, Predictor, Prices, Situation, Trigger};
//!
//! let policy: Policy = "after=1s".parse()?;
//! let mut predictor = Predictor::default();
//! let idle = Situation {
//!     now: Duration::from_secs(10),
//!     resident_bytes: 2 << 20,
//!     known_next: None,
//!     awaiting_answers: false,
//! };
//! let decision = policy.decide(&mut predictor, &idle, &Prices::default());
//! assert_eq!(decision, Decision::Stay { until: Some(Duration::from_secs(11)) });
//! predictor.on_event(Duration::from_secs(12), Trigger::Unscheduled);
//! # Ok::<(), wasmop_policy::PolicyError>(())
//! ```

#![forbid(unsafe_code)]

pub mod activity;
pub mod budget;
mod cost;
mod duration;
mod history;
mod policy;
mod predictive_resume;
mod predictor;
mod random;
pub mod simulation;
mod stopping;

pub use cost::{Cycle, Prices};
pub use duration::parse_duration;
pub use policy::{Policy, PolicyError};
pub use predictor::{Decision, Predictor, Situation, Trigger};
