//! Turns one or two overviews into table rows: cells, rates and order.

use std::cmp::Ordering;
use std::collections::HashMap;

use clap::ValueEnum;
use wasmop_host::status::Overview;
use wasmop_host::status::values::ControllerStatus;

use crate::output;

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    #[default]
    Name,
    State,
    /// Memory.
    Resident,
    Disk,
    Queue,
    Reconciles,
    Errors,
    Resumes,
    Written,
    Restarts,
    /// Controllers whose snapshots fail come first, then the latest error.
    LastError,
}

/// A controller, and its rates per second since the previous overview.
pub struct Row<'a> {
    pub status: &'a ControllerStatus,
    pub reconcile_rate: Option<f64>,
    pub resume_rate: Option<f64>,
}

/// One row per controller, in the host's order.
pub fn rows<'a>(now: &'a Overview, before: Option<&Overview>) -> Vec<Row<'a>> {
    let seconds = before.map_or(0.0, |b| now.host.timestamp_seconds - b.host.timestamp_seconds);
    let known: HashMap<&str, &ControllerStatus> =
        before.iter().flat_map(|b| &b.controllers).map(|c| (c.name.as_str(), c)).collect();
    let rows = now.controllers.iter().map(|status| {
        let old = known.get(status.name.as_str()).filter(|_| seconds > 0.0);
        // A restart of the host resets the counts.
        let rate = |count: fn(&ControllerStatus) -> u64| {
            old.map(|old| count(status).saturating_sub(count(old)) as f64 / seconds)
        };
        Row { status, reconcile_rate: rate(|c| c.reconciles), resume_rate: rate(|c| c.resumes) }
    });
    rows.collect()
}

/// Names and states ascending, numbers descending. Equal rows are sorted by name.
pub fn sort(rows: &mut [Row<'_>], by: SortBy) {
    let order = |a: &ControllerStatus, b: &ControllerStatus| match by {
        SortBy::Name => Ordering::Equal,
        SortBy::State => a.state.cmp(&b.state),
        SortBy::Resident => b.resident_bytes.cmp(&a.resident_bytes),
        SortBy::Disk => b.disk_bytes.cmp(&a.disk_bytes),
        SortBy::Queue => (b.queue_depth, b.queue_delayed).cmp(&(a.queue_depth, a.queue_delayed)),
        SortBy::Reconciles => b.reconciles.cmp(&a.reconciles),
        SortBy::Errors => b.reconcile_errors.cmp(&a.reconcile_errors),
        SortBy::Resumes => b.resumes.cmp(&a.resumes),
        SortBy::Written => b.written_bytes.cmp(&a.written_bytes),
        SortBy::Restarts => b.restarts.cmp(&a.restarts),
        SortBy::LastError => {
            let at = |c: &ControllerStatus| c.last_error.as_ref().map_or(0.0, |e| e.timestamp_seconds);
            b.conditions.len().cmp(&a.conditions.len()).then(at(b).total_cmp(&at(a)))
        }
    };
    rows.sort_by(|a, b| order(a.status, b.status).then_with(|| a.status.name.cmp(&b.status.name)));
}

/// A column.
pub struct Column {
    pub title: &'static str,
    pub by: SortBy,
    pub cell: fn(&Row<'_>, f64) -> String,
}

/// The first two are words, the others numbers. The last one fills the remaining width.
pub const COLUMNS: [Column; 11] = [
    Column { title: "NAME", by: SortBy::Name, cell: |r, _| r.status.name.clone() },
    Column { title: "STATE", by: SortBy::State, cell: |r, _| r.status.state.as_str().into() },
    Column { title: "RESIDENT", by: SortBy::Resident, cell: |r, _| bytes(r.status.resident_bytes) },
    Column { title: "DISK", by: SortBy::Disk, cell: |r, _| bytes(r.status.disk_bytes) },
    Column {
        title: "QUEUE",
        by: SortBy::Queue,
        cell: |r, _| match r.status.queue_delayed {
            0 => r.status.queue_depth.to_string(),
            delayed => format!("{}+{delayed}", r.status.queue_depth),
        },
    },
    Column { title: "RECONCILES", by: SortBy::Reconciles, cell: |r, _| counted(r.status.reconciles, r.reconcile_rate) },
    Column { title: "ERRORS", by: SortBy::Errors, cell: |r, _| r.status.reconcile_errors.to_string() },
    Column { title: "RESUMES", by: SortBy::Resumes, cell: |r, _| counted(r.status.resumes, r.resume_rate) },
    Column { title: "WRITTEN", by: SortBy::Written, cell: |r, _| bytes(r.status.written_bytes) },
    Column { title: "RESTARTS", by: SortBy::Restarts, cell: |r, _| r.status.restarts.to_string() },
    Column { title: "LAST ERROR", by: SortBy::LastError, cell: last_error },
];

/// Without a space, so that scripts can tell columns apart.
fn bytes(bytes: u64) -> String {
    output::bytes(bytes).replace(' ', "")
}

fn counted(count: u64, rate: Option<f64>) -> String {
    match rate {
        None => count.to_string(),
        Some(rate) => format!("{count} {rate:.1}/s"),
    }
}

fn last_error(row: &Row<'_>, now: f64) -> String {
    let conditions = row.status.conditions.iter().map(|c| format!("{}={}", c.kind, c.reason));
    let last = row.status.last_error.iter().map(|error| {
        let object = if error.object.is_empty() { String::new() } else { format!("{}: ", error.object) };
        format!("{} ago {object}{}", age(now - error.timestamp_seconds), error.message)
    });
    conditions.chain(last).collect::<Vec<_>>().join(" ")
}

/// An age in kubectl's format.
fn age(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
pub mod tests {
    use wasmop_core::status::save_failure::Reason;
    use wasmop_core::status::state::State;
    use wasmop_host::status::values::{Condition, ErrorStatus, HostStatus};

    use super::*;

    pub fn controller(name: &str) -> ControllerStatus {
        ControllerStatus {
            name: name.into(),
            tier: wasmop_package::Tier::Full,
            state: State::Suspended,
            resident_bytes: 0,
            disk_bytes: 196_608,
            queue_depth: 0,
            queue_delayed: 0,
            active_reconciles: 0,
            requests_in_flight: 0,
            resumes: 3,
            resume_seconds: 0.0003,
            suspends: 3,
            written_bytes: 262_144,
            steps: 9,
            step_seconds: 0.01,
            reconciles: 5,
            reconcile_errors: 1,
            changes_ignored: 0,
            restarts: 0,
            last_error: None,
            conditions: Vec::new(),
        }
    }

    pub fn overview(timestamp_seconds: f64) -> Overview {
        let host = HostStatus { timestamp_seconds, ..HostStatus::default() };
        let mut busy = controller("backup");
        (busy.state, busy.resident_bytes, busy.queue_delayed) = (State::Busy, 3 << 20, 2);
        let mut failing = controller("certs");
        failing.resident_bytes = 1 << 20;
        failing.last_error = Some(ErrorStatus {
            timestamp_seconds: timestamp_seconds - 130.0,
            object: "default/home".into(),
            message: "the snapshot could not be written".into(),
        });
        failing.conditions = vec![Condition {
            kind: "SnapshotFailing".into(),
            reason: Reason::DiskFull.as_str().into(),
            message: "No space left on device".into(),
            since_timestamp_seconds: timestamp_seconds - 130.0,
        }];
        Overview { host, controllers: vec![controller("website"), busy, failing] }
    }

    #[test]
    fn rates_need_a_previous_overview_and_survive_a_restart_of_the_host() {
        let (mut before, now) = (overview(10.0), overview(12.0));
        assert!(rows(&now, None).iter().all(|r| r.resume_rate.is_none()));
        before.controllers[0].reconciles = 1;
        before.controllers[1].reconciles = 1000;
        before.controllers.pop();
        let rates: Vec<_> = rows(&now, Some(&before)).iter().map(|r| r.reconcile_rate).collect();
        assert_eq!(rates, [Some(2.0), Some(0.0), None]);
    }

    #[test]
    fn names_are_ascending_and_numbers_descending() {
        let now = overview(10.0);
        for (by, expected) in [
            (SortBy::Name, ["backup", "certs", "website"]),
            (SortBy::Resident, ["backup", "certs", "website"]),
            (SortBy::State, ["certs", "website", "backup"]),
            (SortBy::Queue, ["backup", "certs", "website"]),
            (SortBy::LastError, ["certs", "backup", "website"]),
        ] {
            let mut rows = rows(&now, None);
            sort(&mut rows, by);
            assert_eq!(rows.iter().map(|r| &*r.status.name).collect::<Vec<_>>(), expected, "{by:?}");
        }
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [(-1.0, "0s"), (119.0, "119s"), (120.0, "2m"), (7300.0, "2h"), (200_000.0, "2d")] {
            assert_eq!(age(seconds), text);
        }
    }
}
