//! The limit of a step's log, for both of its sources: the world's `log` and WASI's standard streams.

/// Most bytes that a guest may log in one step. The host drops the rest and adds a note.
pub(crate) const MAX_LOG_BYTES_PER_STEP: usize = 256 << 10;
