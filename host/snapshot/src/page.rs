//! The unit of memory images and snapshots.

/// Bytes of a page in the snapshot format. Also the kernel's page size on every supported platform; `wasmop-vm` checks
/// that when it starts the engine.
pub const PAGE: usize = 4096;
