//! `wasmop top`: the controllers of a running host, as a table.
//!
//! ```text
//! fetch ── overview ──► rows (rates, order) ──► plain   once, for scripts
//!                                          └──► screen  refreshed
//! ```

pub mod fetch;
mod fitting;
pub mod plain;
mod rows;
pub mod screen;

pub use rows::SortBy;

/// controller-runtime's metrics port, on loopback.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
