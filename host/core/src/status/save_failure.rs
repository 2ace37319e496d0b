//! Why a snapshot could not be written, as the reason of a condition.

use std::io::{Error, ErrorKind};

use serde::{Deserialize, Serialize};

use crate::limits::disk_quota::OverQuota;

/// What an owner has to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No room, or the quota is used up.
    DiskFull,
    /// The file system is mounted read-only, as Linux does after errors.
    ReadOnly,
    /// The user the host runs as may not write there any more.
    PermissionDenied,
    /// It would be larger than the controller's `limits.disk`.
    OverQuota,
    /// Anything else that a disk says when it fails.
    IOError,
}

impl Reason {
    pub const ALL: [Reason; 5] =
        [Reason::DiskFull, Reason::ReadOnly, Reason::PermissionDenied, Reason::OverQuota, Reason::IOError];

    pub fn of(error: &Error) -> Reason {
        match error.kind() {
            _ if error.get_ref().is_some_and(|inner| inner.is::<OverQuota>()) => Reason::OverQuota,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::DiskFull,
            ErrorKind::ReadOnlyFilesystem => Reason::ReadOnly,
            ErrorKind::PermissionDenied => Reason::PermissionDenied,
            _ => Reason::IOError,
        }
    }

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
    fn what_the_disk_says_is_named_by_what_is_to_be_mended() {
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
            // As the sync thread passes one error on to several controllers.
            let copy = Error::new(error.kind(), error.to_string());
            assert_eq!(Reason::of(&copy), reason, "{copy}");
        }
    }
}
