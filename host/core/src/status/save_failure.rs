//! Why a snapshot could not be written, as the reason of a condition.

use std::io::{Error, ErrorKind};

use serde::{Deserialize, Serialize};

use crate::limits::disk_quota::OverQuota;

/// Why a snapshot could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The file system is full, or a quota is used up.
    DiskFull,
    /// The file system is mounted read-only, as Linux does after errors.
    ReadOnly,
    /// The host's user may not write there.
    PermissionDenied,
    /// The snapshot exceeds the controller's `limits.disk`.
    OverQuota,
    /// Any other I/O error.
    IOError,
}

impl Reason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Reason; 5] =
        [Reason::DiskFull, Reason::ReadOnly, Reason::PermissionDenied, Reason::OverQuota, Reason::IOError];

    /// The reason of an I/O error.
    pub fn of(error: &Error) -> Reason {
        match error.kind() {
            _ if error.get_ref().is_some_and(|inner| inner.is::<OverQuota>()) => Reason::OverQuota,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::DiskFull,
            ErrorKind::ReadOnlyFilesystem => Reason::ReadOnly,
            ErrorKind::PermissionDenied => Reason::PermissionDenied,
            _ => Reason::IOError,
        }
    }

    /// The reason of a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::DiskFull => "DiskFull",
            Reason::ReadOnly => "ReadOnly",
            Reason::PermissionDenied => "PermissionDenied",
            Reason::OverQuota => "OverQuota",
            Reason::IOError => "IOError",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_map_to_the_reason_that_the_owner_can_fix() {
        for (errno, reason) in [
            (libc::ENOSPC, Reason::DiskFull),
            (libc::EDQUOT, Reason::DiskFull),
            (libc::EROFS, Reason::ReadOnly),
            (libc::EACCES, Reason::PermissionDenied),
            (libc::EIO, Reason::IOError),
            (libc::EUCLEAN, Reason::IOError),
        ] {
            let error = Error::from_raw_os_error(errno);
            assert_eq!(Reason::of(&error), reason, "{error}");
            // The sync thread passes one error on to several controllers.
            let copy = Error::new(error.kind(), error.to_string());
            assert_eq!(Reason::of(&copy), reason, "{copy}");
        }
    }
}
