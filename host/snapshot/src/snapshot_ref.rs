//! A snapshot by its place in a state file.

/// A snapshot that can be resumed from. Small: one per suspended controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRef {
    /// Of its header.
    pub(super) seq: u64,
    pub(super) area: u8,
    /// Generation of the base image it needs; 0: the package's.
    pub base_generation: u64,
    /// Bytes on disk, with a base image of its own.
    pub disk_bytes: u64,
    /// Pages that resumes had to copy one by one since there is this base image.
    pub(super) copied: u64,
}
