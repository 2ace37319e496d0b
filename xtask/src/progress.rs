//! Lines that say what a long task is doing and since when, on stderr: stdout is for data.

use std::time::{Duration, Instant};

/// The clock of a task.
#[derive(Clone, Copy)]
pub struct Progress {
    begun: Instant,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Progress {
        Progress { begun: Instant::now() }
    }

    /// Prints a line, after the time since the start.
    pub fn say(self, text: &str) {
        eprintln!("{}", line(self.begun.elapsed(), text));
    }
}

fn line(elapsed: Duration, text: &str) -> String {
    let seconds = elapsed.as_secs();
    format!("[{:02}:{:02}] {text}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_minutes_and_seconds() {
        for (seconds, expected) in [(0, "[00:00] x"), (75, "[01:15] x"), (6_000, "[100:00] x")] {
            assert_eq!(line(Duration::from_secs(seconds), "x"), expected);
        }
    }
}
