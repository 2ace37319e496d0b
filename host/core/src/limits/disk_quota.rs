//! The disk quota of a controller's snapshot.

/// The snapshot exceeds the controller's `limits.disk`.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot needs {needs} bytes on disk, and limits.disk is {quota}")]
pub struct OverQuota {
    /// Bytes that the snapshot needs.
    pub needs: u64,
    /// Bytes that the controller may use.
    pub quota: u64,
}
