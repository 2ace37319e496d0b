//! What is wrong with the API server and the network at this moment. Times are those of the world.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Kind;

/// A trouble of the API server or of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Connections are refused.
    Down,
    /// Some requests are answered with 500, 503, 504, or 429 and a wish to wait.
    Errors,
    /// Answers take long, some longer than anybody waits.
    Slow,
    /// Some requests are carried out, and nobody learns of it.
    LostAnswers,
    /// Watches are silent, though their connections live.
    FrozenWatches,
    /// Watches tell some changes twice.
    Duplicates,
    /// A kind is not served.
    MissingKind,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 7] = [
        Fault::Down,
        Fault::Errors,
        Fault::Slow,
        Fault::LostAnswers,
        Fault::FrozenWatches,
        Fault::Duplicates,
        Fault::MissingKind,
    ];
}

/// The faults that last.
#[derive(Debug, Default)]
pub struct Faults {
    until: BTreeMap<Fault, Duration>,
    /// The kind that is not served while [`Fault::MissingKind`] lasts.
    pub missing: Option<Kind>,
    /// How often all watches were cut.
    pub cuts: u64,
    /// Hosts that reach nothing, and until when.
    cut_off: BTreeMap<usize, Duration>,
    /// Hosts that do nothing, and until when.
    paused: BTreeMap<usize, Duration>,
}

impl Faults {
    /// A fault begins, or lasts longer.
    pub fn begin(&mut self, fault: Fault, until: Duration) {
        let end = self.until.entry(fault).or_default();
        *end = until.max(*end);
    }

    /// Whether there is this fault now.
    pub fn has(&self, fault: Fault, now: Duration) -> bool {
        self.until(fault) > now
    }

    /// When it ends, or ended; 0 if there was none.
    pub fn until(&self, fault: Fault) -> Duration {
        self.until.get(&fault).copied().unwrap_or_default()
    }

    /// Whether a kind is not served now.
    pub fn lacks(&self, kind: Kind, now: Duration) -> bool {
        self.missing == Some(kind) && self.has(Fault::MissingKind, now)
    }

    /// A host reaches nothing until then.
    pub fn cut_off(&mut self, host: usize, until: Duration) {
        self.cut_off.insert(host, until);
    }

    /// A host does nothing until then.
    pub fn pause(&mut self, host: usize, until: Duration) {
        self.paused.insert(host, until);
    }

    /// Until when a host reaches nothing; 0 if it reaches everything.
    pub fn cut_off_until(&self, host: usize) -> Duration {
        self.cut_off.get(&host).copied().unwrap_or_default()
    }

    /// Until when a host does nothing; 0 if it was never paused.
    pub fn paused_until(&self, host: usize) -> Duration {
        self.paused.get(&host).copied().unwrap_or_default()
    }

    /// Everything is in order from now on.
    pub fn end_all(&mut self) {
        *self = Faults { cuts: self.cuts, ..Faults::default() };
    }
}
