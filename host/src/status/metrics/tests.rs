use std::collections::{BTreeMap, BTreeSet};
use std::io::Error as IoError;
use std::time::Duration;

use wasmop_core::guest_watch::GuestWatchCounts;
use wasmop_core::status::counters::{Counters, Totals};
use wasmop_core::status::observed::{Election, Queue};
use wasmop_core::step::StepFault;
use wasmop_core::watch::{ObjectUsage, WatchStatus};
use wasmop_package::Tier;

use super::*;
use crate::status::process;

const DOCS: &str = include_str!("../../../../docs/metrics.md");

fn controller(name: &str, state: State, counters: Counters) -> Controller {
    Controller {
        name: name.into(),
        tier: Tier::Full,
        state,
        resident_bytes: if state == State::Suspended { 0 } else { 1 << 20 },
        queue: Queue { depth: 2, delayed: 1, adds: 7, retries: 3 },
        active: 1,
        requests: 1,
        registered: true,
        unwatched: None,
        counters,
    }
}

/// A host that has seen everything.
fn page() -> Page {
    let now = Duration::from_secs(100);
    let mut troubled = Counters::default();
    troubled.resumed(Duration::from_micros(200));
    troubled.stepped(Duration::from_millis(2));
    troubled.reconciled(ReconcileResult::Success, Duration::from_millis(30));
    troubled.reconciled(ReconcileResult::Error, Duration::from_secs(7));
    troubled.saved(true, 4096, 8192);
    troubled.change_ignored(IgnoredChange::Predicate);
    troubled.cached_read(CachedRead::Hit);
    troubled.save_failed(now, &IoError::from_raw_os_error(libc::ENOSPC));
    troubled.step_failed(StepFault::Panic);
    troubled.restarted();
    troubled.limit_hit(Limit::LogRate);
    troubled.throttled(Limit::CpuShare, Duration::from_millis(1500));
    let mut totals = Totals { watch_events: 9, ..Totals::default() };
    totals.steps.observe(Duration::from_millis(2));
    totals.suspends.observe(Duration::from_micros(60));
    let watch = |objects, follows| WatchStatus {
        resource: "configmaps/v1".into(),
        objects,
        lists: 1,
        synced: true,
        waiting: None,
        follows,
    };
    let observed = Observed {
        now,
        controllers: vec![
            controller("website", State::Resident, troubled),
            controller("quiet", State::Suspended, Counters::default()),
            controller("elsewhere", State::Standby, Counters::default()),
        ],
        watches: vec![watch(3, false), watch(4, true)],
        guest_watches: GuestWatchCounts { connections: 2, watches: 5 },
        totals,
        spare_bytes: 4096,
        code_bytes: 8192,
        memory_budget: Some(64 << 20),
        cached: ObjectUsage { bytes: 300, refused: 1 },
        cache_memory: Some(1 << 20),
        election: Some(Election { identity: "node-1-0a1b2c3d".into(), trouble: None }),
    };
    let requests = Arc::new(RequestCounts::default());
    requests.count(&http::Method::GET, Some(http::StatusCode::OK));
    let external_requests = requests.clone();
    Page { observed: Arc::new(observed), requests, external_requests, process: process::read() }
}

fn text_of(format: Format) -> String {
    let mut text = String::new();
    page().write(format, &mut text).unwrap();
    text
}

/// Name and type of each family, as Prometheus names it.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Name and type of each metric in the tables of docs/metrics.md: `` | `name` | type | labels | meaning | ``.
fn documented() -> BTreeMap<String, String> {
    let cells = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let metrics = cells.filter_map(|(name, rest)| Some((name, rest.split(" | ").next()?)));
    metrics
        .filter(|(_, kind)| ["counter", "gauge", "histogram"].contains(kind))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

#[test]
fn every_metric_is_in_the_documentation_and_every_documented_one_is_served() {
    let (served, documented) = (families(&text_of(Format::Prometheus)), documented());
    let names = |of: &BTreeMap<String, String>| of.iter().map(|(n, t)| format!("{n} {t}")).collect::<BTreeSet<_>>();
    let (served, documented) = (names(&served), names(&documented));
    let undocumented: Vec<_> = served.difference(&documented).collect();
    let unserved: Vec<_> = documented.difference(&served).collect();
    assert!(served.len() > 30 && undocumented.is_empty() && unserved.is_empty(), "{undocumented:?} / {unserved:?}");
}

#[test]
fn every_documented_metric_has_a_sample() {
    let text = text_of(Format::Prometheus);
    for name in documented().keys() {
        let sample =
            |line: &&str| line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['{', ' ', '_']));
        assert!(text.lines().any(|line| sample(&line)), "no sample of {name} in\n{text}");
    }
}

#[test]
fn metrics_have_the_counted_values() {
    let text = text_of(Format::Prometheus);
    for line in [
        r#"controller_runtime_reconcile_total{controller="website",result="success"} 1"#,
        r#"controller_runtime_reconcile_total{controller="website",result="error"} 1"#,
        r#"controller_runtime_reconcile_total{controller="quiet",result="success"} 0"#,
        r#"controller_runtime_reconcile_errors_total{controller="website"} 1"#,
        r#"controller_runtime_reconcile_time_seconds_bucket{controller="website",le="0.05"} 1"#,
        r#"controller_runtime_reconcile_time_seconds_bucket{controller="website",le="+Inf"} 2"#,
        r#"controller_runtime_reconcile_time_seconds_count{controller="website"} 2"#,
        r#"wasmop_controller_state{controller="website",state="resident"} 1"#,
        r#"wasmop_controller_state{controller="quiet",state="resident"} 0"#,
        r#"leader_election_master_status{name="website"} 1"#,
        r#"leader_election_master_status{name="elsewhere"} 0"#,
        r#"wasmop_snapshot_failing{controller="website",reason="DiskFull"} 1"#,
        r#"wasmop_snapshot_written_bytes_total{controller="website"} 4096"#,
        r#"wasmop_step_failures_total{controller="website",cause="panic"} 1"#,
        r#"wasmop_limit_hits_total{controller="website",limit="log-rate"} 1"#,
        r#"wasmop_throttled_seconds_total{controller="website",limit="cpu-share"} 1.5"#,
        r#"wasmop_watched_objects{resource="configmaps/v1"} 7"#,
        r#"wasmop_watches{resource="configmaps/v1"} 1"#,
        r#"wasmop_watches_derived{resource="configmaps/v1"} 1"#,
        "wasmop_guest_watches 5",
        "wasmop_guest_watch_connections 2",
        r#"rest_client_requests_total{code="200",method="GET"} 1"#,
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
    assert!(!text.contains(r#"wasmop_resume_seconds_count{controller="quiet"}"#), "nothing was observed there");
}

#[test]
fn open_metrics_text_ends_with_eof_and_has_units() {
    let text = text_of(Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# UNIT wasmop_controller_resident_bytes bytes\n"), "{text}");
    // A family's samples are together, and no two families have one name.
    let names: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len());
    assert_eq!(names.len(), families(&text_of(Format::Prometheus)).len());
}

#[test]
fn open_metrics_is_negotiated() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::of(prometheus), Format::OpenMetrics);
    assert_eq!(Format::of("*/*"), Format::Prometheus);
    assert_eq!(Format::of(""), Format::Prometheus);
}
