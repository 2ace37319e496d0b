//! Identifies one snapshot in a controller's state file.

/// A snapshot that an instance can be resumed from. Small: the host holds one for each suspended controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRef {
    /// Sequence number of its header.
    pub(super) seq: u64,
    /// The header area that holds it.
    pub(super) area: u8,
    /// Generation of its base image; 0 is the package's.
    pub base_generation: u64,
    /// Bytes on disk, including the controller's own base image.
    pub disk_bytes: u64,
    /// Pages that resumes have copied one by one since the last change of the base image.
    pub(super) copied: u64,
}
