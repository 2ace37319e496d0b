//! Changes of watched objects to reconciles.

use serde_json::json;
use wasmop_package::manifest::{ControllerSpec, Limits, Relation, WatchSpec};

use super::environment::{Object, object};
use super::harness::*;
use crate::status::counters::IgnoredChange;
use crate::step::{Action, EventKind};

/// A controller of these websites that watches something else as well.
fn watching(spec: &ControllerSpec, known: &[Object]) -> (Harness, super::super::SlotId) {
    let (mut host, id) = Harness::running(spec);
    let primary = spec.primary.kind.clone();
    host.list(&primary, known);
    host.reconciled(id);
    (host, id)
}

#[test]
fn a_change_reconciles_the_objects_it_concerns() {
    let deployment = || object("web/a");
    for (what, relation, changes, expected, unrelated) in [
        ("an owner", Relation::Owner, vec![deployment().owned_by("Website", "home", false)], &["web/home"][..], 0),
        ("an owner nobody watches", Relation::Owner, vec![deployment().owned_by("Website", "gone", true)], &[], 1),
        ("an owner of another kind", Relation::Owner, vec![deployment().owned_by("Node", "home", true)], &[], 0),
        ("no owner", Relation::Owner, vec![deployment()], &[], 0),
        (
            "two owners",
            Relation::Owner,
            vec![deployment().owned_by("Website", "home", false).owned_by("Website", "shop", false)],
            &["web/home", "web/shop"],
            0,
        ),
        (
            "an owner that is not the controller",
            Relation::Controller,
            vec![deployment().owned_by("Website", "home", false)],
            &[],
            0,
        ),
        (
            "the controller",
            Relation::Controller,
            vec![deployment().owned_by("Website", "home", true)],
            &["web/home"],
            0,
        ),
        (
            "the old owner and the new one",
            Relation::Owner,
            vec![
                deployment().owned_by("Website", "home", true),
                deployment().version(2).owned_by("Website", "shop", true),
            ],
            &["web/home", "web/home", "web/shop"],
            0,
        ),
        (
            "an owner in another namespace",
            Relation::Owner,
            vec![object("other/a").owned_by("Website", "home", true)],
            &[],
            1,
        ),
    ] {
        let spec = reconciler(kind("Website"), vec![related("Deployment", relation)]);
        let (mut host, id) = watching(&spec, &[object("web/home"), object("web/shop")]);
        let mut found = Vec::new();
        for change in changes {
            host.apply("Deployment", &change);
            if host.is_stepping(id) {
                found.extend(host.reconciled(id));
            }
        }
        assert_eq!(found, expected, "{what}");
        assert_eq!(host.ignored(id, IgnoredChange::Unrelated), unrelated, "{what}");
    }
}

#[test]
fn an_object_itself_is_reconciled_when_it_comes_changes_and_goes() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    assert_eq!(host.reconciled(id), ["web/home"]);
    host.apply("Website", &object("web/home"));
    assert!(!host.is_stepping(id), "the same version is no change");
    host.apply("Website", &object("web/home").version(2));
    assert_eq!(host.reconciled(id), ["web/home"]);
    host.delete("Website", &object("web/home").version(3));
    assert_eq!(host.reconciled(id), ["web/home"]);
    host.list("Website", &[object("web/a"), object("web/b")]);
    assert_eq!(host.reconciled(id), ["web/a", "web/b"]);
}

#[test]
fn the_owner_of_a_namespaced_object_may_have_no_namespace() {
    let spec = reconciler(kind("Node"), vec![related("ConfigMap", Relation::Owner)]);
    let (mut host, id) = watching(&spec, &[object("n1")]);
    host.apply("ConfigMap", &object("web/config").owned_by("Node", "n1", true));
    assert_eq!(host.reconciled(id), ["n1"]);
}

#[test]
fn an_owner_that_comes_later_is_reconciled_when_it_comes() {
    let spec = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
    let (mut host, id) = Harness::running(&spec);
    host.apply("Deployment", &object("web/a").owned_by("Website", "home", true));
    assert!(!host.is_stepping(id));
    host.apply("Website", &object("web/home"));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

#[test]
fn changes_of_status_and_metadata_may_be_left_out() {
    let site = || object("web/home").generation(5);
    for (what, changed, counts) in [
        ("the status", site().version(2), false),
        ("the spec", site().version(2).generation(6), true),
        ("its deletion begins", site().version(2).deleting(), true),
        ("another object of the name", site().version(2).uid("other"), true),
        ("an object without a generation", site().version(2).generation(0), true),
    ] {
        let primary = WatchSpec { generation_changed: true, ..kind("Website") };
        let (mut host, id) = watching(&reconciler(primary, Vec::new()), &[site()]);
        host.apply("Website", &changed);
        assert_eq!(host.is_stepping(id), counts, "{what}");
        assert_eq!(host.ignored(id, IgnoredChange::Predicate), u64::from(!counts), "{what}");
    }
}

#[test]
fn a_predicate_decides_which_changes_count() {
    let site = |size: u32| object("web/home").spec(json!({ "size": size }));
    for (what, predicate, before, after, counts, problem) in [
        ("true", "object.spec.size > 3", site(1), site(5).version(2), true, None),
        ("false", "object.spec.size > 3", site(1), site(2).version(2), false, None),
        ("of the old object", "oldObject.spec.size != object.spec.size", site(1), site(1).version(2), false, None),
        ("its deletion begins", "false", site(1), site(1).version(2).deleting(), true, None),
        ("another object of the name", "false", site(1), site(1).version(2).uid("other"), true, None),
        ("an error", "object.spec.size.foo > 3", site(1), site(1).version(2), true, Some("PredicateFailed")),
    ] {
        let primary = WatchSpec { predicate: predicate.into(), ..kind("Website") };
        let (mut host, id) = watching(&reconciler(primary, Vec::new()), &[before]);
        host.notices();
        host.apply("Website", &after);
        assert_eq!(host.is_stepping(id), counts, "{what}");
        assert_eq!(host.ignored(id, IgnoredChange::Predicate), u64::from(!counts), "{what}");
        assert_eq!(host.reasons(), Vec::from_iter(problem), "{what}");
    }
}

#[test]
fn a_predicate_is_evaluated_once_for_all_controllers_that_have_it() {
    let with = |predicate: &str| reconciler(WatchSpec { predicate: predicate.into(), ..kind("Website") }, Vec::new());
    for (predicates, judgements, reconciles) in [
        (["true", "true", "true"], 1, [true, true, true]),
        (["false", "false", "false"], 1, [false, false, false]),
        (["true", "false", "true"], 2, [true, false, true]),
        (["true", "", ""], 1, [true, true, true]),
    ] {
        let mut host = Harness::new();
        let ids = ["a", "b", "c"].map(|name| host.add(setup(name)));
        host.start();
        for (id, predicate) in ids.into_iter().zip(predicates) {
            host.boot(id, &with(predicate));
            host.deliver();
        }
        host.list("Website", &[object("web/home")]);
        ids.into_iter().for_each(|id| drop(host.reconciled(id)));
        host.control.environment_mut().judgements = 0;
        host.apply("Website", &object("web/home").version(2));
        assert_eq!(host.control.environment().judgements, judgements, "{predicates:?}");
        assert_eq!(ids.map(|id| host.is_stepping(id)), reconciles, "{predicates:?}");
    }
}

#[test]
fn a_controller_pays_for_its_predicates_and_without_cpu_time_every_change_counts() {
    let primary = WatchSpec { predicate: "false".into(), ..kind("Website") };
    let limits = Limits { cpu_share_millis: 100, ..Limits::NONE };
    let (mut host, id) = Harness::running_with(Setup { limits, ..setup("web") }, &reconciler(primary, Vec::new()));
    host.list("Website", &[object("web/home")]);
    host.reconciled(id);
    // A tenth of a core leaves one second in reserve.
    host.control.environment_mut().judgements = 0;
    host.control.environment_mut().judgement_cpu = ms(1500);
    host.apply("Website", &object("web/home").version(2));
    assert_eq!((host.control.environment().judgements, host.ignored(id, IgnoredChange::Predicate)), (1, 1));
    host.apply("Website", &object("web/home").version(3));
    assert_eq!((host.control.environment().judgements, host.ignored(id, IgnoredChange::Predicate)), (1, 1));
    assert!(!host.is_stepping(id), "it is held back until it has paid");
    assert_eq!(host.reasons(), ["CpuShareUsedUp"]);
    host.advance(secs(5));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

// --- map functions

fn mapping() -> ControllerSpec {
    reconciler(kind("Website"), vec![related("ConfigMap", Relation::Map)])
}

fn mapped(task: u64, keys: &str) -> Action {
    Action::Mapped { task, keys: keys.into() }
}

#[test]
fn a_map_function_says_which_objects_a_change_concerns() {
    for (what, keys, expected, misused) in [
        ("one that is watched", "web/home", &["web/home"][..], 0),
        ("several, each once", "web/home\nweb/shop\nweb/home", &["web/home", "web/shop"], 0),
        ("none", "", &[], 0),
        ("one that nobody has", "web/new", &["web/new"], 0),
        ("what is no key", "a/b/c\nweb/home", &["web/home"], 1),
        ("an empty part", "web/\n/x", &[], 1),
    ] {
        let (mut host, id) = watching(&mapping(), &[object("web/home"), object("web/shop")]);
        host.apply("ConfigMap", &object("web/config").spec(json!({ "color": "red" })));
        assert_eq!(host.kinds(id), [EventKind::Map], "{what}");
        let event = &host.events(id)[0];
        assert_eq!(event.aux, 0, "registration and watch");
        assert!(String::from_utf8_lossy(&event.payload).contains("red"), "it sees the whole object");
        let task = event.task;
        host.does(id, vec![mapped(task, keys)]);
        host.advance(ms(100));
        let found = if host.is_stepping(id) { host.reconciled(id) } else { Vec::new() };
        assert_eq!(found, expected, "{what}");
        assert_eq!(host.reasons().len(), misused, "{what}");
    }
}

#[test]
fn a_controller_of_existing_objects_reconciles_no_others() {
    let spec = ControllerSpec { only_existing: true, ..mapping() };
    let (mut host, id) = watching(&spec, &[object("web/home"), object("web/shop")]);
    host.apply("ConfigMap", &object("web/config"));
    let task = host.task(id, EventKind::Map);
    host.does(id, vec![mapped(task, "web/new\nweb/home")]);
    assert_eq!(host.reconciled(id), ["web/home"]);
    assert_eq!(host.ignored(id, IgnoredChange::Unrelated), 1);
    host.delete("Website", &object("web/shop").version(3));
    assert!(!host.is_stepping(id));
    assert_eq!(host.ignored(id, IgnoredChange::Predicate), 1);
}

#[test]
fn a_map_function_is_asked_about_objects_that_are_gone() {
    let (mut host, id) = watching(&mapping(), &[object("web/home")]);
    host.apply("ConfigMap", &object("web/config"));
    let task = host.task(id, EventKind::Map);
    host.does(id, vec![mapped(task, "")]);
    host.delete("ConfigMap", &object("web/config").version(2));
    let event = &host.events(id)[0];
    assert_eq!((event.kind, event.aux), (EventKind::Map, 1 << 15));
}

#[test]
fn a_map_function_that_fails_has_all_objects_reconciled_after_its_backoff() {
    let (mut host, id) = watching(&mapping(), &[object("web/home"), object("web/shop")]);
    for (failures, wait) in [(1, secs(1)), (2, secs(2)), (3, secs(4))] {
        host.apply("ConfigMap", &object("web/config").version(10 + failures));
        let task = host.task(id, EventKind::Map);
        host.does(id, vec![fails(task)]);
        assert!(!host.is_stepping(id));
        assert_eq!(host.control.next_wake(), Some(host.now.host + wait), "{failures} failures");
        host.advance(wait);
        assert_eq!(host.reconciled(id), ["web/home", "web/shop"], "{failures} failures");
    }
    assert!(host.last_error(id).contains("no luck"));
}

#[test]
fn a_change_whose_object_nobody_holds_has_all_objects_reconciled() {
    let (mut host, id) = watching(&mapping(), &[object("web/home"), object("web/shop")]);
    // A watch from an earlier host has metadata only.
    let watch = host.watch("ConfigMap");
    let environment = host.control.environment_mut();
    let metadata = crate::watch::Index::restore(vec![object("web/config").recorded(1)], Vec::new(), 0, 1);
    environment.watches.get_mut(&watch).unwrap().index = metadata;
    let subscriber = super::super::subscriptions::Subscription { slot: id, registration: R0, watch: Some(0) }.id();
    let change = environment.watches[&watch].index.replay(1).next().unwrap();
    let replay = Some(crate::watch::Replay { subscriber, missed: true });
    environment.sent.push_back(crate::watch::WatchEvent { watch, number: 1, replay, change });
    host.deliver();
    assert_eq!(host.reconciled(id), ["web/home", "web/shop"]);
}

#[test]
fn changes_to_map_do_not_keep_reconciles_waiting() {
    let (mut host, id) = watching(&mapping(), &[]);
    let sites: Vec<Object> = (0..20).map(|n| object(&format!("web/{n:02}"))).collect();
    let configs: Vec<Object> = (0..20).map(|n| object(&format!("web/c{n:02}"))).collect();
    let (of_sites, of_configs) = (host.watch("Website"), host.watch("ConfigMap"));
    host.control.environment_mut().list(of_configs, &configs);
    host.control.environment_mut().list(of_sites, &sites);
    host.deliver_together();
    let count = |kind| host.kinds(id).iter().filter(|found| **found == kind).count();
    assert_eq!((count(EventKind::Map), count(EventKind::Reconcile)), (8, 8));
}

#[test]
fn names_without_an_object_are_queued_up_to_a_limit() {
    let (mut host, id) = watching(&mapping(), &[object("web/home")]);
    host.apply("ConfigMap", &object("web/config"));
    let task = host.task(id, EventKind::Map);
    let names: String = (0..10_500).map(|n| format!("web/{n}\n")).collect();
    host.does(id, vec![mapped(task, &(names + "web/home"))]);
    let found = host.reconciled(id);
    assert_eq!(found.len(), 10_001, "10,000 names, and what is watched");
    assert_eq!(found.last().map(|name| &**name), Some("web/home"));
    assert!(host.reasons().is_empty(), "the guest did nothing wrong");
}

#[test]
fn what_a_new_subscriber_sees_is_judged_by_no_predicate() {
    let spec = reconciler(WatchSpec { predicate: "false".into(), ..kind("Website") }, Vec::new());
    let mut host = Harness::new();
    let (a, b) = (host.add(setup("a")), host.add(setup("b")));
    host.start();
    host.boot(a, &spec);
    host.list("Website", &[object("web/home")]);
    host.reconciled(a);
    host.control.environment_mut().judgements = 0;
    host.does(b, vec![register(&spec)]);
    host.deliver();
    assert_eq!(host.reconciled(b), ["web/home"]);
    assert_eq!(host.control.environment().judgements, 0);
}
