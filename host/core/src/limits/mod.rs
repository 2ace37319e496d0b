//! Limits that keep one controller from starving the others: time and amounts in, decisions out. Pure.
//!
//! ```text
//! token_bucket  units a second, with a burst         request_rate  throttles requests
//! cpu_share     throttles CPU time                   log_rate      throttles log lines
//! problem       what owners are notified of          liveness      restarts instances that are stuck
//! disk_quota    bytes of a snapshot                  self_trigger  detects reconciles that cause themselves
//! write_storm   slows down controllers that overwrite each other's changes
//! ```

pub mod cpu_share;
pub mod disk_quota;
pub mod liveness;
pub mod log_rate;
pub mod problem;
pub mod request_rate;
pub mod self_trigger;
pub mod token_bucket;
pub mod write_storm;
