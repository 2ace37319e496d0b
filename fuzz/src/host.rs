//! The modules of the host that the targets use.

pub use wasmop_host::connect;
pub use wasmop_host::permissions;
pub use wasmop_host::snapshot;
