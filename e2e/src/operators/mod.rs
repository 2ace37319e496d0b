//! Runs an operator that exists, natively and as a package, through the same story on two control planes, and compares
//! what it did to each cluster.
//!
//! ```text
//! directory ─► Project ─┬─ wasmop init, build, run ──► story ─► phases ─┐
//!                       └─ cargo build / go build ───► story ─► phases ─┴─► Outcome: one row
//! ```

mod cluster_content;
mod comparison;
mod native;
mod outcome;
mod packaged;
mod project;
mod story;

pub use comparison::{Options, compare};
pub use outcome::{Outcome, Step, table};
pub use project::Project;
