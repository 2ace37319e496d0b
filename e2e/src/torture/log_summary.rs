//! The evidence in a host's log: ready controllers, reconciled objects, problems.

use std::collections::HashMap;

use wasmop_testbed::log::Record;

/// The log of one host so far, in numbers.
#[derive(Clone, Debug, Default)]
pub struct LogSummary {
    /// By controller: where it started from, `snapshot` or `start`.
    pub ready: HashMap<String, String>,
    /// By object: reconciles without an error.
    pub reconciled: HashMap<String, u64>,
    /// By controller: the position of its last suspension in the log.
    pub suspended: HashMap<String, usize>,
    pub suspends: u64,
    pub resumes: u64,
    /// Suspends with requests in flight.
    pub suspends_in_flight: u64,
}

impl LogSummary {
    pub fn by(records: &[Record]) -> LogSummary {
        let mut summary = LogSummary::default();
        for (position, record) in records.iter().enumerate() {
            let controller = record.text("controller");
            match record.message() {
                "controller ready" => {
                    summary.ready.entry(controller.to_owned()).or_insert_with(|| record.text("from").to_owned());
                }
                "reconciled" if ["ok", "requeue"].contains(&record.text("outcome")) => {
                    *summary.reconciled.entry(record.text("object").to_owned()).or_default() += 1;
                }
                "suspended" => {
                    summary.suspended.insert(controller.to_owned(), position);
                    summary.suspends += 1;
                    summary.suspends_in_flight += u64::from(record.number("in_flight") >= Some(1.0));
                }
                "resumed" => summary.resumes += 1,
                _ => {}
            }
        }
        summary
    }
}

/// The first record that a healthy host on a healthy cluster does not write, killed or not.
///
/// That is any warning except a failed reconcile. Some Probes request errors, and requests in flight fail after a kill.
pub fn first_problem(records: &[Record]) -> Option<&Record> {
    records.iter().find(|record| {
        let level = record.text("level");
        if record.text("target") == "guest" {
            return record.message().contains("panicked");
        }
        level == "RAW" || (["WARN", "ERROR"].contains(&level) && record.message() != "reconciled")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: &str, target: &str, message: &str) -> Record {
        Record(serde_json::json!({ "level": level, "target": target, "message": message }))
    }

    #[test]
    fn warnings_and_panics_are_problems_and_failed_reconciles_are_not() {
        for (level, target, message, is_problem) in [
            ("INFO", "wasmop_host", "suspended", false),
            ("WARN", "wasmop_host", "reconciled", false),
            ("WARN", "guest", "reconcile failed", false),
            ("WARN", "guest", "thread main panicked at", true),
            ("WARN", "wasmop_host", "snapshot rejected", true),
            ("WARN", "wasmop_host", "restarted from base image", true),
            ("RAW", "", "thread 'main' panicked at host/src/lib.rs", true),
        ] {
            assert_eq!(first_problem(&[record(level, target, message)]).is_some(), is_problem, "{message}");
        }
    }
}
