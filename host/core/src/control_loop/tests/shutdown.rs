//! The end of a host: every instance is saved once.

use std::io;

use wasmop_package::Tier;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use super::super::{HostEvent, Phase, SaveReason};
use super::environment::object;
use super::harness::*;
use crate::step::Lost;

const PODS: &str = "/api/v1/pods";

fn shut_down(host: &mut Harness) {
    host.event(HostEvent::Shutdown);
}

#[test]
fn every_instance_is_saved_whatever_its_policy() {
    for (what, tier, policy, saves) in [
        ("resident", Tier::Full, Policy::Never, true),
        ("suspended", Tier::Full, Policy::Immediate, false),
        ("of the soft tier", Tier::Soft, Policy::Never, false),
        ("of the soft tier and suspended", Tier::Soft, Policy::Immediate, false),
    ] {
        let (mut host, id) = Harness::running_with(Setup { tier, policy: Some(policy), ..setup("web") }, &websites());
        if host.saving(id).is_some() {
            host.saved(id);
        }
        shut_down(&mut host);
        assert_eq!(host.saving(id), saves.then_some(SaveReason::Shutdown), "{what}");
        if saves {
            host.saved(id);
        }
        assert_eq!(host.discarded() > 0, tier == Tier::Soft, "{what}");
        assert!(matches!(host.control.phase(id), Phase::Suspended { .. }), "{what}");
        assert!(host.orders.is_empty() && host.control.next_wake().is_none(), "{what}");
    }
}

#[test]
fn a_step_that_is_under_way_ends_and_its_instance_is_saved_with_what_it_did() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/a"));
    host.apply("Website", &object("web/b"));
    shut_down(&mut host);
    let task = host.begun(id)[0].0;
    host.does(id, vec![requeue(task, secs(30)), get(1, PODS)]);
    assert!(host.sent().is_empty(), "nothing is sent any more");
    assert_eq!(host.saving(id), Some(SaveReason::Shutdown));
    let Some(Order::Save(save)) = host.orders.get(&id) else { panic!("it is saved") };
    let state = super::super::HostState::decode(&save.state.encode()).unwrap();
    let restored = crate::controller::Controller::restore(state.controller, secs(0), 0, secs(0)).unwrap();
    let queue = &restored.registration(R0).unwrap().queue;
    assert_eq!((queue.len(), queue.next_at()), (2, Some(secs(30))));
}

#[test]
fn requests_are_cancelled() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, PODS), get(2, "/api/v1/pods?watch=true")]);
    host.sends();
    shut_down(&mut host);
    assert_eq!(host.aborted(), [1, 2]);
    assert_eq!(host.saving(id), Some(SaveReason::Shutdown));
}

#[test]
fn a_save_that_fails_is_not_repeated() {
    let (mut host, id) = Harness::running(&websites());
    shut_down(&mut host);
    host.save_fails(id, io::Error::from(io::ErrorKind::StorageFull));
    assert!(host.orders.is_empty() && matches!(host.control.phase(id), Phase::Resident(_)));
    host.dispatch();
    assert!(host.orders.is_empty());
}

#[test]
fn an_instance_that_the_disk_refused_a_moment_before_is_not_saved() {
    let (mut host, id) = Harness::running_with(Setup { policy: Some(Policy::Immediate), ..setup("web") }, &websites());
    host.save_fails(id, io::Error::from(io::ErrorKind::StorageFull));
    shut_down(&mut host);
    assert_eq!(host.saving(id), None);
    assert_eq!(host.control.next_wake(), None);
}

#[test]
fn nothing_begins() {
    let (mut host, id) = Harness::running_with(Setup { policy: Some(Policy::Immediate), ..setup("web") }, &websites());
    host.saved(id);
    shut_down(&mut host);
    host.apply("Website", &object("web/home"));
    assert!(host.orders.is_empty(), "a change resumes nothing");
    host.advance(secs(1000));
    assert!(host.orders.is_empty());
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    shut_down(&mut host);
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    assert!(host.orders.is_empty(), "an instance that is lost does not start over");
}

#[test]
fn limits_want_no_attention_while_instances_are_saved() {
    let limits =
        Limits { api_requests_per_second: 1, api_burst: 1, reconcile_timeout_ns: 1_000_000_000, ..Limits::NONE };
    let (mut host, id) = Harness::running_with(Setup { limits, ..setup("web") }, &websites());
    host.apply("Website", &object("web/home"));
    host.does(id, vec![get(1, PODS), get(2, PODS)]);
    assert!(host.control.next_wake().is_some());
    shut_down(&mut host);
    // The harness would dispatch again and again if a limit was due.
    host.advance(secs(10));
    assert_eq!(host.control.next_wake(), None);
    assert_eq!(host.saving(id), Some(SaveReason::Shutdown));
    host.saved(id);
    assert!(host.orders.is_empty());
}
