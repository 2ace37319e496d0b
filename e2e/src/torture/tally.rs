//! Sums over all rounds of a run, as a summary and as figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::kill_point::Phase;
use super::log_summary::LogSummary;
use super::snapshot_files::{Condition, SnapshotFiles};
use crate::rows::{Rows, percentile};

/// Sums over all rounds.
#[derive(Debug, Default)]
pub struct Tally {
    pub rounds: u64,
    pub passed: u64,
    /// Failed rounds with their reasons. The first line names round and seed.
    pub failures: Vec<String>,
    kills: BTreeMap<Phase, u64>,
    /// Hosts that had stopped after SIGTERM before the kill.
    pub finished: u64,
    /// Directories of controllers that were removed.
    pub forgotten: u64,
    pub objects: u64,
    suspends: u64,
    suspends_in_flight: u64,
    resumes: u64,
    /// Snapshot files, counted per controller and kill.
    whole: u64,
    none: u64,
    older: u64,
    torn_headers: u64,
    recoveries: Vec<Duration>,
}

impl Tally {
    pub fn killed(&mut self, phase: Phase) {
        *self.kills.entry(phase).or_default() += 1;
    }

    pub fn host(&mut self, summary: &LogSummary) {
        self.suspends += summary.suspends;
        self.suspends_in_flight += summary.suspends_in_flight;
        self.resumes += summary.resumes;
    }

    pub fn found(&mut self, found: &SnapshotFiles) {
        self.whole += u64::from(found.newest == Some(Condition::Whole));
        self.none += u64::from(!found.has_whole());
        self.older += u64::from(found.newest == Some(Condition::Torn) && found.older_whole);
        self.torn_headers += found.torn_headers as u64;
    }

    /// Adds the time from the start of a host until every object had its wanted state.
    pub fn recovered(&mut self, took: Duration) {
        self.recoveries.push(took);
    }

    fn recovery_ms(&self, percent: usize) -> f64 {
        let mut sorted: Vec<f64> = self.recoveries.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, percent)
    }

    pub fn rows(&self, took: Duration) -> Rows {
        let mut rows = Rows::new("torture-kill");
        let at = (Some(self.rounds), None);
        let mut count = |metric: &str, value: u64| rows.push("all", at, metric, "count", value as f64);
        count("rounds_failed", self.failures.len() as u64);
        for (phase, kills) in &self.kills {
            count(&format!("kills_{}", phase.name().replace(' ', "_")), *kills);
        }
        for (metric, value) in [
            ("shutdowns_finished", self.finished),
            ("memories_removed", self.forgotten),
            ("objects_converged", self.objects),
            ("suspends", self.suspends),
            ("suspends_in_flight", self.suspends_in_flight),
            ("resumes", self.resumes),
            ("snapshots_whole", self.whole),
            ("snapshots_none", self.none),
            ("snapshots_older_whole", self.older),
            ("headers_torn", self.torn_headers),
        ] {
            count(metric, value);
        }
        rows.push("all", at, "recovery_p50", "ms", self.recovery_ms(50));
        rows.push("all", at, "recovery_p99", "ms", self.recovery_ms(99));
        rows.push("all", at, "seconds", "s", took.as_secs_f64());
        rows
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases: Vec<String> = self.kills.iter().map(|(phase, kills)| format!("{} {kills}", phase.name())).collect();
        write!(
            f,
            "{} rounds, {} kills ({}), {} shutdowns finished; {} objects converged, {} suspends, {} resumes; \
             after a kill: the newest snapshot whole {} times, only an older one {} times, {} headers torn, none {} times",
            self.rounds,
            self.kills.values().sum::<u64>(),
            phases.join(", "),
            self.finished,
            self.objects,
            self.suspends,
            self.resumes,
            self.whole,
            self.older,
            self.torn_headers,
            self.none,
        )
    }
}
