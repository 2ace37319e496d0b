//! The templates, SDKs and port rules at the time of this program's build.

/// An embedded file.
pub struct File {
    /// Its path, with `/` between directories.
    pub path: &'static str,
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
