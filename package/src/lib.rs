//! Packages: builds the file that a wasmop host runs from a core module and a manifest, and parses it.
//!
//! ```text
//! core module ─ validate ─ instrument ─┬─ component ─ adapters ─┐
//!                                      └─ memory image ─────────┼─► package ─ parse ─► host, inspect
//! wasmop.toml, registrations ─ manifest ───────────────────────┘
//! ```
//!
//! A component from another tool is packaged unchanged, in the soft tier; see [`Tier`].
//!
//! ```no_run
//! use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};
//!
//! let manifest = Manifest::new("website", "0.1.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"));
//! let bytes = wasmop_package::assemble(&std::fs::read("website.wasm")?, &manifest)?;
//! let package = wasmop_package::Package::parse(bytes)?;
//! assert_eq!(package.manifest.name, "website");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod adapter;
mod assemble;
mod component;
pub mod external;
mod function_body;
mod image;
mod imports;
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
pub mod traps;
mod validate;
mod world;

pub use assemble::{AssembleError, assemble};
pub use image::{MemoryImage, MemoryImageError};
pub use imports::{CoreImport, core_imports};
pub use inspect::{Inspection, inspect};
pub use package::{IMAGE_SECTION, MANIFEST_SECTION, Package, PackageError, with_manifest};
pub use refusal::{FunctionRef, Refusal};
pub use structure::Footprint;
pub use tier::Tier;
pub use validate::MAX_MUTABLE_GLOBALS;
