//! Instances that are lost, or that make no progress, and start over.

use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use super::super::{InstanceFacts, SaveReason, SlotId};
use super::environment::{Object, object};
use super::harness::*;
use crate::step::{Action, EventKind, Failure, Lost, StepFault};

fn lose(host: &mut Harness, id: SlotId, lost: Lost) {
    host.does(id, Did { lost: Some(lost), ..Did::default() });
}

#[test]
fn a_lost_instance_starts_over_at_once_or_after_a_wait() {
    for (lost, wait, reason, message) in [
        (Lost::Snapshot("torn page".into()), None, None, "began anew: torn page"),
        (Lost::Start("no memory".into()), Some(secs(1)), Some("CrashLoop"), "begins anew in 1s: no memory"),
        (Lost::NoCulprit, Some(secs(1)), Some("CrashLoop"), "no single reconcile could be blamed"),
        (Lost::NotUndone, Some(secs(1)), Some("CrashLoop"), "can't be undone"),
    ] {
        let what = format!("{lost:?}");
        let (mut host, id) = Harness::running(&websites());
        host.apply("Website", &object("web/home"));
        lose(&mut host, id, lost);
        assert_eq!((host.restarts(id), host.reasons()), (1, Vec::from_iter(reason)), "{what}");
        assert!(host.last_error(id).contains(message), "{what}: {}", host.last_error(id));
        assert!(!host.observe(id).registered);
        match wait {
            None => assert_eq!(host.kinds(id), [EventKind::Start], "{what}"),
            Some(wait) => {
                assert_eq!(host.control.next_wake(), Some(host.now.host + wait), "{what}");
                host.advance(wait);
                assert_eq!(host.kinds(id), [EventKind::Start], "{what}");
            }
        }
        // What was under way is tried again.
        host.does(id, vec![register(&websites())]);
        host.deliver();
        host.advance(ms(5));
        assert_eq!(host.reconciled(id)[0], "web/home", "{what}");
    }
}

#[test]
fn an_instance_that_is_lost_again_and_again_waits_longer_each_time() {
    let mut host = Harness::new();
    let id = host.add(setup("web"));
    host.start();
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        lose(&mut host, id, Lost::Start("trap".into()));
        assert_eq!(host.control.next_wake(), Some(host.now.host + secs(wait)));
        host.advance(secs(wait));
    }
    // It works for longer than it has had to wait.
    host.boot(id, &websites());
    host.advance(secs(300));
    host.apply("Website", &object("web/home"));
    host.reconciled(id);
    host.apply("Website", &object("web/home").version(2));
    lose(&mut host, id, Lost::NoCulprit);
    assert_eq!(host.control.next_wake(), Some(host.now.host + secs(1)));
}

#[test]
fn crashes_are_counted_across_restarts_and_one_event_a_minute_says_so() {
    let mut host = Harness::new();
    let id = host.add(setup("web"));
    host.start();
    let mut messages = Vec::new();
    for _ in 0..8 {
        lose(&mut host, id, Lost::Start("trap".into()));
        messages.extend(host.notices().into_iter().map(|notice| notice.message));
        let wake = host.control.next_wake().unwrap();
        host.advance(wake - host.now.host);
    }
    assert_eq!(host.restarts(id), 8);
    assert_eq!(messages.len(), 3, "{messages:#?}");
    assert!(messages[1].contains("(and 5 times before"), "{messages:#?}");
    assert!(messages[1].contains("the last error: "), "{messages:#?}");
}

// --- no progress

/// Ends steps until nothing is ready: reconciles of these objects fail, the others end.
fn step_all(host: &mut Harness, id: SlotId, fails: impl Fn(&str) -> bool, failed: impl Fn(u64) -> Failure) -> usize {
    let mut count = 0;
    while host.is_stepping(id) && host.kinds(id).first() != Some(&EventKind::Start) {
        let begun = host.begun(id);
        let (bad, good): (Vec<_>, Vec<_>) = begun.into_iter().partition(|(_, object)| fails(object));
        count += bad.len();
        let failures = bad.into_iter().map(|(task, _)| failed(task)).collect();
        host.does(id, Did { failures, ..Did::from(good.iter().map(|(task, _)| done(*task)).collect::<Vec<_>>()) });
    }
    count
}

fn objects(names: &str) -> Vec<Object> {
    names.chars().map(|name| object(&format!("web/{name}"))).collect()
}

#[test]
fn an_instance_in_which_nothing_succeeds_is_restarted() {
    for (what, exist, fail, restarts) in [
        ("all objects fail", "abc", "abc", 1),
        ("one object fails", "abcdef", "a", 0),
        ("two objects fail", "abcdef", "ab", 0),
        ("three fail, and others end when they are tried", "abcdef", "abc", 0),
        ("so do the others", "abcdef", "abcdef", 1),
    ] {
        let (mut host, id) = Harness::running(&websites());
        host.list("Website", &objects(exist));
        host.reconciled(id);
        host.notices();
        let watch = host.watch("Website");
        for failing in objects(fail).into_iter().take(3) {
            host.control.environment_mut().apply(watch, &failing.version(2));
        }
        host.deliver_together();
        let is_bad = |object: &str| fail.contains(object.trim_start_matches("web/"));
        step_all(&mut host, id, is_bad, |task| failure(StepFault::Trap, Some(task)));
        assert_eq!(host.restarts(id), restarts, "{what}");
        assert_eq!(host.reasons().contains(&"NothingSucceeds"), restarts > 0, "{what}");
        assert_eq!(host.discarded() > 0, restarts > 0, "{what}");
        if restarts > 0 {
            // It was not the objects' fault: none of them waits for its backoff.
            assert_eq!(host.observe(id).queue.delayed, 0, "{what}");
        }
    }
}

#[test]
fn an_instance_that_was_lost_otherwise_may_be_restarted_at_once() {
    let (mut host, id) = Harness::running(&websites());
    host.list("Website", &objects("abc"));
    let task = host.begun(id)[0].0;
    host.does(id, Did { failures: vec![failure(StepFault::Trap, Some(task))], ..Did::default() });
    lose(&mut host, id, Lost::Snapshot("torn".into()));
    host.does(id, vec![register(&websites())]);
    host.deliver();
    host.advance(secs(1));
    step_all(&mut host, id, |_| true, |task| failure(StepFault::Trap, Some(task)));
    assert_eq!(host.restarts(id), 2);
    assert!(host.reasons().contains(&"NothingSucceeds"));
}

fn out_of_memory(before: u64) -> impl Fn(u64) -> Failure {
    move |task| Failure { memory_before: before, ..failure(StepFault::MemoryLimit, Some(task)) }
}

fn with_memory(limit: u64) -> Setup {
    Setup { limits: Limits { memory_bytes: limit, ..Limits::NONE }, ..setup("web") }
}

#[test]
fn an_instance_whose_memory_is_full_is_restarted() {
    for (what, before, fail, restarts) in [
        ("several objects fail and much was in use", 90 * MIB, "abc", 1),
        ("little was in use, so they need too much", 2 * MIB, "ab", 0),
    ] {
        let (mut host, id) = Harness::running_with(with_memory(100 * MIB), &websites());
        host.list("Website", &objects("abcdef"));
        host.reconciled(id);
        host.notices();
        let watch = host.watch("Website");
        for failing in objects(fail) {
            host.control.environment_mut().apply(watch, &failing.version(2));
        }
        host.deliver_together();
        let full = InstanceFacts { memory_bytes: before, ..host.facts[&id] };
        host.facts.insert(id, full);
        let is_bad = |object: &str| fail.contains(object.trim_start_matches("web/"));
        step_all(&mut host, id, is_bad, out_of_memory(before));
        assert_eq!(host.restarts(id), restarts, "{what}");
        assert_eq!(host.reasons().contains(&"MemoryFull"), restarts > 0, "{what}");
    }
}

#[test]
fn an_idle_instance_whose_memory_is_nearly_full_starts_over_instead_of_being_suspended() {
    for (what, used, refused, restarts) in [
        ("half full", 50, false, false),
        ("nearly full", 90, false, true),
        ("half full, and it was refused more", 55, true, true),
    ] {
        let setup = Setup { policy: Some(Policy::After(secs(1))), ..with_memory(100 * MIB) };
        let (mut host, id) = Harness::running_with(setup, &websites());
        host.list("Website", &objects("a"));
        let task = host.begun(id)[0].0;
        let used = InstanceFacts { memory_bytes: used * MIB, ..host.facts[&id] };
        host.does(id, Did { instance: Some(used), refused_memory: refused, ..Did::from(vec![done(task)]) });
        host.advance(secs(1));
        if !restarts {
            assert_eq!(host.saving(id), Some(SaveReason::Idle), "{what}");
            continue;
        }
        assert_eq!((host.reasons(), host.restarts(id)), (vec!["MemoryNearlyFull"], 1), "{what}");
        assert_eq!(host.kinds(id), [EventKind::Start], "it waits for nothing");
        assert_eq!(host.observe(id).resident_bytes, 96 << 10, "it holds no pages of its own yet");
        // What is nearly full again soon is suspended as it is.
        host.does(id, Did { instance: Some(used), ..Did::from(vec![register(&websites())]) });
        host.deliver();
        let task = host.begun(id)[0].0;
        host.does(id, Did { instance: Some(used), ..Did::from(vec![done(task)]) });
        host.advance(secs(1));
        assert_eq!((host.saving(id), host.restarts(id)), (Some(SaveReason::Idle), 1), "{what}");
    }
}

#[test]
fn a_map_function_that_answers_ends_the_suspicion_against_it() {
    for answers in ["web/a", "an error"] {
        let spec = reconciler(kind("Website"), vec![related("ConfigMap", wasmop_package::manifest::Relation::Map)]);
        let (mut host, id) = Harness::running(&spec);
        host.apply("ConfigMap", &object("web/config"));
        let task = host.task(id, EventKind::Map);
        host.does(id, Did { failures: vec![failure(StepFault::Trap, Some(task))], ..Did::default() });
        assert!(host.control.slots[id].throttles.liveness.is_some());
        host.apply("ConfigMap", &object("web/config").version(2));
        let task = host.task(id, EventKind::Map);
        let keys = answers.to_owned();
        let action = if answers == "an error" { fails(task) } else { Action::Mapped { task, keys } };
        host.does(id, vec![action]);
        assert!(host.control.slots[id].throttles.liveness.is_none(), "{answers}");
    }
}

#[test]
fn an_instance_that_works_on_something_is_not_restarted_because_its_memory_is_nearly_full() {
    let setup = Setup { policy: Some(Policy::After(secs(1))), ..with_memory(100 * MIB) };
    let (mut host, id) = Harness::running_with(setup, &websites());
    host.apply("Website", &object("web/a"));
    let full = InstanceFacts { memory_bytes: 90 * MIB, ..host.facts[&id] };
    // It waits for a timer.
    host.does(id, Did { instance: Some(full), park: Some(secs(100)), ..Did::default() });
    host.advance(secs(1));
    assert_eq!((host.saving(id), host.restarts(id)), (Some(SaveReason::Idle), 0));
}
