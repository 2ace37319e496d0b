//! The answer to a guest's request, in the pieces in which it arrives.

use bytes::Bytes;

/// Most bytes in one `Reply::Body`, and in the headers of a `Reply::Head`. A call's credit must be at least twice this.
pub const CHUNK_BYTES: usize = 64 << 10;

/// A piece of the answer, in the order `Head`, any number of `Body`, `End`; or at any point
/// `Failed`, which is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Head {
        status: u16,
        /// Lines `name: value\n`.
        headers: String,
    },
    /// Not empty, at most `CHUNK_BYTES`.
    Body(Bytes),
    End,
    /// No response, or not all of it. The call may be retried.
    Failed(String),
    /// The response has more bytes than it may; the last reply, as `Failed` is.
    TooLarge,
}

impl Reply {
    /// Bytes for which credit was taken.
    pub fn credited_bytes(&self) -> usize {
        match self {
            Reply::Head { headers, .. } => headers.len(),
            Reply::Body(bytes) => bytes.len(),
            Reply::End | Reply::Failed(_) | Reply::TooLarge => 0,
        }
    }
}
