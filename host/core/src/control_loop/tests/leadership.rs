//! Controllers that several hosts could run: gained, given up and lost.

use std::sync::Arc;

use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits, Relation};
use wasmop_policy::Policy;

use super::super::{
    Gained, HostEffect, HostEvent, HostState, Leadership, LoopOptions, Phase, Recovered, SaveReason, SlotId, SpanEvent,
};
use super::environment::{Asked, object};
use super::harness::*;
use crate::election::{Fence, Term};
use crate::reply::Reply;
use crate::step::EventKind;

const LEASE: u64 = 15;
const PODS: &str = "/api/v1/pods";

fn standby() -> Setup {
    Setup { leadership: Leadership::Standby, ..setup("web") }
}

fn fence(host: &Harness) -> (Arc<Term>, Arc<Fence>) {
    let term = Arc::new(Term::new(host.now.boot + secs(LEASE)));
    (term.clone(), Arc::new(Fence::new(term)))
}

/// A controller that this host has gained, and that has registered this.
fn leading_with(setup: Setup, spec: &ControllerSpec) -> (Harness, SlotId, Arc<Fence>) {
    let mut host = Harness::with(LoopOptions { policy: Policy::Never, is_traced: true, ..LoopOptions::default() });
    let id = host.add(setup);
    host.start();
    let (_, fence) = fence(&host);
    host.gain(id, &fence, Recovered::fresh(host.now.host, 1000));
    host.boot(id, spec);
    host.effects.clear();
    (host, id, fence)
}

fn leading() -> (Harness, SlotId, Arc<Fence>) {
    leading_with(standby(), &websites())
}

fn give_up(host: &mut Harness, id: SlotId) {
    host.event(HostEvent::GiveUp { slot: id });
}

/// It has stopped, and the election was told.
fn assert_stopped(host: &mut Harness, id: SlotId, what: &str) {
    assert_eq!(host.given_up(), [id], "{what}");
    assert!(matches!(host.leadership(id), Leadership::Standby), "{what}");
    assert_eq!(host.control.phase(id), Phase::FRESH, "{what}");
    assert!(host.control.environment().watches.is_empty(), "{what}");
    assert!(host.control.credit(id).is_none() && host.control.next_wake().is_none(), "{what}");
    assert_eq!(host.observe(id).requests, 0, "{what}");
}

// --- gained

#[test]
fn a_controller_on_standby_does_nothing() {
    let mut host = Harness::new();
    let id = host.add(standby());
    host.start();
    host.advance(secs(1000));
    assert!(host.orders.is_empty() && host.control.next_wake().is_none());
    assert_eq!(host.observe(id).state.as_str(), "standby");
}

#[test]
fn a_controller_that_is_gained_without_a_snapshot_starts() {
    let mut host = Harness::new();
    let id = host.add(standby());
    host.start();
    let (_, fence) = fence(&host);
    host.gain(id, &fence, Recovered::fresh(host.now.host, 1000));
    assert_eq!(host.kinds(id), [EventKind::Start]);
    host.boot(id, &websites());
    host.apply("Website", &object("web/home"));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

/// What a controller is saved with while it reconciles `web/home`.
fn saved_state() -> HostState {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    host.does(id, vec![get(1, PODS)]);
    host.event(HostEvent::Shutdown);
    let Some(Order::Save(save)) = host.orders.remove(&id) else { panic!("it is saved") };
    save.state
}

#[test]
fn a_controller_that_is_gained_with_its_snapshot_continues() {
    let mut host = Harness::with(LoopOptions { policy: Policy::Never, is_traced: true, ..LoopOptions::default() });
    let id = host.add(standby());
    host.start();
    let (_, fence) = fence(&host);
    let state = saved_state();
    let startup = state.startup;
    let recovered = Recovered::from_snapshot(state, 5000, (7, secs(1)), startup, host.now.host).unwrap();
    host.gain(id, &fence, recovered);
    let observed = host.observe(id);
    assert_eq!((observed.counters.disk_bytes(), observed.registered, observed.active), (5120, true, 1));
    assert!(host.control.environment().has_watch_of("Website"));
    assert_eq!(host.kinds(id), [EventKind::Failed], "its request was lost");
    let begun = host.spans().into_iter().find_map(|span| match span {
        SpanEvent::Begin(begun) => Some(begun),
        _ => None,
    });
    assert!(begun.is_some_and(|begun| &*begun.object == "web/home" && begun.waited.is_none()));
}

#[test]
fn a_snapshot_is_of_no_use_to_a_program_that_is_started_with_something_else() {
    let state = saved_state();
    let startup = state.startup;
    let state = HostState::decode(&state.encode()).unwrap();
    let refused = Recovered::from_snapshot(state, 5000, (7, secs(1)), startup + 1, secs(1));
    assert_eq!(refused.unwrap_err(), "environment, arguments or log level have changed");
}

#[test]
fn a_controller_is_gained_on_standby_alone() {
    let held = leading().1;
    for what in ["held", "given up", "at shutdown", "alone"] {
        let (mut host, id, _) = leading();
        assert_eq!(id, held);
        match what {
            "given up" => {
                host.apply("Website", &object("web/home"));
                give_up(&mut host, id);
            }
            "at shutdown" => host.event(HostEvent::Shutdown),
            "alone" => (host, _) = Harness::running(&websites()),
            _ => {}
        }
        assert!(!host.control.may_gain(id), "{what}");
        let before = format!("{:?}", host.leadership(id));
        let (_, other) = fence(&host);
        let gained = Gained { slot: id, fence: other, transitions: 9, recovered: Recovered::default() };
        host.event(HostEvent::Gained(Box::new(gained)));
        assert_eq!(format!("{:?}", host.leadership(id)), before, "{what}");
    }
}

// --- given up

#[test]
fn a_controller_that_is_given_up_is_saved_and_stops() {
    for (what, tier, policy, saves) in [
        ("resident", Tier::Full, Policy::Never, true),
        ("suspended", Tier::Full, Policy::Immediate, false),
        ("of the soft tier", Tier::Soft, Policy::Never, false),
    ] {
        let (mut host, id, fence) = leading_with(Setup { tier, policy: Some(policy), ..standby() }, &websites());
        if host.saving(id).is_some() {
            host.saved(id);
        }
        give_up(&mut host, id);
        assert_eq!(host.saving(id), saves.then_some(SaveReason::Handover), "{what}");
        if saves {
            host.saved(id);
        }
        assert_stopped(&mut host, id, what);
        assert!(!fence.holds(host.now.boot), "{what}");
        assert!(host.spans().iter().any(|span| matches!(span, SpanEvent::Stopped { .. })), "{what}");
    }
}

#[test]
fn a_controller_that_is_given_up_ends_its_step_and_is_ordered_no_other() {
    let (mut host, id, _) = leading();
    host.apply("Website", &object("web/a"));
    host.apply("Website", &object("web/b"));
    give_up(&mut host, id);
    assert!(host.is_stepping(id));
    let task = host.begun(id)[0].0;
    host.does(id, vec![done(task)]);
    assert_eq!(host.saving(id), Some(SaveReason::Handover));
    assert_eq!(host.observe(id).counters.reconciles_with(crate::status::counters::ReconcileResult::Success), 1);
}

#[test]
fn a_controller_that_is_given_up_waits_at_most_5_s_for_answers() {
    for (what, path, answered, waits) in [
        ("an answer that comes", PODS, Some(ms(700)), true),
        ("an answer that does not come", PODS, None, true),
        ("a stream, which never ends", "/api/v1/pods?watch=true", None, false),
    ] {
        let (mut host, id, _) = leading();
        host.apply("Website", &object("web/a"));
        host.does(id, vec![get(1, path)]);
        let send = host.send();
        assert!(send.fence.is_some());
        give_up(&mut host, id);
        assert_eq!(host.saving(id).is_none(), waits, "{what}");
        if let Some(after) = answered {
            host.advance(after);
            host.respond(&send, 200, "[]");
        } else if waits {
            assert_eq!(host.control.next_wake(), Some(host.now.host + secs(5)), "{what}");
            host.advance(secs(5) - ms(1));
            assert_eq!(host.saving(id), None, "{what}");
            host.advance(ms(1));
        }
        assert_eq!(host.saving(id), Some(SaveReason::Handover), "{what}");
        host.saved(id);
        assert_eq!(host.aborted().len(), usize::from(answered.is_none()), "{what}");
        assert_stopped(&mut host, id, what);
    }
}

#[test]
fn a_controller_that_is_given_up_makes_no_request_any_more() {
    let limits = Limits { api_requests_per_second: 10, api_burst: 1, ..Limits::NONE };
    for is_throttled in [false, true] {
        let limits = if is_throttled { limits } else { Limits::NONE };
        let (mut host, id, _) = leading_with(Setup { limits, ..standby() }, &websites());
        host.apply("Website", &object("web/a"));
        let task = host.begun(id)[0].0;
        host.does(id, vec![get(1, PODS), get(2, PODS)]);
        let sent = host.sends();
        assert_eq!(sent.len(), if is_throttled { 1 } else { 2 });
        // In a step while it is given up, and later.
        host.apply("Website", &object("web/b"));
        give_up(&mut host, id);
        host.does(id, vec![get(3, PODS), done(task)]);
        assert!(host.sent().is_empty());
        host.advance(secs(4));
        assert!(host.sent().is_empty() && host.saving(id).is_none());
        for send in &sent {
            host.reply(send, vec![Reply::Failed("reset".into())]);
        }
        assert!(host.sent().is_empty());
        assert_eq!(host.saving(id), Some(SaveReason::Handover));
        // Nor does the next instance make them.
        host.saved(id);
        let (_, fence) = fence(&host);
        host.gain(id, &fence, Recovered::fresh(host.now.host, 1000));
        host.boot(id, &websites());
        host.advance(secs(1));
        assert!(host.sent().is_empty());
    }
}

#[test]
fn what_a_controller_has_seen_counts_for_one_time_on_this_host() {
    let place = crate::watch::WatchPosition { watch: crate::watch::hash("Website"), lineage: 1, number: 1 };
    let recorded = || super::environment::Recorded { present: vec![object("web/a").recorded(1)], last: 1 };
    let mut host = Harness::new();
    host.control.environment_mut().recorded.insert("Website".into(), recorded());
    let id = host.add(standby());
    host.start();
    for (places, sees) in [(vec![place], false), (Vec::new(), true)] {
        let state = saved_state();
        let startup = state.startup;
        let recovered = Recovered::from_snapshot(state, 5000, (7, secs(1)), startup, host.now.host).unwrap();
        let (_, fence) = fence(&host);
        host.gain(id, &fence, Recovered { places, ..recovered });
        let asked = host.control.environment().asked.iter();
        let mut recalled = asked.filter_map(|asked| match asked {
            Asked::Recall(_, _, place) => Some(*place),
            _ => None,
        });
        assert_eq!(recalled.next_back(), Some((!sees).then_some(1)));
        host.event(HostEvent::LeaseLost { slot: id });
        host.does(id, vec![]);
    }
}

#[test]
fn a_controller_that_is_given_up_with_a_reconcile_that_is_overdue_just_stops() {
    let limits = Limits { reconcile_timeout_ns: 1_000_000_000, ..Limits::NONE };
    let (mut host, id, _) = leading_with(Setup { limits, ..standby() }, &websites());
    host.apply("Website", &object("web/a"));
    host.does(id, vec![get(1, PODS)]);
    give_up(&mut host, id);
    host.advance(secs(3));
    assert!(host.reasons().is_empty() && host.saving(id).is_none());
    host.advance(secs(2));
    assert_eq!(host.saving(id), Some(SaveReason::Handover));
}

#[test]
fn a_controller_whose_snapshot_cannot_be_written_stops_without_one() {
    let (mut host, id, _) = leading();
    give_up(&mut host, id);
    host.save_fails(id, std::io::Error::from(std::io::ErrorKind::StorageFull));
    assert_stopped(&mut host, id, "the disk is full");
    // What the disk refused is forgotten.
    let (_, fence) = fence(&host);
    host.gain(id, &fence, Recovered::fresh(host.now.host, 1000));
    host.boot(id, &websites());
    give_up(&mut host, id);
    assert_eq!(host.saving(id), Some(SaveReason::Handover));
}

#[test]
fn a_controller_comes_back_to_a_host_that_gave_it_up() {
    let spec = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
    let (mut host, id, _) = leading_with(standby(), &spec);
    for round in 0..3 {
        host.list("Website", &[object("web/home")]);
        assert_eq!(host.reconciled(id), ["web/home"], "round {round}");
        give_up(&mut host, id);
        host.saved(id);
        assert_stopped(&mut host, id, "given up");
        let (_, fence) = fence(&host);
        host.gain(id, &fence, Recovered::fresh(host.now.host, 1000));
        host.boot(id, &spec);
    }
}

// --- lost

#[test]
fn a_controller_whose_lease_is_lost_is_dropped() {
    for what in ["idle", "with requests", "with requests that wait", "being saved", "suspended"] {
        let limits = Limits { api_in_flight: 1, ..Limits::NONE };
        let (mut host, id, _) = leading_with(Setup { limits, ..standby() }, &websites());
        let aborted = match what {
            "with requests" | "with requests that wait" => {
                host.apply("Website", &object("web/a"));
                let more = if what == "with requests" { 1 } else { 3 };
                host.does(id, (0..more).map(|call| get(call, PODS)).collect::<Vec<_>>());
                assert_eq!(host.sent(), [0]);
                vec![0]
            }
            "being saved" | "suspended" => {
                host.control.slots[id].suspension.policy = Policy::Immediate;
                host.apply("Website", &object("web/a"));
                host.reconciled(id);
                if what == "suspended" {
                    host.saved(id);
                }
                vec![]
            }
            _ => vec![],
        };
        host.event(HostEvent::LeaseLost { slot: id });
        assert_eq!(host.aborted(), aborted, "{what}");
        if what == "being saved" {
            host.saved(id);
        }
        assert_stopped(&mut host, id, what);
        assert!(host.discarded() > 0, "{what}");
    }
}

#[test]
fn a_step_that_ends_after_the_lease_was_lost_has_no_effect() {
    for is_told in [true, false] {
        let (mut host, id, _) = leading();
        host.apply("Website", &object("web/a"));
        let task = host.begun(id)[0].0;
        if is_told {
            host.event(HostEvent::LeaseLost { slot: id });
            assert!(host.given_up().is_empty(), "its instance is with a worker");
        } else {
            // The machine slept: nobody says that the lease is over but its clock.
            host.now.boot += secs(LEASE);
        }
        let log = vec![log("x")];
        host.does(id, Did { logs: log, ..Did::from(vec![get(1, PODS), register(&websites()), done(task)]) });
        assert!(host.sent().is_empty() && host.aborted().is_empty(), "told: {is_told}");
        let counters = host.observe(id).counters;
        assert_eq!(
            (counters.steps, counters.reconciles_with(crate::status::counters::ReconcileResult::Success)),
            (1, 0)
        );
        assert_stopped(&mut host, id, "after the step");
        assert!(host.discarded() > 0);
    }
}

#[test]
fn a_lease_that_is_over_by_the_clock_is_noticed_before_anything_is_done() {
    for (what, sleep, runs) in [("renewed in time", LEASE - 1, true), ("not renewed", LEASE, false)] {
        let (mut host, id, _) = leading();
        host.now.boot += secs(sleep);
        host.apply("Website", &object("web/a"));
        assert_eq!(host.is_stepping(id), runs, "{what}");
        if !runs {
            assert_stopped(&mut host, id, what);
        }
    }
}

#[test]
fn a_controller_that_is_given_up_is_dropped_if_its_lease_is_lost_meanwhile() {
    for is_told in [true, false] {
        let (mut host, id, _) = leading();
        host.apply("Website", &object("web/a"));
        host.does(id, vec![get(1, PODS)]);
        host.sends();
        give_up(&mut host, id);
        if is_told {
            host.event(HostEvent::LeaseLost { slot: id });
        } else {
            host.now.boot += secs(LEASE);
            host.dispatch();
            assert!(host.given_up().is_empty(), "it is looked at when it is touched");
            host.advance(secs(5));
        }
        assert_eq!((host.saving(id), host.aborted()), (None, vec![1]), "told: {is_told}");
        assert_stopped(&mut host, id, "lost");
    }
}

#[test]
fn answers_that_come_after_it_has_stopped_are_ignored() {
    let (mut host, id, _) = leading();
    host.apply("Website", &object("web/a"));
    host.does(id, vec![get(1, PODS)]);
    let send = host.send();
    host.event(HostEvent::LeaseLost { slot: id });
    assert_stopped(&mut host, id, "lost");
    host.reply(&send, vec![head(200), body("late"), Reply::End]);
    host.event(HostEvent::GiveUp { slot: id });
    host.event(HostEvent::LeaseLost { slot: id });
    assert!(host.orders.is_empty() && host.given_up().is_empty());
    assert!(!host.effects.iter().any(|effect| matches!(effect, HostEffect::Send(_))));
}
