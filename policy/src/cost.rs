//! Makes memory kept, CPU used, bytes written and events delayed comparable: everything is counted
//! in byte-seconds, memory held for a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What things are worth in byte-seconds. The defaults are those of a small board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// One second of one core: as many bytes as the node has memory per core, for a second. 2 GiB by
    /// default (a board with 4 cores and 8 GiB; nodes of clouds have 2 to 8 GiB per core).
    pub core_second: f64,
    /// One byte written: that byte, kept for so many seconds. 10 by default: at 200 MB/s, what a
    /// disk of a board does, a disk that is busy then counts as much as a core that is busy.
    pub written_byte: f64,
    /// One second that an event waits for a resume, beyond what is unnoticed. A quarter of a core
    /// second by default: reconciles run in the background, but somebody waits for their result.
    pub waiting_second: f64,
    /// A wait that is lost in the time the change itself took. 10 ms by default, what etcd's
    /// documentation asks of one fsync (p99), and a change needs at least one.
    pub unnoticed_wait: Duration,
}

impl Default for Prices {
    fn default() -> Prices {
        Prices::with_memory_per_core(2 << 30)
    }
}

impl Prices {
    /// For a node with so many bytes of memory per core.
    pub fn with_memory_per_core(bytes: u64) -> Prices {
        let core_second = bytes as f64;
        Prices {
            core_second,
            written_byte: core_second / 200e6,
            waiting_second: core_second / 4.0,
            unnoticed_wait: Duration::from_millis(10),
        }
    }

    /// What one suspend and the resume after it cost, waiting excepted. Its memory is held while
    /// they go on.
    pub fn cycle(&self, cycle: &Cycle, resident_bytes: u64) -> f64 {
        let busy = cycle.suspend.as_secs_f64() + cycle.resume.as_secs_f64();
        busy * (self.core_second + resident_bytes as f64) + cycle.written_bytes as f64 * self.written_byte
    }

    /// What it costs that an event waits for this long.
    pub fn wait(&self, wait: Duration) -> f64 {
        wait.saturating_sub(self.unnoticed_wait).as_secs_f64() * self.waiting_second
    }
}

/// One suspend and the resume after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub suspend: Duration,
    pub resume: Duration,
    pub written_bytes: u64,
}

impl Default for Cycle {
    /// A Rust guest on a local disk (`cargo xtask bench resume`), rounded up.
    fn default() -> Cycle {
        Cycle { suspend: Duration::from_micros(300), resume: Duration::from_micros(300), written_bytes: 64 << 10 }
    }
}

/// What suspending and resuming one controller has cost on this disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Seconds; as the next ones, 0 until it was measured.
    suspend: f32,
    resume: f32,
    written_bytes: f32,
}

impl Measured {
    pub fn suspended(&mut self, took: Duration, written_bytes: u64) {
        follow(&mut self.suspend, took.as_secs_f32());
        follow(&mut self.written_bytes, written_bytes as f32);
    }

    pub fn resumed(&mut self, took: Duration) {
        follow(&mut self.resume, took.as_secs_f32());
    }

    /// The next cycle, as far as can be known.
    pub fn typical(&self) -> Cycle {
        let default = Cycle::default();
        let seconds = |seconds: f32, default| match seconds {
            s if s > 0.0 => Duration::try_from_secs_f32(s).unwrap_or(default),
            _ => default,
        };
        Cycle {
            suspend: seconds(self.suspend, default.suspend),
            resume: seconds(self.resume, default.resume),
            written_bytes: match self.written_bytes {
                b if b > 0.0 => b as u64,
                _ => default.written_bytes,
            },
        }
    }
}

/// Moves an average towards a sample; one outlier moves it by a fraction of itself.
fn follow(average: &mut f32, sample: f32) {
    *average = match *average {
        a if a > 0.0 => a + (sample.clamp(a / 4.0, a * 4.0) - a) / 8.0,
        _ => sample,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_break_even_of_a_small_controller_is_about_a_second() {
        let resident = 2 << 20;
        let seconds = Prices::default().cycle(&Cycle::default(), resident) / resident as f64;
        assert!((0.8..1.2).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_wait_that_nobody_notices_costs_nothing() {
        let prices = Prices::default();
        assert_eq!(prices.wait(Duration::from_millis(9)), 0.0);
        assert!(prices.wait(Duration::from_millis(100)) > 0.0);
    }

    #[test]
    fn one_slow_resume_among_many_changes_little() {
        let mut measured = Measured::default();
        for _ in 0..20 {
            measured.resumed(Duration::from_millis(1));
        }
        measured.resumed(Duration::from_secs(10));
        assert!(measured.typical().resume < Duration::from_micros(1500), "{:?}", measured.typical());
    }

    #[test]
    fn a_disk_that_became_slow_is_noticed_soon() {
        let mut measured = Measured::default();
        measured.resumed(Duration::from_millis(1));
        for _ in 0..25 {
            measured.resumed(Duration::from_millis(50));
        }
        assert!(measured.typical().resume > Duration::from_millis(40), "{:?}", measured.typical());
    }
}
