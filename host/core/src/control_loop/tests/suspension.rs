//! When instances are suspended, written to disk and resumed.

use std::io;

use wasmop_package::Tier;
use wasmop_policy::Policy;

use super::super::{HostEffect, HostEvent, InstanceFacts, LoopOptions, SaveReason, SlotId};
use super::environment::object;
use super::harness::*;
use crate::limits::disk_quota::OverQuota;
use crate::status::state::State;

fn with_policy(policy: Policy) -> (Harness, SlotId) {
    Harness::running_with(Setup { policy: Some(policy), ..setup("web") }, &websites())
}

fn no_space() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

#[test]
fn an_idle_instance_is_suspended_when_its_policy_says() {
    for (policy, at_once, looks_again) in [
        (Policy::Never, None, None),
        (Policy::Immediate, Some(SaveReason::Idle), None),
        (Policy::After(secs(2)), None, Some(secs(2))),
        (Policy::After(secs(0)), Some(SaveReason::Idle), None),
    ] {
        let (mut host, id) = with_policy(policy);
        assert_eq!(host.saving(id), at_once, "{policy}");
        assert_eq!(host.control.next_wake(), looks_again.map(|wait| host.now.host + wait), "{policy}");
        if let Some(wait) = looks_again {
            host.advance(wait - ms(1));
            assert_eq!(host.saving(id), None, "{policy}");
            host.advance(ms(1));
            assert_eq!(host.saving(id), Some(SaveReason::Idle), "{policy}");
        }
    }
}

#[test]
fn the_adaptive_policy_keeps_an_instance_for_about_as_long_as_a_resume_is_worth() {
    let (mut host, id) = with_policy(Policy::Adaptive);
    let wait = host.control.next_wake().unwrap() - host.now.host;
    assert!((ms(200)..secs(10)).contains(&wait), "{wait:?}");
    host.advance(wait);
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
}

#[test]
fn an_event_begins_the_wait_again() {
    let (mut host, id) = with_policy(Policy::After(secs(2)));
    host.advance(secs(1));
    host.apply("Website", &object("web/home"));
    host.reconciled(id);
    host.advance(secs(1));
    assert_eq!(host.saving(id), None);
    host.advance(secs(1));
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
}

#[test]
fn an_instance_that_runs_again_before_it_would_be_gone_stays() {
    let (mut host, id) = with_policy(Policy::Immediate);
    host.saved(id);
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![requeue(task, ms(1))]);
    assert_eq!((host.saving(id), host.control.next_wake()), (None, Some(host.now.host + ms(1))));
    host.advance(ms(1));
    let task = host.begun(id)[0].0;
    host.does(id, vec![requeue(task, secs(1))]);
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
}

#[test]
fn a_suspended_instance_is_resumed_by_an_event_a_timer_or_an_answer() {
    for what in ["a change", "a requeue", "an answer"] {
        let (mut host, id) = with_policy(Policy::Immediate);
        host.saved(id);
        host.apply("Website", &object("web/home"));
        let task = host.begun(id)[0].0;
        let last = if what == "a requeue" { requeue(task, secs(60)) } else { done(task) };
        host.does(id, vec![get(1, "/api/v1/pods?watch=true"), last]);
        let send = host.send();
        host.saved(id);
        assert!(host.is_suspended(id), "{what}");
        match what {
            "a change" => host.apply("Website", &object("web/shop")),
            "a requeue" => {
                assert_eq!(host.control.next_wake(), Some(host.now.host + secs(60)));
                host.advance(secs(60));
            }
            _ => host.reply(&send, vec![head(200)]),
        }
        assert!(host.is_stepping(id), "{what}");
    }
}

#[test]
fn changes_that_come_while_it_is_being_saved_wait_for_it() {
    let (mut host, id) = with_policy(Policy::Immediate);
    host.apply("Website", &object("web/home"));
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
    host.saved(id);
    assert_eq!(host.reconciled(id), ["web/home"]);
}

// --- a disk that refuses

#[test]
fn an_instance_that_could_not_be_written_stays_and_is_tried_again_after_10_s() {
    let (mut host, id) = with_policy(Policy::Immediate);
    host.save_fails(id, no_space());
    let failed_at = host.now.host;
    assert_eq!(host.observe(id).state, State::Resident);
    assert_eq!(host.control.next_wake(), Some(failed_at + secs(10)));
    let failing = |host: &Harness| {
        host.observe(id).counters.trouble().and_then(|trouble| Some(trouble.failing.as_ref()?.reason.as_str()))
    };
    assert_eq!(failing(&host), Some("DiskFull"));
    host.advance(secs(5));
    host.apply("Website", &object("web/home"));
    assert_eq!(host.reconciled(id), ["web/home"], "it goes on");
    assert_eq!((host.saving(id), host.control.next_wake()), (None, Some(failed_at + secs(10))));
    host.advance(secs(5));
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
    host.saved(id);
    assert_eq!(failing(&host), None);
    assert!(host.is_suspended(id));
}

#[test]
fn a_snapshot_beyond_its_quota_is_a_limit_that_was_met() {
    let (mut host, id) = with_policy(Policy::Immediate);
    host.save_fails(id, io::Error::other(OverQuota { needs: 2000, quota: 1000 }));
    assert_eq!(host.limit_hits(id), [("disk", 1)]);
    let notice = host.notices().remove(0);
    assert_eq!(notice.problem.reason(), "SnapshotTooLarge");
    assert!(notice.message.contains("2000") && notice.message.contains("1000"), "{}", notice.message);
}

#[test]
fn a_snapshot_that_the_disk_does_not_confirm_is_a_condition_until_one_is() {
    let (mut host, id) = with_policy(Policy::Immediate);
    host.saved(id);
    host.event(HostEvent::Synced { slot: id, result: Err(io::Error::from_raw_os_error(libc::EIO)) });
    assert!(host.observe(id).counters.trouble().unwrap().failing.is_some());
    assert!(host.last_error(id).contains("could not be put on disk"));
    host.event(HostEvent::Synced { slot: id, result: Ok(()) });
    assert!(host.observe(id).counters.trouble().unwrap().failing.is_none());
}

// --- the log of steps

#[test]
fn an_instance_whose_log_is_full_is_written_before_it_goes_on() {
    let (mut host, id) = with_policy(Policy::Never);
    let full = InstanceFacts { log_is_full: true, ..host.facts[&id] };
    host.apply("Website", &object("web/a"));
    host.apply("Website", &object("web/b"));
    let task = host.begun(id)[0].0;
    host.does(id, Did { instance: Some(full), ..Did::from(vec![done(task)]) });
    assert_eq!(host.saving(id), Some(SaveReason::LogFull));
    host.saved(id);
    assert_eq!(host.reconciled(id), ["web/b"]);
    assert_eq!(host.observe(id).counters.suspends, 0, "it was not suspended");
}

#[test]
fn an_instance_whose_log_is_full_goes_on_while_the_disk_refuses_it() {
    let (mut host, id) = with_policy(Policy::Never);
    let full = InstanceFacts { log_is_full: true, ..host.facts[&id] };
    host.facts.insert(id, full);
    host.apply("Website", &object("web/a"));
    host.apply("Website", &object("web/b"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![done(task)]);
    host.save_fails(id, no_space());
    assert_eq!(host.begun(id)[0].1, "web/b");
    let task = host.begun(id)[0].0;
    host.does(id, vec![done(task)]);
    assert_eq!(host.saving(id), None);
    host.advance(secs(10));
    host.apply("Website", &object("web/c"));
    assert_eq!(host.saving(id), Some(SaveReason::LogFull));
}

// --- the soft tier

#[test]
fn an_instance_of_the_soft_tier_is_suspended_within_the_process() {
    let setup = Setup { tier: Tier::Soft, policy: Some(Policy::Immediate), ..setup("web") };
    let (mut host, id) = Harness::running_with(setup, &websites());
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
    let tables = InstanceFacts { table_bytes: 5000, ..host.facts[&id] };
    host.facts.insert(id, tables);
    host.saved(id);
    let observed = host.observe(id);
    assert_eq!((observed.state, observed.resident_bytes), (State::Suspended, 5000));
    assert_eq!(observed.counters.suspends, 1);
    host.apply("Website", &object("web/home"));
    assert_eq!(host.reconciled(id), ["web/home"]);
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
    host.save_fails(id, no_space());
    assert_eq!(host.observe(id).state, State::Resident);
}

// --- ahead of time

#[test]
fn an_instance_that_is_expected_to_be_needed_is_resumed_ahead_of_time() {
    for tier in [Tier::Full, Tier::Soft] {
        is_expected(tier);
    }
}

fn is_expected(tier: Tier) {
    let setup = Setup { tier, policy: Some(Policy::Adaptive), ..setup("web") };
    let (mut host, id) = Harness::running_with(setup, &websites());
    // Large, and slow to resume.
    let large = InstanceFacts { anonymous_bytes: 64 * MIB, ..host.facts[&id] };
    host.facts.insert(id, large);
    host.resume_takes = ms(200);
    let begun = host.now.host;
    let mut reason = None;
    let mut round = 0;
    while reason != Some(SaveReason::IdleUntilExpected) {
        round += 1;
        assert!(round < 200, "an event each minute is never expected");
        host.now.host = begun + secs(60) * round;
        host.apply("Website", &object("web/home").version(round.into()));
        assert_eq!(host.reconciled(id), ["web/home"]);
        while host.saving(id).is_none() {
            host.now.host = host.control.next_wake().unwrap();
            host.dispatch();
        }
        reason = host.saving(id);
        host.saved(id);
    }
    let wake = host.control.next_wake().unwrap();
    let next = begun + secs(60) * (round + 1);
    assert!(wake > host.now.host && wake < next, "{wake:?} before {next:?}");
    host.now.host = wake;
    host.dispatch();
    if tier == Tier::Soft {
        // It is there as soon as it is stepped.
        assert!(!host.is_stepping(id) && host.is_suspended(id) && host.control.next_wake().is_none());
        return;
    }
    assert_eq!(host.kinds(id), [], "it is resumed and nothing more");
    host.does(id, vec![]);
    assert_eq!(host.observe(id).state, State::Resident);
    host.now.host = next;
    host.apply("Website", &object("web/home").version(1000));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

// --- memory

/// Controllers with idle instances of these sizes in MiB, and these policies.
fn idle(budget: Option<u64>, instances: &[(u64, Policy)]) -> (Harness, Vec<SlotId>) {
    let options = LoopOptions { policy: Policy::Never, memory_budget: budget, ..LoopOptions::default() };
    let mut host = Harness::with(options);
    let names = ["a", "b", "c", "d"];
    let mut ids = Vec::new();
    for ((mib, policy), name) in instances.iter().zip(names) {
        let id = host.add(Setup { policy: Some(*policy), ..setup(name) });
        let facts = InstanceFacts { anonymous_bytes: mib * MIB, ..host.facts[&id] };
        host.facts.insert(id, facts);
        ids.push(id);
    }
    host.start();
    for id in &ids {
        host.does(*id, vec![register(&websites())]);
    }
    host.list_new();
    (host, ids)
}

const HOUR: Policy = Policy::After(secs_const(3600));

const fn secs_const(secs: u64) -> std::time::Duration {
    std::time::Duration::from_secs(secs)
}

#[test]
fn the_memory_budget_is_kept_by_suspending_what_costs_least() {
    for (what, budget_mib, instances, suspended) in [
        ("they fit", 20, &[(5, HOUR), (5, HOUR)][..], &[][..]),
        ("one has to go", 8, &[(5, HOUR), (5, HOUR)], &["a"]),
        ("one that should never be suspended goes last", 8, &[(5, Policy::Never), (5, HOUR)], &["b"]),
        ("one that should never be suspended goes if it must", 8, &[(5, Policy::Never), (5, Policy::Never)], &["a"]),
        ("one that is not needed is spared", 12, &[(1, HOUR), (2, HOUR), (10, HOUR)], &["c"]),
    ] {
        // The last step makes it too much.
        let (host, ids) = idle(Some(budget_mib * MIB), instances);
        let saving: Vec<String> = ids
            .iter()
            .filter(|id| host.saving(**id) == Some(SaveReason::Budget))
            .map(|id| host.control.name(*id).to_string())
            .collect();
        assert_eq!(saving, suspended, "{what}");
    }
}

#[test]
fn an_instance_that_grows_beyond_the_budget_suspends_another() {
    let (mut host, ids) = idle(Some(12 * MIB), &[(5, HOUR), (5, HOUR)]);
    host.apply("Website", &object("web/home"));
    assert!(host.is_stepping(ids[0]) && host.is_stepping(ids[1]));
    let other = host.begun(ids[1])[0].0;
    host.does(ids[1], vec![done(other)]);
    let task = host.begun(ids[0])[0].0;
    let grown = InstanceFacts { anonymous_bytes: 9 * MIB, ..host.facts[&ids[0]] };
    host.does(ids[0], Did { instance: Some(grown), ..Did::from(vec![done(task)]) });
    let saving: Vec<_> = ids.iter().map(|id| host.saving(*id)).collect();
    assert_eq!(saving.iter().flatten().count(), 1, "{saving:?}");
}

#[test]
fn an_instance_that_has_something_to_do_or_was_refused_by_the_disk_is_not_suspended_for_memory() {
    let (mut host, ids) = idle(None, &[(5, HOUR), (5, HOUR), (5, HOUR)]);
    host.event(HostEvent::MemoryPressure);
    // 15.3 MiB are held, of which half is to be given back.
    assert_eq!(ids.iter().filter(|id| host.saving(**id) == Some(SaveReason::Pressure)).count(), 2);
    for id in &ids {
        if host.saving(*id).is_some() {
            host.save_fails(*id, no_space());
        }
    }
    let third = *ids.last().unwrap();
    host.event(HostEvent::MemoryPressure);
    assert_eq!(ids.iter().filter(|id| host.saving(**id).is_some()).collect::<Vec<_>>(), [&third]);
    host.saved(third);
    // Those that were refused may be tried again, but they are running now.
    host.advance(secs(10));
    host.apply("Website", &object("web/home"));
    host.event(HostEvent::MemoryPressure);
    assert!(ids.iter().all(|id| host.is_stepping(*id)));
}

#[test]
fn the_memory_pool_is_given_back_under_pressure_whatever_is_suspended() {
    for instances in [&[][..], &[(5, HOUR)]] {
        let (mut host, _) = idle(None, instances);
        host.event(HostEvent::MemoryPressure);
        assert!(host.effects.iter().any(|effect| matches!(effect, HostEffect::ClearMemoryPool)));
    }
}

#[test]
fn the_end_of_an_idle_gap_is_recorded_with_what_ended_it() {
    use wasmop_policy::Trigger;
    let (mut host, id) = with_policy(Policy::After(secs(100)));
    let recorded = |host: &mut Harness| {
        let effects = std::mem::take(&mut host.effects);
        let activity = effects.into_iter().filter_map(|effect| match effect {
            HostEffect::RecordActivity { at, trigger, .. } => Some((at, trigger)),
            _ => None,
        });
        activity.collect::<Vec<_>>()
    };
    recorded(&mut host);
    host.advance(secs(1));
    host.apply("Website", &object("web/home"));
    assert_eq!(recorded(&mut host), [(host.now.host, Trigger::Unscheduled)]);
    let task = host.begun(id)[0].0;
    host.does(id, vec![requeue(task, secs(10))]);
    host.advance(secs(10));
    assert_eq!(recorded(&mut host), [(host.now.host, Trigger::Scheduled)]);
    // Waiting for an answer is no idle gap.
    let task = host.begun(id)[0].0;
    host.does(id, vec![call(1, task, "GET", "/api/v1/pods")]);
    let send = host.send();
    host.advance(secs(1));
    host.respond(&send, 200, "[]");
    assert_eq!(recorded(&mut host), []);
}

#[test]
fn an_instance_that_is_resumed_counts_as_grown_by_all_of_it() {
    let (mut host, ids) = idle(Some(8 * MIB), &[(5, HOUR), (5, HOUR)]);
    // The first one was suspended for the second.
    host.saved(ids[0]);
    host.apply("Website", &object("web/home"));
    let task = host.begun(ids[1])[0].0;
    host.does(ids[1], vec![done(task)]);
    assert_eq!(host.saving(ids[1]), None);
    let task = host.begun(ids[0])[0].0;
    host.does(ids[0], vec![done(task)]);
    assert_eq!(ids.iter().filter_map(|id| host.saving(*id)).collect::<Vec<_>>(), [SaveReason::Budget]);
}

#[test]
fn an_instance_beyond_the_budget_goes_on_while_it_has_something_to_do() {
    let (mut host, ids) = idle(Some(3 * MIB), &[(1, HOUR)]);
    let id = ids[0];
    host.apply("Website", &object("web/a"));
    host.apply("Website", &object("web/b"));
    let grown = InstanceFacts { anonymous_bytes: 5 * MIB, ..host.facts[&id] };
    let task = host.begun(id)[0].0;
    host.does(id, Did { instance: Some(grown), ..Did::from(vec![done(task)]) });
    assert!(host.is_stepping(id));
}
