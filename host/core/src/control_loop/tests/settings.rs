//! Settings that change while the host runs.

use std::collections::BTreeMap;

use wasmop_policy::Policy;

use super::super::{Authorization, BudgetTooSmall, HostEvent, InstanceFacts, LoopOptions, SaveReason, Settings};
use super::environment::object;
use super::harness::*;
use crate::permissions::Grant;
use crate::step::EventKind;

const SECOND: Policy = Policy::After(std::time::Duration::from_secs(1));

fn controllers(name: &str, authorization: Authorization) -> BTreeMap<String, Authorization> {
    [(name.to_owned(), authorization)].into()
}

#[test]
fn the_owners_policy_takes_precedence_over_the_packages_and_that_over_the_hosts() {
    use Policy::{Adaptive, Immediate, Never};
    for (owner, package, host_policy, expected) in [
        (None, None, Never, Never),
        (None, None, Adaptive, Adaptive),
        (None, Some(SECOND), Never, SECOND),
        (Some(Immediate), Some(SECOND), Never, Immediate),
        (Some(Immediate), None, Never, Immediate),
    ] {
        let mut host = Harness::with(LoopOptions { policy: host_policy, ..LoopOptions::default() });
        let id = host.add(Setup { policy: owner, package_policy: package, ..setup("web") });
        assert_eq!(host.control.slots[id].suspension.policy, expected, "{owner:?} {package:?} {host_policy:?}");
        // The same, of settings that come later.
        let mut host = Harness::with(LoopOptions { policy: Policy::Never, ..LoopOptions::default() });
        let id = host.add(Setup { package_policy: package, ..setup("web") });
        host.start();
        let controllers = controllers("web", Authorization { policy: owner, grant: Grant::all() });
        host.event(HostEvent::Settings(Settings { policy: host_policy, controllers, ..Settings::default() }));
        assert_eq!(host.control.slots[id].suspension.policy, expected, "{owner:?} {package:?} {host_policy:?}");
    }
}

#[test]
fn a_controller_that_new_settings_do_not_name_stays_as_it_is() {
    let (mut host, id) = Harness::running(&websites());
    let watch = host.watch("Website");
    let settings = Settings { policy: Policy::Immediate, ..Settings::default() };
    host.event(HostEvent::Settings(settings));
    assert_eq!(host.control.slots[id].suspension.policy, Policy::Never);
    assert_eq!((host.watch("Website"), host.saving(id)), (watch, None));
}

#[test]
fn a_new_policy_is_followed_at_once() {
    let (mut host, id) = Harness::running(&websites());
    let authorization = Authorization { policy: Some(Policy::Immediate), grant: Grant::all() };
    let controllers = controllers("web", authorization);
    host.event(HostEvent::Settings(Settings { controllers, ..Settings::default() }));
    assert_eq!(host.saving(id), Some(SaveReason::Idle));
}

#[test]
fn a_new_grant_ends_streams_and_lets_other_requests_go_on() {
    let calls = || vec![get(1, "/api/v1/pods?watch=true"), get(2, "/api/v1/pods")];
    for (what, grant, ends) in [
        ("the same", Grant::all(), false),
        ("less", Grant { rules: Some(vec![rule("*", "websites", &["*"])].into()), ..Grant::all() }, true),
        (
            "another identity",
            Grant { service_account: Some(std::sync::Arc::new("web/robot".parse().unwrap())), ..Grant::all() },
            true,
        ),
    ] {
        let (mut host, id) = Harness::calling(setup("web"), calls());
        let sends = host.sends();
        let controllers = controllers("web", Authorization { policy: Some(Policy::Never), grant: grant.clone() });
        host.event(HostEvent::Settings(Settings { controllers, ..Settings::default() }));
        assert_eq!(host.aborted(), if ends { vec![1] } else { vec![] }, "{what}");
        assert_eq!(host.observe(id).requests, if ends { 1 } else { 2 }, "{what}");
        if ends {
            let event = &host.events(id)[0];
            assert_eq!((event.kind, event.id), (EventKind::Failed, 1), "{what}");
            assert_eq!(&event.payload[..], b"wasmop: what this controller is granted has changed");
            host.does(id, vec![get(3, "/api/v1/pods")]);
            let sent = host.sends();
            let is_permitted = grant.rules.is_none();
            assert_eq!(sent.len(), usize::from(is_permitted), "{what}");
            assert!(sent.iter().all(|send| send.service_account == grant.service_account), "{what}");
        }
        // An answer that was under way still comes.
        if host.is_stepping(id) {
            host.does(id, vec![]);
        }
        host.respond(&sends[1], 200, "[]");
        assert_eq!(host.kinds(id), [EventKind::Head, EventKind::Body, EventKind::End], "{what}");
    }
}

#[test]
fn a_stream_that_waits_is_sent_with_what_is_granted_then() {
    let limits = wasmop_package::manifest::Limits {
        api_requests_per_second: 1,
        api_burst: 1,
        ..wasmop_package::manifest::Limits::NONE
    };
    let calls = vec![get(1, "/api/v1/pods"), get(2, "/api/v1/pods?watch=true")];
    let (mut host, id) = Harness::calling(Setup { limits, ..setup("web") }, calls);
    assert_eq!(host.sent(), [1]);
    let rules = Some(vec![rule("demo.dev", "websites", &["*"])].into());
    let grant = Grant { rules, ..Grant::all() };
    let controllers = controllers("web", Authorization { policy: Some(Policy::Never), grant });
    host.event(HostEvent::Settings(Settings { controllers, ..Settings::default() }));
    assert!(!host.is_stepping(id));
    host.advance(secs(1));
    assert!(host.sent().is_empty());
    assert_eq!((host.events(id)[0].kind, host.events(id)[0].aux), (EventKind::Head, 403));
}

#[test]
fn a_budget_that_no_instance_fits_into_is_refused() {
    let mut host = Harness::new();
    host.add(Setup { base_data_bytes: 100, ..setup("small") });
    host.add(Setup { base_data_bytes: 3000, ..setup("large") });
    host.add(Setup { tier: wasmop_package::Tier::Soft, base_data_bytes: 9000, ..setup("soft") });
    for (budget, refused) in
        [(None, None), (Some(3000), None), (Some(2999), Some(("large", 3000))), (Some(50), Some(("small", 100)))]
    {
        let expected =
            refused.map(|(name, needed)| BudgetTooSmall { budget: budget.unwrap(), name: name.to_owned(), needed });
        assert_eq!(host.control.check_budget(budget).err(), expected, "{budget:?}");
    }
}

#[test]
fn a_smaller_budget_is_kept_at_once() {
    let (mut host, id) = Harness::running_with(Setup { policy: Some(SECOND), ..setup("web") }, &websites());
    let large = InstanceFacts { anonymous_bytes: 9 * MIB, ..host.facts[&id] };
    host.facts.insert(id, large);
    host.apply("Website", &object("web/home"));
    host.reconciled(id);
    for (budget, reason) in [(None, None), (Some(20 * MIB), None), (Some(5 * MIB), Some(SaveReason::Budget))] {
        host.event(HostEvent::Settings(Settings { memory_budget: budget, ..Settings::default() }));
        assert_eq!(host.saving(id), reason, "{budget:?}");
        assert_eq!(host.control.memory_budget(), budget);
    }
}

#[test]
fn the_memory_for_watched_objects_is_passed_on() {
    let (mut host, _) = Harness::running(&websites());
    for limit in [Some(1000), None] {
        host.event(HostEvent::Settings(Settings { cache_memory: limit, ..Settings::default() }));
        assert_eq!((host.control.cache_memory(), host.control.environment().object_limit), (limit, limit));
    }
}
