//! Which lines of a controller's log are written: so many bytes a second, and a few seconds' worth at once.

use std::time::Duration;

use wasmop_package::manifest::Limits;

use super::token_bucket::{Bucket, Rate};

const BURST_SECONDS: u64 = 4;
/// Once lines are dropped, there is to be room for this part of a second's bytes before one is written again. Not for
/// more: writing keeps the host's loop.
const ROOM: u64 = 8;

#[derive(Clone, Copy, Debug, Default)]
pub struct LogThrottle {
    bucket: Bucket,
    /// Lines dropped since one was written.
    dropped: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogVerdict {
    /// It is written. So many were dropped before it, which is to be told.
    Written {
        dropped: u32,
    },
    Dropped,
}

impl LogThrottle {
    /// Whether the line just dropped is not the first one.
    pub fn has_dropped_before(&self) -> bool {
        self.dropped > 1
    }

    pub fn line(&mut self, limits: &Limits, bytes: usize, now: Duration) -> LogVerdict {
        let per_second = limits.log_bytes_per_second;
        let rate = Rate { per_second, burst: per_second.saturating_mul(BURST_SECONDS) };
        // Once some are dropped, all are until there is room again: else the short ones alone would be left.
        let needed = if self.dropped > 0 { (per_second / ROOM).max(bytes as u64) } else { bytes as u64 };
        if self.bucket.ready_at(rate, needed) > now {
            self.dropped = self.dropped.saturating_add(1);
            return LogVerdict::Dropped;
        }
        self.bucket.take(rate, bytes as u64, now);
        LogVerdict::Written { dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { log_bytes_per_second: 1000, ..Limits::NONE };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_dropped_is_counted_and_told_with_the_next_line() {
        let mut lines = LogThrottle::default();
        for (at, bytes, expected) in [
            (0, 4000, LogVerdict::Written { dropped: 0 }),
            (0, 10, LogVerdict::Dropped),
            (10, 10, LogVerdict::Dropped),
            (124, 10, LogVerdict::Dropped),
            (125, 10, LogVerdict::Written { dropped: 3 }),
            (125, 10, LogVerdict::Written { dropped: 0 }),
            (125, 1000, LogVerdict::Dropped),
        ] {
            assert_eq!(lines.line(&LIMITS, bytes, ms(at)), expected, "{bytes} bytes at {at} ms");
        }
    }

    #[test]
    fn a_line_longer_than_all_that_may_be_written_at_once_is_written_after_a_rest() {
        let mut lines = LogThrottle::default();
        assert_eq!(lines.line(&LIMITS, 50_000, ms(0)), LogVerdict::Written { dropped: 0 });
        assert_eq!(lines.line(&LIMITS, 1, ms(49_000)), LogVerdict::Written { dropped: 0 });
    }
}
