//! Packages: from a core module and a manifest to the one file that a wasmop host runs, and back.
//!
//! ```text
//! core module ─ validate ─ instrument ─┬─ component ─ adapters ─┐
//!                                      └─ memory image ─────────┼─► package ─ parse ─► host, inspect
//! wasmop.toml, registrations ─ manifest ───────────────────────┘
//! ```
//!
//! A component that another tool made becomes a package as it is, of the soft tier (tier.rs).

#![deny(unsafe_code)]

mod adapter;
mod assemble;
mod component;
pub mod external;
mod function_body;
mod image;
mod inspect;
mod instrument;
mod limits;
pub mod manifest;
mod memory_type;
mod module_facts;
mod overhead;
mod package;
pub mod predicate;
mod refusal;
mod section;
mod structure;
mod tier;
mod validate;
mod world;

pub use assemble::{AssembleError, assemble};
pub use image::{ImageError, MemoryImage};
pub use inspect::{Inspection, inspect};
pub use package::{IMAGE_SECTION, MANIFEST_SECTION, Package, PackageError, with_manifest};
pub use refusal::{FunctionRef, Refusal};
pub use structure::Footprint;
pub use tier::Tier;
pub use validate::MAX_MUTABLE_GLOBALS;
