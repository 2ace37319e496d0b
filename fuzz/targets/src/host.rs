//! The modules of the host that the targets use.

pub use wasmop_api::connect;
pub use wasmop_api::watch;
pub use wasmop_core::permissions;
pub use wasmop_snapshot as snapshot;
