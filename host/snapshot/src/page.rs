//! The unit of memory images and snapshots.

/// Bytes in a page as the snapshot format counts them; also the kernel's page size on every
/// platform the host supports (the engine checks it).
pub const PAGE: usize = 4096;
