//! Converts memory, CPU time, written bytes and delays to one unit of cost: byte-seconds, which is memory held for a
//! time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Prices in byte-seconds. The defaults model a small board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// One second of one core. It equals the node's memory per core, held for one second.
    ///
    /// The default is 2 GiB, as on a board with 4 cores and 8 GiB. Cloud nodes have 2 to 8 GiB per core.
    pub core_second: f64,
    /// One byte written, as the number of seconds for which one byte of memory costs the same.
    ///
    /// The default is about 10. With it, a disk that writes 200 MB/s costs as much as a busy core. A board's disk
    /// writes about that fast.
    pub written_byte: f64,
    /// One second that an event waits for a resume, beyond `unnoticed_wait`.
    ///
    /// The default is a quarter of a core second: reconciles run in the background, but users wait for their results.
    pub waiting_second: f64,
    /// A wait up to this long costs nothing, because it is short compared with the change itself.
    ///
    /// The default is 10 ms. This is the 99th percentile that etcd's documentation recommends for one fsync, and every
    /// change needs at least one.
    pub unnoticed_wait: Duration,
}

impl Default for Prices {
    fn default() -> Prices {
        Prices::with_memory_per_core(2 << 30)
    }
}

impl Prices {
    /// Returns the prices for a node with this many bytes of memory per core.
    pub fn with_memory_per_core(bytes: u64) -> Prices {
        let core_second = bytes as f64;
        Prices {
            core_second,
            written_byte: core_second / 200e6,
            waiting_second: core_second / 4.0,
            unnoticed_wait: Duration::from_millis(10),
        }
    }

    /// Returns the cost of one suspend and resume, without the wait. Both keep `resident_bytes` in memory while they
    /// run.
    pub fn cycle(&self, cycle: &Cycle, resident_bytes: u64) -> f64 {
        let busy = cycle.suspend.as_secs_f64() + cycle.resume.as_secs_f64();
        busy * (self.core_second + resident_bytes as f64) + cycle.written_bytes as f64 * self.written_byte
    }

    /// Returns the cost of an event's wait.
    pub fn wait(&self, wait: Duration) -> f64 {
        wait.saturating_sub(self.unnoticed_wait).as_secs_f64() * self.waiting_second
    }
}

/// One suspend and the following resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Duration of the suspend.
    pub suspend: Duration,
    /// Duration of the resume.
    pub resume: Duration,
    /// Bytes that the suspend writes to disk.
    pub written_bytes: u64,
}

impl Default for Cycle {
    /// A Rust guest on a local disk, rounded up from `cargo xtask bench resume`.
    fn default() -> Cycle {
        Cycle { suspend: Duration::from_micros(300), resume: Duration::from_micros(300), written_bytes: 64 << 10 }
    }
}

/// Moving averages of the measured cycles of one controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CycleEstimate {
    /// Seconds. This and the other averages are 0 before the first measurement.
    suspend: f32,
    /// Seconds.
    resume: f32,
    written_bytes: f32,
}

impl CycleEstimate {
    /// Records a suspend.
    pub fn suspended(&mut self, took: Duration, written_bytes: u64) {
        follow(&mut self.suspend, took.as_secs_f32());
        follow(&mut self.written_bytes, written_bytes as f32);
    }

    /// Records a resume.
    pub fn resumed(&mut self, took: Duration) {
        follow(&mut self.resume, took.as_secs_f32());
    }

    /// Returns the expected next cycle. Values without a measurement are those of [`Cycle::default`].
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

/// Moves an average toward a sample. A single outlier moves it by at most three eighths of its value.
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
    fn the_default_break_even_of_a_small_controller_is_about_one_second() {
        let resident = 2 << 20;
        let seconds = Prices::default().cycle(&Cycle::default(), resident) / resident as f64;
        assert!((0.8..1.2).contains(&seconds), "{seconds}");
    }

    #[test]
    fn an_unnoticed_wait_costs_nothing() {
        let prices = Prices::default();
        assert_eq!(prices.wait(Duration::from_millis(9)), 0.0);
        assert!(prices.wait(Duration::from_millis(100)) > 0.0);
    }

    #[test]
    fn one_slow_resume_changes_the_estimate_little() {
        let mut estimate = CycleEstimate::default();
        for _ in 0..20 {
            estimate.resumed(Duration::from_millis(1));
        }
        estimate.resumed(Duration::from_secs(10));
        assert!(estimate.typical().resume < Duration::from_micros(1500), "{:?}", estimate.typical());
    }

    #[test]
    fn the_estimate_follows_a_disk_that_becomes_slow() {
        let mut estimate = CycleEstimate::default();
        estimate.resumed(Duration::from_millis(1));
        for _ in 0..25 {
            estimate.resumed(Duration::from_millis(50));
        }
        assert!(estimate.typical().resume > Duration::from_millis(40), "{:?}", estimate.typical());
    }
}
