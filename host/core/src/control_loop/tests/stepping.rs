//! Steps: what an instance is given, what it did, and how it fails.

use std::collections::BTreeMap;

use tracing::level_filters::LevelFilter;
use wasmop_package::Tier;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use super::super::{LoopOptions, SpanEvent};
use super::environment::{Object, object};
use super::harness::*;
use crate::startup::Startup;
use crate::status::counters::{ReconcileResult, total};
use crate::step::{Action, EventKind, LogLine, Lost, StepFault};

#[test]
fn an_instance_is_given_start_alone_with_what_it_is_started_with() {
    let startup = Startup {
        env: BTreeMap::from([("A".into(), "1".into())]),
        args: vec!["-v".into()],
        log_level: Some(LevelFilter::DEBUG),
    };
    let mut host = Harness::new();
    let id = host.add(Setup { startup, ..setup("web") });
    host.start();
    assert_eq!(host.kinds(id), [EventKind::Start]);
    let payload: serde_json::Value = serde_json::from_slice(&host.events(id)[0].payload).unwrap();
    let expected = serde_json::json!({ "name": "package-web", "env": {"A": "1"}, "args": ["-v"], "logLevel": "debug" });
    assert_eq!(payload, expected);
    assert!(!host.observe(id).registered);
    host.boot(id, &websites());
    assert!(host.observe(id).registered);
}

#[test]
fn a_step_has_a_bounded_number_of_events() {
    for (objects, steps) in [(1, &[1][..]), (16, &[16]), (17, &[16, 1]), (40, &[16, 16, 8])] {
        let (mut host, id) = Harness::running(&websites());
        let all: Vec<Object> = (0..objects).map(|n| object(&format!("web/{n:02}"))).collect();
        let watch = host.watch("Website");
        host.control.environment_mut().list(watch, &all);
        host.deliver_together();
        let mut found = Vec::new();
        while host.is_stepping(id) {
            let begun = host.begun(id);
            found.push(begun.len());
            host.does(id, begun.iter().map(|(task, _)| done(*task)).collect::<Vec<_>>());
        }
        assert_eq!(found, steps, "{objects} objects");
    }
}

#[test]
fn an_object_is_never_reconciled_twice_at_once() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![]);
    host.apply("Website", &object("web/home").version(2));
    host.apply("Website", &object("web/shop"));
    assert_eq!(host.begun(id).len(), 1, "the other one");
    host.does(id, vec![done(task)]);
    assert_eq!(host.begun(id)[0].1, "web/home");
}

#[test]
fn a_controller_reconciles_as_many_objects_at_once_as_it_registers() {
    let spec = wasmop_package::manifest::ControllerSpec { max_concurrent_reconciles: 2, ..websites() };
    let (mut host, id) = Harness::running(&spec);
    let watch = host.watch("Website");
    let all: Vec<Object> = (0..3).map(|n| object(&format!("web/{n}"))).collect();
    host.control.environment_mut().list(watch, &all);
    host.deliver_together();
    let begun = host.begun(id);
    assert_eq!(begun.len(), 2);
    host.does(id, vec![]);
    assert!(!host.is_stepping(id));
    host.apply("Website", &object("web/9"));
    assert!(!host.is_stepping(id));
    assert_eq!(host.observe(id).active, 2);
}

#[test]
fn how_a_reconcile_ends_decides_when_the_next_one_is() {
    use ReconcileResult::*;
    let action = |task: u64, requeue_after, error: Option<&str>| Action::Done {
        task,
        requeue_after,
        error: error.map(str::to_owned),
    };
    for (requeue_after, error, result, wait) in [
        (None, None, Success, None),
        (Some(secs(30)), None, RequeueAfter, Some(secs(30))),
        (None, Some("no"), Error, Some(ms(5))),
        (Some(secs(7)), Some("no"), Error, Some(secs(7))),
    ] {
        let (mut host, id) = Harness::running(&websites());
        host.apply("Website", &object("web/home"));
        let task = host.begun(id)[0].0;
        host.does(id, vec![action(task, requeue_after, error)]);
        assert_eq!(host.control.next_wake(), wait.map(|wait| host.now.host + wait), "{result:?}");
        let counters = host.observe(id).counters;
        assert_eq!(counters.reconciles_with(result), 1, "{result:?}");
        assert_eq!(host.last_error(id), error.unwrap_or_default());
        if let Some(wait) = wait {
            host.advance(wait);
            assert_eq!(host.reconciled(id), ["web/home"]);
        }
    }
}

#[test]
fn an_instance_is_stepped_when_its_timer_fires() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, Did { park: Some(secs(3)), ..Did::default() });
    assert_eq!(host.control.next_wake(), Some(host.now.host + secs(3)));
    host.advance(secs(3));
    assert_eq!(host.kinds(id), []);
    host.does(id, vec![done(task)]);
    assert!(!host.is_stepping(id));
}

#[test]
fn a_step_that_takes_time_parks_from_when_it_began() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let ordered = host.now.host;
    host.advance(secs(2));
    host.does(id, Did { park: Some(secs(3)), ..Did::default() });
    assert_eq!(host.control.next_wake(), Some(ordered + secs(3)));
}

// --- failures

#[test]
fn a_step_that_fails_cancels_its_culprit_and_nothing_else() {
    for (cause, reason) in [
        (StepFault::Panic, "StepPanicked"),
        (StepFault::CpuLimit, "StepCpuLimit"),
        (StepFault::MemoryLimit, "StepMemoryLimit"),
        (StepFault::ActionLimit, "StepActionLimit"),
        (StepFault::Trap, "StepTrapped"),
    ] {
        let (mut host, id) = Harness::running(&websites());
        let watch = host.watch("Website");
        host.control.environment_mut().list(watch, &[object("web/a"), object("web/b")]);
        host.deliver_together();
        let begun = host.begun(id);
        let failures = vec![failure(cause, Some(begun[0].0))];
        host.does(id, Did { failures, ..Did::from(vec![done(begun[1].0)]) });
        let notices = host.notices();
        assert_eq!(notices.iter().map(|notice| notice.problem.reason()).collect::<Vec<_>>(), [reason]);
        assert_eq!(notices[0].object.as_ref().map(|(_, key)| &**key), Some("web/a"));
        assert!(
            notices[0].message.starts_with(&format!("{}: it went wrong", cause.as_str())),
            "{}",
            notices[0].message
        );
        assert_eq!((host.restarts(id), host.observe(id).active), (0, 0));
        assert_eq!(host.control.next_wake(), Some(host.now.host + ms(5)), "its first backoff");
        host.advance(ms(5));
        assert_eq!(host.reconciled(id), ["web/a"]);
        let failures: Vec<_> = host.observe(id).counters.trouble().unwrap().step_failures().collect();
        assert_eq!(failures, [(cause, 1)]);
    }
}

#[test]
fn a_cancelled_reconcile_may_be_reported_as_done_once_more() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/a"));
    let task = host.begun(id)[0].0;
    host.does(id, Did { failures: vec![failure(StepFault::Trap, Some(task))], ..Did::default() });
    host.notices();
    host.advance(ms(5));
    let next = host.begun(id)[0].0;
    host.does(id, vec![done(task), done(next)]);
    assert_eq!(host.reasons(), Vec::<&str>::new());
    host.apply("Website", &object("web/b"));
    let next = host.begun(id)[0].0;
    host.does(id, vec![done(task), done(next)]);
    assert_eq!(host.reasons(), ["InterfaceMisused"]);
}

#[test]
fn a_panic_is_described_by_what_was_logged_last() {
    let line = |target: &str, level, message: &str| LogLine { level, target: target.into(), ..log(message) };
    for (what, cause, logs, expected) in [
        ("a panic", StepFault::Panic, vec![line("app", tracing::Level::ERROR, "lost it")], "panic: lost it"),
        ("standard error", StepFault::Panic, vec![line("stderr", tracing::Level::INFO, "abort")], "panic: abort"),
        ("nothing was logged", StepFault::Panic, vec![log("fine")], "panic: it went wrong"),
        ("another cause", StepFault::Trap, vec![line("app", tracing::Level::ERROR, "lost it")], "trap: it went wrong"),
    ] {
        let (mut host, id) = Harness::running(&websites());
        host.apply("Website", &object("web/a"));
        let task = host.begun(id)[0].0;
        let failed = crate::step::Failure { logs, ..failure(cause, Some(task)) };
        host.does(id, Did { failures: vec![failed], ..Did::default() });
        assert_eq!(host.notices()[0].message, expected, "{what}");
    }
}

#[test]
fn a_step_of_the_soft_tier_that_fails_costs_the_instance_and_its_culprit_waits_longer() {
    let (mut host, id) = Harness::running_with(Setup { tier: Tier::Soft, ..setup("web") }, &websites());
    host.list("Website", &[object("web/a")]);
    let task = host.begun(id)[0].0;
    let failures = vec![failure(StepFault::Trap, Some(task))];
    host.does(id, Did { failures, lost: Some(Lost::NotUndone), ..Did::default() });
    assert_eq!(host.reasons(), ["StepTrapped", "CrashLoop"]);
    let failed_at = host.now.host;
    assert_eq!(host.control.next_wake(), Some(failed_at + secs(1)));
    host.advance(secs(1));
    host.boot(id, &websites());
    // 1 s until the instance begins, and 5 s after that.
    assert_eq!(host.control.next_wake(), Some(failed_at + secs(6)));
}

#[test]
fn what_makes_no_sense_is_reported_and_holds_the_controller_back_for_a_moment() {
    for (what, actions, message) in [
        ("a task that there is not", vec![done(99)], "`done` for the unknown task 99"),
        ("a map answer to a reconcile", vec![Action::Mapped { task: 99, keys: String::new() }], "no map task"),
        ("no specification", vec![Action::Register { spec: "{".into() }], "not a controller spec"),
        ("several", vec![done(98), done(99)], "(and 1 more in this step)"),
    ] {
        let (mut host, id) = Harness::running(&websites());
        host.apply("Website", &object("web/a"));
        let task = host.begun(id)[0].0;
        host.does(id, [actions, vec![done(task)]].concat());
        let notices = host.notices();
        assert_eq!(notices.len(), 1, "{what}: {notices:?}");
        assert!(notices[0].message.contains(message), "{what}: {}", notices[0].message);
        host.apply("Website", &object("web/b"));
        assert!(!host.is_stepping(id), "{what}");
        assert_eq!(host.control.next_wake(), Some(host.now.host + ms(100)), "{what}");
        host.advance(ms(100));
        assert_eq!(host.reconciled(id), ["web/b"], "{what}");
    }
}

// --- log

#[test]
fn lines_beyond_the_log_rate_are_dropped_and_reported_once() {
    let limits = Limits { log_bytes_per_second: 1000, ..Limits::NONE };
    let (mut host, id) = Harness::running_with(Setup { limits, ..setup("web") }, &websites());
    host.advance(secs(100));
    host.apply("Website", &object("web/a"));
    let long = || log(&"x".repeat(2500));
    host.does(id, Did { logs: vec![long(), long(), long(), long()], ..Did::default() });
    let notices = host.notices();
    assert_eq!(notices.iter().map(|notice| notice.problem.reason()).collect::<Vec<_>>(), ["LogLinesDropped"]);
    assert!(notices[0].message.contains("more than 1000 bytes"), "{}", notices[0].message);
    assert_eq!(host.limit_hits(id), [("log-rate", 3)]);
}

#[test]
fn lines_more_detailed_than_the_host_logs_cost_nothing() {
    let limits = Limits { log_bytes_per_second: 1000, ..Limits::NONE };
    for (what, guest_log_level, startup, dropped) in [
        ("all are logged", None, None, true),
        ("the host's level", Some(LevelFilter::WARN), None, false),
        ("the owner's level for the controller", Some(LevelFilter::WARN), Some(LevelFilter::TRACE), true),
    ] {
        let options = LoopOptions { policy: Policy::Never, guest_log_level, ..LoopOptions::default() };
        let mut host = Harness::with(options);
        let startup = Startup { log_level: startup, ..Startup::default() };
        let id = host.add(Setup { limits, startup, ..setup("web") });
        host.start();
        host.boot(id, &websites());
        host.advance(secs(100));
        host.apply("Website", &object("web/a"));
        host.does(id, Did { logs: vec![log(&"x".repeat(5000)), log("y")], ..Did::default() });
        assert_eq!(!host.limit_hits(id).is_empty(), dropped, "{what}");
    }
}

// --- counters and spans

#[test]
fn only_an_instance_that_was_suspended_counts_as_resumed() {
    let (mut host, id) = Harness::running_with(Setup { policy: Some(Policy::Immediate), ..setup("web") }, &websites());
    assert_eq!(total(host.observe(id).counters.resumes().0), 0, "it was started");
    host.saved(id);
    host.apply("Website", &object("web/a"));
    host.reconciled(id);
    assert_eq!(total(host.observe(id).counters.resumes().0), 1);
    assert_eq!(host.observe(id).counters.steps, 2);
}

#[test]
fn a_reconcile_is_traced_from_its_beginning_to_its_end() {
    let mut host = Harness::with(LoopOptions { policy: Policy::Never, is_traced: true, ..LoopOptions::default() });
    let id = host.add(Setup { rules: vec![rule("*", "*", &["list", "watch"])], ..setup("web") });
    host.start();
    host.boot(id, &websites());
    host.apply("Website", &object("web/a"));
    host.advance(secs(1));
    let task = host.begun(id)[0].0;
    host.does(id, vec![call(1, task, "GET", "/api/v1/namespaces/web/pods/p"), fails(task)]);
    let spans = host.spans();
    assert!(matches!(&spans[0], SpanEvent::Begin(begun) if begun.attempt == 1 && &*begun.object == "web/a"));
    assert!(matches!(&spans[1], SpanEvent::End { .. }) && spans.len() == 3, "{spans:?}");
    assert!(matches!(&spans[2], SpanEvent::Event { name: "request denied", .. }));
    host.does(id, vec![]);
    host.advance(ms(5));
    let task = host.begun(id)[0].0;
    host.does(id, Did { failures: vec![failure(StepFault::Trap, Some(task))], ..Did::default() });
    let spans = host.spans();
    assert!(matches!(&spans[0], SpanEvent::Begin(begun) if begun.attempt == 2), "{spans:?}");
}
