//! What keeps one controller from taking what the others need: limits as time and amounts in, decisions out. Pure.
//!
//! ```text
//! bucket    so much a second, and a burst     requests  calls that wait until they may be made
//! pace      when a controller may run again   lines     which lines of its log are written
//! problem   what its owner is told, and how often  liveness  when an instance is to begin anew
//! self_trigger  reconciles that cause themselves
//! ```

pub mod bucket;
pub mod lines;
pub mod liveness;
pub mod pace;
pub mod problem;
pub mod requests;
pub mod self_trigger;
