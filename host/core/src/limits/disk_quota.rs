//! How much a controller's snapshot may take on disk.

/// A snapshot has more bytes than its controller may have on disk.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot needs {needs} bytes on disk, and limits.disk is {quota}")]
pub struct OverQuota {
    pub needs: u64,
    pub quota: u64,
}
