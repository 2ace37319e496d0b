//! Sees everything that happens in a run: keeps the last of it, hashes all of it, and notes the first violation.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// A run with more lines goes round in circles.
const MOST_LINES: u64 = 300_000;
/// So does one with more lines at one moment.
const MOST_LINES_AT_ONCE: u64 = 30_000;
/// Lines kept for the report of a failure.
const KEPT_LINES: usize = 40;

/// What must hold in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// The host keeps the step protocol: each answer once, in order, and no object twice at once.
    Protocol,
    /// What a controller makes the host hold is bounded.
    Bounded,
    /// Credit and connections are given back, once.
    Conserved,
    /// There is a watch exactly while somebody is subscribed to it.
    Subscriptions,
    /// At most one host holds a controller.
    OneHolder,
    /// Nothing is ordered of an instance that is with a worker.
    InstancePlace,
    /// Requeues and timers come in time, over restarts as well.
    Due,
    /// Good controllers get to everything, whatever others do.
    Progress,
    /// In the end nothing is lost: every object was reconciled after its last change.
    NoLostChange,
    /// In the end the children are what their parents say.
    Children,
    /// In the end nothing is left to do.
    Quiet,
    /// The run itself did not panic.
    NoPanic,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was wrong.
    pub message: String,
    /// The time in the world.
    pub at: Duration,
}

/// What a run was, to be compared with another one of the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of all lines.
    pub hash: u64,
    /// How many there were.
    pub lines: u64,
}

struct Seen {
    last: VecDeque<String>,
    hash: Xxh3,
    lines: u64,
    /// The present moment, and lines of it.
    moment: (Duration, u64),
    violation: Option<Violation>,
}

/// The observer of a run.
pub struct Observer {
    begun: Instant,
    prints: bool,
    seen: Mutex<Seen>,
    /// A violation was noted.
    pub failed: Notify,
}

impl Observer {
    /// `prints`: every line goes to stdout.
    pub fn new(prints: bool) -> Observer {
        let seen =
            Seen { last: VecDeque::new(), hash: Xxh3::new(), lines: 0, moment: Default::default(), violation: None };
        Observer { begun: Instant::now(), prints, seen: Mutex::new(seen), failed: Notify::new() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time in the world.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let at = self.now();
        let mut seen = self.seen();
        let mut line = match seen.last.len() < KEPT_LINES {
            true => String::new(),
            false => seen.last.pop_front().unwrap_or_default(),
        };
        line.clear();
        let _ = write!(line, "{:>9}.{:03} {what}", at.as_secs(), at.subsec_millis());
        seen.hash.update(line.as_bytes());
        seen.lines += 1;
        if self.prints {
            println!("{line}");
        }
        seen.last.push_back(line);
        let here = if seen.moment.0 == at { seen.moment.1 + 1 } else { 1 };
        seen.moment = (at, here);
        if seen.violation.is_none() && (seen.lines > MOST_LINES || here > MOST_LINES_AT_ONCE) {
            let message = format!("the run does not come to an end: {} lines, {here} of them now", seen.lines);
            seen.violation = Some(Violation { invariant: Invariant::Progress, message, at });
            drop(seen);
            self.failed.notify_one();
        }
    }

    /// An invariant does not hold. Only the first violation counts.
    pub fn violate(&self, invariant: Invariant, message: fmt::Arguments<'_>) {
        self.note(format_args!("VIOLATION {invariant:?}: {message}"));
        let at = self.now();
        let mut seen = self.seen();
        seen.violation.get_or_insert_with(|| Violation { invariant, message: message.to_string(), at });
        drop(seen);
        self.failed.notify_one();
    }

    /// A request has reached the API server.
    pub fn on_request(&self, host: usize, actor: &str, method: &str, path: &str, status: u16) {
        self.note(format_args!("host {host} {actor}: {method} {path} -> {status}"));
    }

    /// The first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.seen().violation.clone()
    }

    /// What the run was.
    pub fn fingerprint(&self) -> Fingerprint {
        let seen = self.seen();
        Fingerprint { hash: seen.hash.digest(), lines: seen.lines }
    }

    /// The last lines.
    pub fn last_lines(&self) -> Vec<String> {
        self.seen().last.iter().cloned().collect()
    }
}
