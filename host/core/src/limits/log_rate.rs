//! Throttles a controller's log lines to some bytes a second, with a burst of a few seconds' worth.

use std::time::Duration;

use wasmop_package::manifest::Limits;

use super::token_bucket::{Bucket, Rate};

/// Seconds' worth of bytes that may be written at once.
const BURST_SECONDS: u64 = 4;
/// After lines were dropped, logging resumes once 1/8 s of budget is free. Not more: writing lines blocks the host's
/// loop.
const RESUME_FRACTION: u64 = 8;

/// The log throttle of one controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogThrottle {
    bucket: Bucket,
    /// Lines dropped since the last line written.
    dropped: u32,
}

/// Whether a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogVerdict {
    /// Write the line.
    Written {
        /// Lines dropped before it, which the host reports.
        dropped: u32,
    },
    /// Drop the line.
    Dropped,
}

impl LogThrottle {
    /// Whether the last line dropped followed another dropped line.
    pub fn has_dropped_before(&self) -> bool {
        self.dropped > 1
    }

    /// Decides about a line of `bytes`.
    pub fn line(&mut self, limits: &Limits, bytes: usize, now: Duration) -> LogVerdict {
        let per_second = limits.log_bytes_per_second;
        let rate = Rate { per_second, burst: per_second.saturating_mul(BURST_SECONDS) };
        // Once a line is dropped, all are until budget is free. Otherwise only the short ones would be left.
        let needed = if self.dropped > 0 { (per_second / RESUME_FRACTION).max(bytes as u64) } else { bytes as u64 };
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
    fn dropped_lines_are_counted_and_reported_with_the_next_line() {
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
    fn a_line_longer_than_the_burst_is_written_after_a_pause() {
        let mut lines = LogThrottle::default();
        assert_eq!(lines.line(&LIMITS, 50_000, ms(0)), LogVerdict::Written { dropped: 0 });
        assert_eq!(lines.line(&LIMITS, 1, ms(49_000)), LogVerdict::Written { dropped: 0 });
    }
}
