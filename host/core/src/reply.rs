//! The answer to a guest's request, in pieces.

use bytes::Bytes;

/// Most bytes in one `Reply::Body` and in the headers of a `Reply::Head`. A call needs at least twice as much credit.
pub const CHUNK_BYTES: usize = 64 << 10;

/// A piece of the answer. The order is `Head`, any number of `Body`, `End`. `Failed` and `TooLarge` may come at any
/// point and are the last piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Status and headers.
    Head {
        /// HTTP status.
        status: u16,
        /// Lines `name: value\n`.
        headers: String,
    },
    /// A chunk of the body: not empty, at most [`CHUNK_BYTES`].
    Body(Bytes),
    /// The response is complete.
    End,
    /// The response is missing or incomplete: why. The guest may retry the call.
    Failed(String),
    /// The response exceeds `limits.response`.
    TooLarge,
}

impl Reply {
    /// Bytes that count against the controller's credit.
    pub fn credited_bytes(&self) -> usize {
        match self {
            Reply::Head { headers, .. } => headers.len(),
            Reply::Body(bytes) => bytes.len(),
            Reply::End | Reply::Failed(_) | Reply::TooLarge => 0,
        }
    }
}
