//! What the loop says of its controllers.

use wasmop_package::manifest::Relation;
use wasmop_policy::Policy;

use super::super::Leadership;
use super::environment::object;
use super::harness::*;
use crate::status::observed::Queue;
use crate::watch::{WaitReason, Waiting};

#[test]
fn a_controller_has_a_state_wherever_its_instance_is() {
    let mut host = Harness::new();
    let standby = host.add(Setup { leadership: Leadership::Standby, ..setup("standby") });
    let id = host.add(Setup { policy: Some(Policy::Immediate), ..setup("web") });
    let state = |host: &Harness, id| host.observe(id).state.as_str();
    assert_eq!((state(&host, standby), state(&host, id)), ("standby", "suspended"));
    host.start();
    assert_eq!((state(&host, standby), state(&host, id)), ("standby", "busy"));
    host.boot(id, &websites());
    assert_eq!(state(&host, id), "busy", "it is being saved");
    host.saved(id);
    assert_eq!(state(&host, id), "suspended");
    host.control.slots[id].suspension.policy = Policy::Never;
    host.apply("Website", &object("web/home"));
    host.reconciled(id);
    assert_eq!(state(&host, id), "resident");
    assert_eq!(host.control.observe().len(), host.control.len());
    assert_eq!(host.control.ids().count(), 2);
}

#[test]
fn bytes_are_those_that_a_suspend_gives_back() {
    let (mut host, id) =
        Harness::running_with(Setup { policy: Some(Policy::After(secs(1))), ..setup("web") }, &websites());
    assert_eq!(host.observe(id).resident_bytes, MIB + (96 << 10));
    host.advance(secs(1));
    assert_eq!(host.observe(id).resident_bytes, MIB + (96 << 10), "until it is gone");
    host.saved(id);
    assert_eq!(host.observe(id).resident_bytes, 0);
    assert_eq!(host.observe(id).counters.disk_bytes(), 16384);
}

#[test]
fn a_queue_counts_what_is_ready_and_what_waits_for_its_time() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/a"));
    let task = host.begun(id)[0].0;
    host.apply("Website", &object("web/b"));
    host.apply("Website", &object("web/c"));
    assert_eq!(host.observe(id).queue, Queue { depth: 2, delayed: 0, adds: 3, retries: 0 });
    assert_eq!(host.observe(id).active, 1);
    host.does(id, vec![fails(task)]);
    let tasks = host.begun(id);
    assert_eq!(host.observe(id).queue, Queue { depth: 0, delayed: 1, adds: 3, retries: 1 });
    host.does(id, vec![requeue(tasks[0].0, secs(10)), done(tasks[1].0)]);
    assert_eq!(host.observe(id).queue.delayed, 2);
    assert_eq!(host.control.totals().watch_events, 5, "changes, and news of the watch");
}

fn waiting(cause: WaitReason, message: &str) -> Waiting {
    Waiting { resource: "websites.demo.dev/v1".into(), cause, message: message.into(), service_account: None }
}

#[test]
fn a_watch_that_cannot_be_had_is_a_reason_not_to_be_ready() {
    for (cause, reason) in [
        (WaitReason::Missing, "ResourceNotServed"),
        (WaitReason::Unexplained, "ResourceNotServed"),
        (WaitReason::VersionNotServed, "VersionNotServed"),
        (WaitReason::NotEstablished, "NotEstablished"),
        (WaitReason::Unauthorized, "Unauthorized"),
        (WaitReason::Forbidden, "Forbidden"),
        (WaitReason::Unreachable, "APIServerUnreachable"),
        (WaitReason::Server, "APIServerError"),
        (WaitReason::Invalid, "InvalidWatch"),
    ] {
        let (mut host, id) = Harness::running(&websites());
        assert!(host.observe(id).unwatched.is_none());
        host.fail_watch("Website", waiting(cause, "it says no"));
        let unwatched = host.observe(id).unwatched.unwrap();
        assert_eq!((unwatched.reason, unwatched.since), (reason, host.now.host), "{cause:?}");
        assert_eq!(&*unwatched.message, "cannot watch websites.demo.dev/v1: it says no");
        host.list("Website", &[]);
        assert!(host.observe(id).unwatched.is_none(), "{cause:?}");
    }
}

#[test]
fn the_time_without_a_watch_goes_on_when_its_cause_changes() {
    let (mut host, id) = Harness::running(&websites());
    let since = host.now.host;
    host.fail_watch("Website", waiting(WaitReason::Unreachable, "refused"));
    for (cause, message, expected) in [
        (WaitReason::Unreachable, "timed out", "refused"),
        (WaitReason::Forbidden, "forbidden", "forbidden"),
        (WaitReason::Unreachable, "refused again", "refused again"),
    ] {
        host.advance(secs(10));
        host.fail_watch("Website", waiting(cause, message));
        let unwatched = host.observe(id).unwatched.unwrap();
        assert_eq!(unwatched.since, since);
        assert!(unwatched.message.ends_with(expected), "{}", unwatched.message);
    }
}

#[test]
fn every_controller_of_a_watch_is_told_and_the_first_watch_is_named() {
    let spec = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
    let mut host = Harness::new();
    let (a, b) = (host.add(setup("a")), host.add(setup("b")));
    host.start();
    host.boot(a, &spec);
    host.boot(b, &websites());
    host.deliver();
    host.fail_watch("Deployment", waiting(WaitReason::Forbidden, "deployments"));
    assert!(host.observe(a).unwatched.is_some() && host.observe(b).unwatched.is_none());
    host.fail_watch("Website", waiting(WaitReason::Missing, "websites"));
    for id in [a, b] {
        assert_eq!(host.observe(id).unwatched.unwrap().reason, "ResourceNotServed");
    }
    host.list("Website", &[]);
    assert_eq!(host.observe(a).unwatched.unwrap().reason, "Forbidden");
    assert!(host.observe(b).unwatched.is_none());
}

#[test]
fn a_problem_is_the_last_error_and_the_object_it_concerns() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![fails(task)]);
    let trouble = host.observe(id).counters.trouble().cloned().unwrap();
    let last = trouble.last_error.unwrap();
    assert_eq!((&*last.object, &*last.message, last.at), ("web/home", "no luck", host.now.host));
    host.advance(ms(5));
    let task = host.begun(id)[0].0;
    host.does(id, Did { failures: vec![failure(crate::step::StepFault::Trap, Some(task))], ..Did::default() });
    let trouble = host.observe(id).counters.trouble().cloned().unwrap();
    assert_eq!(&*trouble.last_error.unwrap().object, "web/home");
    let standing: Vec<_> =
        trouble.problems.standing(host.now.host).map(|standing| standing.problem.condition()).collect();
    assert_eq!(standing, ["StepFailing"]);
}
