//! Text for people, on stderr: colours and animated progress on a terminal, plain lines elsewhere. Stdout is only for
//! data.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use console::{Style, Term};
use indicatif::{ProgressBar, ProgressStyle};

use crate::heartbeat::Heartbeat;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub const PLAIN: Paint = Paint { colours: false };

    /// Colours if stderr is a terminal that supports them and `NO_COLOR` is not set.
    pub fn for_stderr() -> Paint {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Paint { colours: wanted && Term::stderr().features().colors_supported() && is_terminal() }
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.colours { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
    }

    pub fn error(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }
    pub fn warning(self, text: &str) -> String {
        self.with(Style::new().yellow().bold(), text)
    }
    pub fn help(self, text: &str) -> String {
        self.with(Style::new().cyan().bold(), text)
    }
    pub fn success(self, text: &str) -> String {
        self.with(Style::new().green().bold(), text)
    }
    pub fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }
    pub fn dim(self, text: &str) -> String {
        self.with(Style::new().dim(), text)
    }
}

/// Whether stderr is a terminal.
pub fn is_terminal() -> bool {
    Term::stderr().features().is_attended()
}

/// Prints a line to stderr. Ignores a closed stderr.
pub fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Prints a warning and its remedy.
pub fn warning(message: &str, help: &str) {
    let paint = Paint::for_stderr();
    line(format!("{} {message}", paint.warning("warning:")));
    line(format!("{} {}", paint.help("help:"), help.trim_end().replace('\n', "\n      ")));
}

/// Writes data to stdout. Ignores a closed pipe (`| head`).
pub fn data(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

/// How often a long step prints a line without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A long step. On a terminal it has a spinner; elsewhere it prints a line at the start, periodically, and at the end.
pub struct Step {
    /// Its text in the last line.
    done: String,
    bar: ProgressBar,
    heartbeat: Option<Heartbeat>,
    begun: Instant,
}

impl Step {
    /// Begins a step. `doing` describes it while it runs ("Compiling"), `done` afterwards ("Compiled").
    pub fn begin(doing: impl Into<Cow<'static, str>>, done: impl Into<String>) -> Step {
        let doing = doing.into();
        let (bar, heartbeat) = if is_terminal() {
            (ProgressBar::new_spinner(), None)
        } else {
            line(format!("{doing} …"));
            let doing = doing.clone();
            let print = move |elapsed, message: &str| line(progress_line(&doing, elapsed, message));
            (ProgressBar::hidden(), Some(Heartbeat::start(HEARTBEAT, print)))
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix:.bold} {elapsed:.dim} {wide_msg:.dim}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(doing);
        bar.enable_steady_tick(Duration::from_millis(120));
        Step { done: done.into(), bar, heartbeat, begun: Instant::now() }
    }

    /// Sets the current activity, which is the rest of the spinner's line.
    pub fn message(&self, text: impl Into<Cow<'static, str>>) {
        let text = text.into();
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.set_message(&text);
        }
        self.bar.set_message(text);
    }

    /// Prints a line above the spinner.
    pub fn line(&self, text: impl AsRef<str>) {
        self.bar.suspend(|| line(text));
    }

    /// Ends the step with its result. A step that is dropped instead has failed and prints no line.
    pub fn done(mut self, result: impl AsRef<str>) {
        self.bar.finish_and_clear();
        drop(self.heartbeat.take());
        let paint = Paint::for_stderr();
        let result = result.as_ref();
        let separator = if result.is_empty() { "" } else { "  " };
        line(format!(
            "{} {}{separator}{result} {}",
            paint.success("✓"),
            self.done,
            paint.dim(&format!("({})", duration(self.begun.elapsed())))
        ));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `Compiling web with cargo … (30 s) Compiling serde v1.0.228`.
fn progress_line(doing: &str, elapsed: Duration, message: &str) -> String {
    format!("{doing} … ({}) {message}", duration(elapsed)).trim_end().to_owned()
}

/// A duration in short form: `0.4 s`, `12 s`, `2 min 5 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
    }
}

/// A number of bytes in short form: `512 B`, `1.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value >= 100.0 => format!("{value:.0} {}", UNITS[unit]),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (888_420, "868 KiB"),
            (1_468_006, "1.4 MiB"),
            (64 << 20, "64.0 MiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn a_progress_line_has_the_time_and_the_activity() {
        let elapsed = Duration::from_secs(30);
        assert_eq!(progress_line("Compiling web", elapsed, "Compiling x v1"), "Compiling web … (30 s) Compiling x v1");
        assert_eq!(progress_line("Packaging", elapsed, ""), "Packaging … (30 s)");
    }

    #[test]
    fn durations_lose_digits_as_they_grow() {
        for (millis, text) in [(40, "0.0 s"), (420, "0.4 s"), (12_300, "12 s"), (125_000, "2 min 5 s")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
