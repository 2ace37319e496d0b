//! `wasmop top`: what a running host says about itself, as a table.
//!
//! ```text
//! fetch ── overview ──► rows (rates, order) ──► plain   once, for scripts
//!                                          └──► screen  kept up to date
//! ```

pub mod fetch;
mod fitting;
pub mod plain;
mod rows;
pub mod screen;

pub use rows::SortBy;

/// controller-runtime's port for metrics, on loopback.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
