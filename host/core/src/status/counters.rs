//! What is counted of each controller: events of the host's loop to a few plain numbers.
//!
//! There may be ten thousand suspended controllers, so [`Counters`] is one block without pointers but for
//! [`Trouble`], which only those have with whom something went wrong, and for what only those have that read from the cache. Counts have 32 bits and wrap:
//! Prometheus takes that for a restart and goes on.

use std::time::Duration;

use super::problems::Problems;
use super::save_failure::Reason;
use crate::limits::problem::{Limit, Problem};
use crate::step::StepFault;

/// Upper bounds of the resume histogram's buckets, seconds.
pub const RESUME_BOUNDS: [f64; 6] = [0.0001, 0.0003, 0.001, 0.01, 0.1, f64::INFINITY];
/// Upper bounds of the reconcile histogram's buckets, seconds: some of controller-runtime's.
pub const RECONCILE_BOUNDS: [f64; 5] = [0.005, 0.05, 0.5, 5.0, f64::INFINITY];
/// Of steps and suspends, for the whole host, seconds.
pub const HOST_BOUNDS: [f64; 8] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0, f64::INFINITY];
/// Most characters kept of an error.
const MAX_ERROR: usize = 240;

/// Why a change of a watched object did not wake a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoredChange {
    /// Its predicate says that such a change is none of its business.
    Predicate,
    /// The object belongs to none that the controller watches.
    Unrelated,
    /// The controller has made the change itself.
    OwnWrite,
}

impl IgnoredChange {
    pub const ALL: [IgnoredChange; 3] = [IgnoredChange::Predicate, IgnoredChange::Unrelated, IgnoredChange::OwnWrite];

    pub fn as_str(self) -> &'static str {
        match self {
            IgnoredChange::Predicate => "predicate",
            IgnoredChange::Unrelated => "unrelated",
            IgnoredChange::OwnWrite => "own_write",
        }
    }
}

/// What became of a read that may come from a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedRead {
    /// Answered from the cache.
    Hit,
    /// No watch with objects covers it.
    NotWatched,
    /// The watch is not in order, or has not listed yet.
    NotSynced,
    /// The cache has not seen a write of the controller's own.
    Written,
    /// The cache has no such object.
    Absent,
    /// It is a list that is too large.
    TooLarge,
    /// Its parameters or headers ask for what the cache doesn't have.
    Other,
}

impl CachedRead {
    pub const ALL: [CachedRead; 7] = [
        CachedRead::Hit,
        CachedRead::NotWatched,
        CachedRead::NotSynced,
        CachedRead::Written,
        CachedRead::Absent,
        CachedRead::TooLarge,
        CachedRead::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CachedRead::Hit => "hit",
            CachedRead::NotWatched => "not_watched",
            CachedRead::NotSynced => "not_synced",
            CachedRead::Written => "written",
            CachedRead::Absent => "absent",
            CachedRead::TooLarge => "too_large",
            CachedRead::Other => "other",
        }
    }
}

/// How a reconcile ended, in controller-runtime's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    Success,
    RequeueAfter,
    /// Also one that was cancelled because a step failed on it.
    Error,
}

impl ReconcileResult {
    pub const ALL: [ReconcileResult; 3] =
        [ReconcileResult::Success, ReconcileResult::RequeueAfter, ReconcileResult::Error];

    pub fn as_str(self) -> &'static str {
        match self {
            ReconcileResult::Success => "success",
            ReconcileResult::RequeueAfter => "requeue_after",
            ReconcileResult::Error => "error",
        }
    }
}

/// Of one controller, since the host started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    resume_us: u64,
    reconcile_us: u64,
    step_us: u64,
    pub written_bytes: u64,
    resumes: [u32; RESUME_BOUNDS.len()],
    reconciles: [u32; RECONCILE_BOUNDS.len()],
    requeued: u32,
    failed: u32,
    pub steps: u32,
    pub suspends: u32,
    ignored: [u32; IgnoredChange::ALL.len()],
    /// Of the newest snapshot, 1024 bytes each.
    disk_kib: u32,
    cached_reads: Option<Box<[u32; CachedRead::ALL.len()]>>,
    trouble: Option<Box<Trouble>>,
}

/// What went wrong.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    step_failures: [u32; StepFault::ALL.len()],
    save_failures: [u32; Reason::ALL.len()],
    limit_hits: [u32; Limit::ALL.len()],
    throttled_us: [u64; Limit::ALL.len()],
    pub restarts: u32,
    pub last_error: Option<LastError>,
    pub failing: Option<Failing>,
    pub problems: Problems,
}

#[derive(Clone, Debug)]
pub struct LastError {
    /// On the host's clock.
    pub at: Duration,
    /// What was being reconciled; empty if it was nothing in particular.
    pub object: Box<str>,
    pub message: Box<str>,
}

/// Snapshots cannot be written, or not be put on disk.
#[derive(Clone, Debug)]
pub struct Failing {
    pub reason: Reason,
    /// On the host's clock.
    pub since: Duration,
    pub message: Box<str>,
    /// Written it was; the disk has not confirmed that it will last.
    unsynced: bool,
}

fn add(count: &mut u32) {
    *count = count.wrapping_add(1);
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn bucket(bounds: &[f64], duration: Duration) -> usize {
    let seconds = duration.as_secs_f64();
    bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len() - 1)
}

impl Counters {
    pub fn resumed(&mut self, took: Duration) {
        self.resume_us += micros(took);
        add(&mut self.resumes[bucket(&RESUME_BOUNDS, took)]);
    }

    pub fn stepped(&mut self, took: Duration) {
        self.step_us += micros(took);
        add(&mut self.steps);
    }

    pub fn reconciled(&mut self, result: ReconcileResult, took: Duration) {
        self.reconcile_us += micros(took);
        add(&mut self.reconciles[bucket(&RECONCILE_BOUNDS, took)]);
        match result {
            ReconcileResult::Success => {}
            ReconcileResult::RequeueAfter => add(&mut self.requeued),
            ReconcileResult::Error => add(&mut self.failed),
        }
    }

    pub fn change_ignored(&mut self, why: IgnoredChange) {
        add(&mut self.ignored[why as usize]);
    }

    pub fn cached_read(&mut self, what: CachedRead) {
        add(&mut self.cached_reads.get_or_insert_default()[what as usize]);
    }

    /// A snapshot was written.
    pub fn saved(&mut self, suspended: bool, written_bytes: u64, disk_bytes: u64) {
        if suspended {
            add(&mut self.suspends);
        }
        self.written_bytes += written_bytes;
        self.on_disk(disk_bytes);
        if let Some(trouble) = &mut self.trouble {
            trouble.failing.take_if(|failing| !failing.unsynced);
        }
    }

    /// The newest snapshot has so many bytes.
    pub fn on_disk(&mut self, bytes: u64) {
        self.disk_kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    }

    /// A snapshot could not be written: the condition holds until one is.
    pub fn save_failed(&mut self, now: Duration, error: &std::io::Error) {
        self.fail(now, error, false);
    }

    /// What was written is on disk, or the disk would not say so.
    pub fn settled(&mut self, now: Duration, result: &std::io::Result<()>) {
        match result {
            Ok(()) => {
                if let Some(trouble) = &mut self.trouble {
                    trouble.failing.take_if(|failing| failing.unsynced);
                }
            }
            Err(error) => self.fail(now, error, true),
        }
    }

    fn fail(&mut self, now: Duration, error: &std::io::Error, unsynced: bool) {
        let reason = Reason::of(error);
        let trouble = self.trouble_mut();
        add(&mut trouble.save_failures[reason as usize]);
        let since = trouble.failing.as_ref().filter(|failing| failing.reason == reason).map_or(now, |f| f.since);
        trouble.failing = Some(Failing { reason, since, message: error.to_string().into(), unsynced });
        let what = if unsynced { "could not be put on disk" } else { "could not be written" };
        self.error(now, "", &format!("the snapshot {what}: {error}"));
    }

    pub fn step_failed(&mut self, cause: StepFault) {
        if let Some(at) = StepFault::ALL.iter().position(|c| *c == cause) {
            add(&mut self.trouble_mut().step_failures[at]);
        }
    }

    /// A limit was met once more.
    pub fn limit_hit(&mut self, limit: Limit) {
        add(&mut self.trouble_mut().limit_hits[limit as usize]);
    }

    /// It was held back for so long.
    pub fn throttled(&mut self, limit: Limit, time: Duration) {
        self.trouble_mut().throttled_us[limit as usize] += micros(time);
    }

    pub fn restarted(&mut self) {
        add(&mut self.trouble_mut().restarts);
    }

    /// Becomes the last error. `object` is empty if it was nothing in particular.
    pub fn error(&mut self, at: Duration, object: &str, message: &str) {
        // The first line says what it was; a trap's others are its backtrace.
        let line = message.lines().next().unwrap_or_default();
        let message = match line.char_indices().nth(MAX_ERROR) {
            Some((end, _)) => format!("{}…", &line[..end]).into(),
            None => line.into(),
        };
        self.trouble_mut().last_error = Some(LastError { at, object: object.into(), message });
    }

    /// What the last error says.
    pub fn last_error(&self) -> Option<&str> {
        self.trouble.as_ref()?.last_error.as_ref().map(|last| &*last.message)
    }

    fn trouble_mut(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// As `error`, of something that is a condition, too.
    pub fn problem(&mut self, at: Duration, object: &str, problem: Problem, message: &str) {
        self.error(at, object, message);
        self.trouble_mut().problems.happened(problem, message, at);
    }

    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_deref()
    }

    /// By bucket, and the sum in seconds.
    pub fn resumes(&self) -> (&[u32], f64) {
        (&self.resumes, self.resume_us as f64 / 1e6)
    }

    /// By bucket, and the sum in seconds.
    pub fn reconciles(&self) -> (&[u32], f64) {
        (&self.reconciles, self.reconcile_us as f64 / 1e6)
    }

    pub fn reconciles_with(&self, result: ReconcileResult) -> u64 {
        match result {
            ReconcileResult::Success => {
                total(&self.reconciles).saturating_sub(u64::from(self.requeued) + u64::from(self.failed))
            }
            ReconcileResult::RequeueAfter => self.requeued.into(),
            ReconcileResult::Error => self.failed.into(),
        }
    }

    pub fn step_seconds(&self) -> f64 {
        self.step_us as f64 / 1e6
    }

    pub fn changes_ignored(&self, why: IgnoredChange) -> u64 {
        self.ignored[why as usize].into()
    }

    /// Nothing if it never asked for one.
    pub fn cached_reads(&self) -> impl Iterator<Item = (CachedRead, u64)> {
        let counts = self.cached_reads.as_deref().into_iter();
        counts.flat_map(|counts| CachedRead::ALL.into_iter().zip(counts.iter().map(|n| u64::from(*n))))
    }

    pub fn disk_bytes(&self) -> u64 {
        u64::from(self.disk_kib) << 10
    }
}

impl Trouble {
    pub fn step_failures(&self) -> impl Iterator<Item = (StepFault, u64)> {
        StepFault::ALL.into_iter().zip(self.step_failures).filter(|(_, n)| *n > 0).map(|(cause, n)| (cause, n.into()))
    }

    pub fn limit_hits(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.limit_hits).filter(|(_, n)| *n > 0).map(|(limit, n)| (limit, n.into()))
    }

    /// Seconds.
    pub fn throttled(&self) -> impl Iterator<Item = (Limit, f64)> {
        let times = Limit::ALL.into_iter().zip(self.throttled_us).filter(|(_, us)| *us > 0);
        times.map(|(limit, us)| (limit, us as f64 / 1e6))
    }

    pub fn save_failures(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.save_failures).filter(|(_, n)| *n > 0).map(|(reason, n)| (reason, n.into()))
    }
}

/// All observations of a histogram.
pub fn total(buckets: &[u32]) -> u64 {
    buckets.iter().map(|n| u64::from(*n)).sum()
}

/// Of the whole host, since it started.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub steps: Histogram,
    pub suspends: Histogram,
    /// News of watches: changes, and that all is known.
    pub watch_events: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Histogram {
    pub buckets: [u32; HOST_BOUNDS.len()],
    sum_us: u64,
}

impl Histogram {
    pub fn observe(&mut self, took: Duration) {
        self.sum_us += micros(took);
        add(&mut self.buckets[bucket(&HOST_BOUNDS, took)]);
    }

    pub fn seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests;
