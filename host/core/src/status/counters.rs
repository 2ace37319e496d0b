//! Counters of each controller.
//!
//! A host may have ten thousand suspended controllers, so [`Counters`] is one block of plain numbers. Only controllers
//! with problems have a [`Trouble`], and only those that read from the cache have counters for that. Counts have 32
//! bits and wrap, which Prometheus treats as a restart.

use std::time::Duration;

use super::problems::Problems;
use super::save_failure::Reason;
use crate::limits::problem::{Limit, Problem};
use crate::step::StepFault;

/// Upper bounds of the resume histogram's buckets, in seconds.
pub const RESUME_BOUNDS: [f64; 6] = [0.0001, 0.0003, 0.001, 0.01, 0.1, f64::INFINITY];
/// Upper bounds of the reconcile histogram's buckets, in seconds; a subset of controller-runtime's.
pub const RECONCILE_BOUNDS: [f64; 5] = [0.005, 0.05, 0.5, 5.0, f64::INFINITY];
/// Upper bounds of the host's step and suspend histograms, in seconds.
pub const HOST_BOUNDS: [f64; 8] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0, f64::INFINITY];
/// Most characters kept of an error.
const MAX_ERROR: usize = 240;

/// Why a change of a watched object caused no reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoredChange {
    /// `generation_changed` or a predicate of the watch filters it out.
    Predicate,
    /// No object of the controller depends on the changed one.
    Unrelated,
    /// The controller made the change itself.
    OwnWrite,
}

impl IgnoredChange {
    /// All of them, in the order of the counters.
    pub const ALL: [IgnoredChange; 3] = [IgnoredChange::Predicate, IgnoredChange::Unrelated, IgnoredChange::OwnWrite];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            IgnoredChange::Predicate => "predicate",
            IgnoredChange::Unrelated => "unrelated",
            IgnoredChange::OwnWrite => "own_write",
        }
    }
}

/// How a read that accepts cached data was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedRead {
    /// Answered from the cache.
    Hit,
    /// No watch with whole objects covers it.
    NotWatched,
    /// The watch is not synced.
    NotSynced,
    /// The cache may lack a write of the controller.
    Written,
    /// The cache does not have the object.
    Absent,
    /// The list is too large.
    TooLarge,
    /// Parameters or headers ask for a form that the cache lacks.
    Other,
}

impl CachedRead {
    /// All of them, in the order of the counters.
    pub const ALL: [CachedRead; 7] = [
        CachedRead::Hit,
        CachedRead::NotWatched,
        CachedRead::NotSynced,
        CachedRead::Written,
        CachedRead::Absent,
        CachedRead::TooLarge,
        CachedRead::Other,
    ];

    /// The label in metrics.
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

/// How a reconcile ended, with controller-runtime's labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileResult {
    /// It succeeded.
    Success,
    /// It succeeded and requeued the object.
    RequeueAfter,
    /// It failed, or was cancelled because a step failed.
    Error,
}

impl ReconcileResult {
    /// All of them, in the order of the counters.
    pub const ALL: [ReconcileResult; 3] =
        [ReconcileResult::Success, ReconcileResult::RequeueAfter, ReconcileResult::Error];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ReconcileResult::Success => "success",
            ReconcileResult::RequeueAfter => "requeue_after",
            ReconcileResult::Error => "error",
        }
    }
}

/// Counters of one controller, since the host started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    resume_us: u64,
    reconcile_us: u64,
    step_us: u64,
    /// Bytes written to snapshots.
    pub written_bytes: u64,
    resumes: [u32; RESUME_BOUNDS.len()],
    reconciles: [u32; RECONCILE_BOUNDS.len()],
    requeued: u32,
    failed: u32,
    /// Committed steps.
    pub steps: u32,
    /// Suspends.
    pub suspends: u32,
    ignored: [u32; IgnoredChange::ALL.len()],
    /// Size of the newest snapshot, in units of 1024 bytes.
    disk_kib: u32,
    cached_reads: Option<Box<[u32; CachedRead::ALL.len()]>>,
    trouble: Option<Box<Trouble>>,
}

/// Counters and errors of a controller with problems.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    step_failures: [u32; StepFault::ALL.len()],
    save_failures: [u32; Reason::ALL.len()],
    limit_hits: [u32; Limit::ALL.len()],
    throttled_us: [u64; Limit::ALL.len()],
    /// Restarts of the instance.
    pub restarts: u32,
    /// The last error.
    pub last_error: Option<LastError>,
    /// Set while snapshots cannot be written.
    pub failing: Option<Failing>,
    /// Conditions.
    pub problems: Problems,
}

/// The last error of a controller.
#[derive(Clone, Debug)]
pub struct LastError {
    /// On the host's clock.
    pub at: Duration,
    /// What was being reconciled; empty if it was nothing in particular.
    pub object: Box<str>,
    /// One line for people.
    pub message: Box<str>,
}

/// Snapshots cannot be written or synced to disk.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Why.
    pub reason: Reason,
    /// On the host's clock.
    pub since: Duration,
    /// The I/O error.
    pub message: Box<str>,
    /// The write succeeded and the sync failed.
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
    /// Counts a resume.
    pub fn resumed(&mut self, took: Duration) {
        self.resume_us += micros(took);
        add(&mut self.resumes[bucket(&RESUME_BOUNDS, took)]);
    }

    /// Counts a step.
    pub fn stepped(&mut self, took: Duration) {
        self.step_us += micros(took);
        add(&mut self.steps);
    }

    /// Counts a reconcile.
    pub fn reconciled(&mut self, result: ReconcileResult, took: Duration) {
        self.reconcile_us += micros(took);
        add(&mut self.reconciles[bucket(&RECONCILE_BOUNDS, took)]);
        match result {
            ReconcileResult::Success => {}
            ReconcileResult::RequeueAfter => add(&mut self.requeued),
            ReconcileResult::Error => add(&mut self.failed),
        }
    }

    /// Counts a change that caused no reconcile.
    pub fn change_ignored(&mut self, why: IgnoredChange) {
        add(&mut self.ignored[why as usize]);
    }

    /// Counts a read that accepts cached data.
    pub fn cached_read(&mut self, what: CachedRead) {
        add(&mut self.cached_reads.get_or_insert_default()[what as usize]);
    }

    /// Counts a written snapshot.
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

    /// Sets the size of the newest snapshot.
    pub fn on_disk(&mut self, bytes: u64) {
        self.disk_kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    }

    /// Counts a failed write. The condition holds until a write succeeds.
    pub fn save_failed(&mut self, now: Duration, error: &std::io::Error) {
        self.fail(now, error, false);
    }

    /// Records the result of a sync.
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

    /// Counts a failed step.
    pub fn step_failed(&mut self, cause: StepFault) {
        if let Some(at) = StepFault::ALL.iter().position(|c| *c == cause) {
            add(&mut self.trouble_mut().step_failures[at]);
        }
    }

    /// Counts a reached limit.
    pub fn limit_hit(&mut self, limit: Limit) {
        add(&mut self.trouble_mut().limit_hits[limit as usize]);
    }

    /// Adds time for which a limit throttled the controller.
    pub fn throttled(&mut self, limit: Limit, time: Duration) {
        self.trouble_mut().throttled_us[limit as usize] += micros(time);
    }

    /// Counts a restart of the instance.
    pub fn restarted(&mut self) {
        add(&mut self.trouble_mut().restarts);
    }

    /// Sets the last error. `object` is empty if none was being reconciled.
    pub fn error(&mut self, at: Duration, object: &str, message: &str) {
        // The first line has the message; the others of a trap are its backtrace.
        let line = message.lines().next().unwrap_or_default();
        let message = match line.char_indices().nth(MAX_ERROR) {
            Some((end, _)) => format!("{}…", &line[..end]).into(),
            None => line.into(),
        };
        self.trouble_mut().last_error = Some(LastError { at, object: object.into(), message });
    }

    /// The message of the last error.
    pub fn last_error(&self) -> Option<&str> {
        self.trouble.as_ref()?.last_error.as_ref().map(|last| &*last.message)
    }

    fn trouble_mut(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// Sets the last error, and a condition.
    pub fn problem(&mut self, at: Duration, object: &str, problem: Problem, message: &str) {
        self.error(at, object, message);
        self.trouble_mut().problems.happened(problem, message, at);
    }

    /// Problems, if there were any.
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

    /// Reconciles with this result.
    pub fn reconciles_with(&self, result: ReconcileResult) -> u64 {
        match result {
            ReconcileResult::Success => {
                total(&self.reconciles).saturating_sub(u64::from(self.requeued) + u64::from(self.failed))
            }
            ReconcileResult::RequeueAfter => self.requeued.into(),
            ReconcileResult::Error => self.failed.into(),
        }
    }

    /// Total time of steps, in seconds.
    pub fn step_seconds(&self) -> f64 {
        self.step_us as f64 / 1e6
    }

    /// Changes ignored for this reason.
    pub fn changes_ignored(&self, why: IgnoredChange) -> u64 {
        self.ignored[why as usize].into()
    }

    /// Reads that accept cached data, by outcome. Empty if there were none.
    pub fn cached_reads(&self) -> impl Iterator<Item = (CachedRead, u64)> {
        let counts = self.cached_reads.as_deref().into_iter();
        counts.flat_map(|counts| CachedRead::ALL.into_iter().zip(counts.iter().map(|n| u64::from(*n))))
    }

    /// Size of the newest snapshot, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        u64::from(self.disk_kib) << 10
    }
}

impl Trouble {
    /// Failed steps by fault, without zeros.
    pub fn step_failures(&self) -> impl Iterator<Item = (StepFault, u64)> {
        StepFault::ALL.into_iter().zip(self.step_failures).filter(|(_, n)| *n > 0).map(|(cause, n)| (cause, n.into()))
    }

    /// Reached limits, without zeros.
    pub fn limit_hits(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.limit_hits).filter(|(_, n)| *n > 0).map(|(limit, n)| (limit, n.into()))
    }

    /// Seconds of throttling by limit, without zeros.
    pub fn throttled(&self) -> impl Iterator<Item = (Limit, f64)> {
        let times = Limit::ALL.into_iter().zip(self.throttled_us).filter(|(_, us)| *us > 0);
        times.map(|(limit, us)| (limit, us as f64 / 1e6))
    }

    /// Failed writes by reason, without zeros.
    pub fn save_failures(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.save_failures).filter(|(_, n)| *n > 0).map(|(reason, n)| (reason, n.into()))
    }
}

/// Number of observations of a histogram.
pub fn total(buckets: &[u32]) -> u64 {
    buckets.iter().map(|n| u64::from(*n)).sum()
}

/// Counters of the whole host, since it started.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Durations of steps.
    pub steps: Histogram,
    /// Durations of suspends.
    pub suspends: Histogram,
    /// Events of watches.
    pub watch_events: u64,
}

/// A histogram with the bounds [`HOST_BOUNDS`].
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Observations by bucket.
    pub buckets: [u32; HOST_BOUNDS.len()],
    sum_us: u64,
}

impl Histogram {
    /// Adds an observation.
    pub fn observe(&mut self, took: Duration) {
        self.sum_us += micros(took);
        add(&mut self.buckets[bucket(&HOST_BOUNDS, took)]);
    }

    /// Sum of all observations, in seconds.
    pub fn seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests;
