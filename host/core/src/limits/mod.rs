//! What keeps one controller from taking what the others need: limits as time and amounts in, decisions out. Pure.
//!
//! ```text
//! token_bucket  so much a second, and a burst     request_rate  calls that wait until they may be made
//! cpu_share     when a controller may run again   log_rate      which lines of its log are written
//! problem       what its owner is told, and how often   liveness  when an instance is to begin anew
//! disk_quota    bytes of a snapshot               self_trigger  reconciles that cause themselves
//! ```

pub mod cpu_share;
pub mod disk_quota;
pub mod liveness;
pub mod log_rate;
pub mod problem;
pub mod request_rate;
pub mod self_trigger;
pub mod token_bucket;
