//! `wasmop init`: a `wasmop.toml` for an operator that exists, from what its files say.
//!
//! ```text
//! files ─ tree ─► manifests ─► rbac, deployment, crds ─┐
//!           │       └ helm renders charts              ├─► Findings ─ project_file ─► wasmop.toml
//!           └───► cargo_manifest, go_module, markers ──┘
//! ```
//!
//! What the files do not say is a comment in the project file, with the remedy. A file that cannot be understood is
//! skipped.

mod arguments;
mod cargo_manifest;
mod client_calls;
mod controller;
mod crds;
mod deployment;
mod dockerfile;
mod go_module;
mod helm;
mod manifests;
mod markers;
mod name;
mod project_file;
mod rbac;
mod summary;
mod survey;
mod tree;
mod yaml;

pub use controller::Wanted;
pub use project_file::text;
pub use summary::summary;
pub use survey::survey;
