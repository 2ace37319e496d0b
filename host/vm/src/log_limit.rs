//! How much a guest may log.

/// Most bytes of log a guest may emit in one step; what exceeds it is dropped with a note.
pub(crate) const MAX_LOG_BYTES_PER_STEP: usize = 256 << 10;
