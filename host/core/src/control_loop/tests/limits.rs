//! Limits that hold a controller back, and what its owner is told of them.

use wasmop_package::manifest::{Limits, Relation};

use super::super::{SlotId, SpanEvent};
use super::environment::object;
use super::harness::*;
use crate::limits::problem::Limit;
use crate::step::EventKind;

const TIMEOUT: u64 = 60;

fn with_timeout() -> Setup {
    Setup { limits: Limits { reconcile_timeout_ns: TIMEOUT * 1_000_000_000, ..Limits::NONE }, ..setup("web") }
}

/// A reconcile of `web/home` that does not end by itself.
fn hanging() -> (Harness, SlotId, u64) {
    let (mut host, id) = Harness::running_with(with_timeout(), &websites());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    (host, id, task)
}

#[test]
fn a_reconcile_that_takes_too_long_is_cancelled_and_tried_again() {
    let (mut host, id, task) = hanging();
    let begun = host.now.host;
    host.does(id, vec![]);
    assert_eq!(host.control.next_wake(), Some(begun + secs(TIMEOUT)));
    host.advance(secs(TIMEOUT));
    let notice = host.notices().remove(0);
    assert_eq!(notice.problem.reason(), "ReconcileTimedOut");
    assert!(notice.message.starts_with("the reconcile was cancelled: it took longer than 60s"), "{}", notice.message);
    assert_eq!(notice.object.map(|(_, key)| key), Some("web/home".into()));
    assert_eq!(host.limit_hits(id), [("reconcile-timeout", 1)]);
    assert_eq!((host.kinds(id), host.events(id)[0].id), (vec![EventKind::Cancel], task));
    host.does(id, vec![]);
    host.advance(ms(5));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

#[test]
fn time_is_up_for_an_instance_with_a_worker_once_it_is_back() {
    let (mut host, id, _) = hanging();
    host.advance(secs(2 * TIMEOUT));
    assert!(host.reasons().is_empty());
    assert_eq!(host.control.next_wake(), None);
    host.does(id, vec![]);
    assert_eq!(host.reasons(), ["ReconcileTimedOut"]);
}

#[test]
fn the_calls_of_a_reconcile_end_with_it() {
    let (mut host, id, task) = hanging();
    host.does(id, vec![call(1, task, "GET", "/api/v1/pods"), get(2, "/api/v1/pods")]);
    assert_eq!(host.sent(), [1, 2]);
    host.advance(secs(TIMEOUT));
    assert_eq!(host.aborted(), [1]);
}

#[test]
fn a_reconcile_that_is_overdue_makes_no_request_any_more() {
    let (mut host, id, task) = hanging();
    host.advance(secs(TIMEOUT));
    host.does(id, vec![call(1, task, "GET", "/api/v1/pods"), get(2, "/api/v1/pods")]);
    assert_eq!((host.sent(), host.aborted()), (vec![2], vec![]));
    assert_eq!(host.reasons(), ["ReconcileTimedOut"]);
}

#[test]
fn only_a_reconcile_that_waits_for_nothing_speaks_against_the_instance() {
    for waits in [false, true] {
        let (mut host, id) = Harness::running_with(with_timeout(), &websites());
        let watch = host.watch("Website");
        let all = ["web/a", "web/b", "web/c"].map(object);
        host.control.environment_mut().list(watch, &all);
        host.deliver_together();
        let tasks: Vec<u64> = host.begun(id).iter().map(|(task, _)| *task).collect();
        let calls = tasks.iter().filter(|_| waits).map(|task| call(*task, *task, "GET", "/api/v1/pods"));
        let calls: Vec<_> = calls.collect();
        host.does(id, calls);
        host.advance(secs(TIMEOUT));
        // Three objects fail, and there is no other to try.
        assert_eq!(host.restarts(id), u32::from(!waits), "waits: {waits}");
    }
}

#[test]
fn a_map_function_that_takes_too_long_is_cancelled_as_well() {
    let spec = reconciler(kind("Website"), vec![related("ConfigMap", Relation::Map)]);
    let (mut host, id) = Harness::running_with(with_timeout(), &spec);
    host.list("Website", &[object("web/home")]);
    host.reconciled(id);
    host.apply("ConfigMap", &object("web/config"));
    host.does(id, vec![]);
    host.advance(secs(TIMEOUT));
    let notice = host.notices().remove(0);
    assert!(notice.message.starts_with("the map function was cancelled") && notice.object.is_none());
    host.does(id, vec![]);
    host.advance(secs(1));
    assert_eq!(host.reconciled(id), ["web/home"], "which objects it concerns is not known");
}

#[test]
fn a_timeout_is_told_to_the_trace_before_the_reconcile_ends() {
    let mut host = Harness::with(super::super::LoopOptions { is_traced: true, ..Default::default() });
    let id = host.add(Setup { policy: Some(wasmop_policy::Policy::Never), ..with_timeout() });
    host.start();
    host.boot(id, &websites());
    host.apply("Website", &object("web/home"));
    host.does(id, vec![]);
    host.spans();
    host.advance(secs(TIMEOUT));
    let spans = host.spans();
    assert!(matches!(&spans[..], [SpanEvent::Blame { cause: "timeout", .. }, SpanEvent::End { .. }]), "{spans:?}");
}

// --- CPU

#[test]
fn a_controller_that_has_used_more_than_its_share_of_the_cpu_is_held_back() {
    // A tenth of a core, and a second in reserve.
    let limits = Limits { cpu_share_millis: 100, ..Limits::NONE };
    for (used_ms, held_ms) in [(500, 0), (1000, 0), (1100, 1000), (2000, 10_000)] {
        let (mut host, id) = Harness::running_with(Setup { limits, ..setup("web") }, &websites());
        host.apply("Website", &object("web/a"));
        let task = host.begun(id)[0].0;
        host.apply("Website", &object("web/b"));
        host.does(id, Did { cpu: ms(used_ms), ..Did::from(vec![done(task)]) });
        assert_eq!(host.is_stepping(id), held_ms == 0, "{used_ms} ms");
        if held_ms == 0 {
            assert!(host.limit_hits(id).is_empty());
            continue;
        }
        assert_eq!(host.control.next_wake(), Some(host.now.host + ms(held_ms)));
        assert_eq!((host.reasons(), host.limit_hits(id)), (vec!["CpuShareUsedUp"], vec![("cpu-share", 1)]));
        // It is reported once, however often it is looked at.
        host.apply("Website", &object("web/c"));
        assert_eq!((host.reasons(), host.limit_hits(id)), (vec![], vec![("cpu-share", 1)]));
        host.advance(ms(held_ms));
        assert_eq!(host.reconciled(id), ["web/b", "web/c"]);
        let throttled: Vec<_> = host.observe(id).counters.trouble().unwrap().throttled().collect();
        assert_eq!(throttled, [(Limit::CpuShare, held_ms as f64 / 1000.0)]);
    }
}

#[test]
fn time_that_the_loop_spends_on_a_controller_is_charged_to_it() {
    let limits = Limits { cpu_share_millis: 100, ..Limits::NONE };
    let (mut host, id) = Harness::running_with(Setup { limits, ..setup("web") }, &websites());
    host.control.charge(id, ms(1100), host.now);
    host.apply("Website", &object("web/a"));
    assert!(!host.is_stepping(id));
    assert_eq!(host.control.next_wake(), Some(host.now.host + secs(1)));
}

#[test]
fn a_controller_with_nothing_to_do_is_not_held_back() {
    let limits = Limits { cpu_share_millis: 100, ..Limits::NONE };
    let setup = Setup { limits, policy: Some(wasmop_policy::Policy::Immediate), ..setup("web") };
    let (mut host, id) = Harness::running_with(setup, &websites());
    host.saved(id);
    host.apply("Website", &object("web/a"));
    let task = host.begun(id)[0].0;
    host.does(id, Did { cpu: secs(5), ..Did::from(vec![done(task)]) });
    assert!(host.saving(id).is_some() && host.reasons().is_empty());
}

#[test]
fn the_remedy_names_the_file_that_holds_the_limit() {
    let package = Limits { reconcile_timeout_ns: 60_000_000_000, ..Limits::NONE };
    for (what, caps, file) in
        [("the package's", Limits::NONE, "wasmop.toml"), ("the host's", package, "the host's configuration")]
    {
        let (mut host, id, _) = hanging();
        host.control.limit_caps = caps;
        host.does(id, vec![]);
        host.advance(secs(TIMEOUT));
        let message = host.notices().remove(0).message;
        assert!(message.contains("reconcile-timeout = \"1m\"") && message.contains(file), "{what}: {message}");
    }
}

#[test]
fn a_problem_is_told_once_a_minute_for_each_controller() {
    let mut host = Harness::new();
    let ids = ["a", "b"].map(|name| host.add(setup(name)));
    host.start();
    for id in ids {
        host.does(id, vec![register(&websites())]);
    }
    host.list_new();
    for (after, told) in [(0, 2), (30, 0), (29, 0), (1, 2)] {
        host.advance(secs(after));
        host.apply("Website", &object("web/home").version(host.now.host.as_secs() + 1));
        for id in ids {
            let task = host.begun(id)[0].0;
            host.does(id, vec![done(99), done(task)]);
        }
        let notices = host.notices();
        assert_eq!(notices.len(), told, "after {after} s");
        if after == 1 {
            assert!(notices[0].message.ends_with("(and 2 times before, since the last event)"));
        }
        host.advance(ms(100));
    }
}
