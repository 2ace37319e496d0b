//! What controllers register, the watches that come of it, and when those end.

use std::collections::BTreeSet;

use wasmop_package::manifest::{ControllerSpec, Relation, WatchSpec};
use wasmop_policy::Policy;

use super::super::{Authorization, HostEvent, LoopOptions, NamespaceLimit, Settings, SlotId};
use super::environment::{Asked, object};
use super::harness::*;
use crate::permissions::Grant;
use crate::permissions::learn::Learning;
use crate::step::Lost;
use crate::watch::LimitPlace;

fn limit(names: &[&str]) -> NamespaceLimit {
    NamespaceLimit { names: names.iter().map(|name| (*name).into()).collect(), said_in: LimitPlace::Flag }
}

/// Namespaces of the watches of a kind, and whether each is one of several.
fn watched(host: &Harness, kind: &str) -> Vec<(Option<String>, bool)> {
    let watches = host.control.environment().watches.values();
    let of_kind = watches.filter(|watch| watch.request.kind == kind);
    of_kind.map(|watch| (watch.request.namespace.clone(), watch.request.further)).collect()
}

#[test]
fn a_registration_watches_the_namespaces_that_it_asks_for_and_its_owner_allows() {
    let namespaces = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (what, asked, allowed, expected) in [
        ("all", &[][..], &[][..], vec![(None, false)]),
        ("one", &["a"], &[], vec![(Some("a"), false)]),
        ("several", &["a", "b"], &[], vec![(Some("a"), false), (Some("b"), true)]),
        ("all of those that are allowed", &[], &["x", "y"], vec![(Some("x"), false), (Some("y"), true)]),
        ("some of which are allowed", &["a", "x"], &["x", "y"], vec![(Some("x"), false)]),
        ("none that is allowed", &["a"], &["x"], vec![]),
    ] {
        let spec = ControllerSpec { namespaces: namespaces(asked), ..websites() };
        let (host, id) = Harness::running_with(Setup { namespaces: limit(allowed), ..setup("web") }, &spec);
        let expected: Vec<_> = expected.into_iter().map(|(name, further)| (name.map(str::to_owned), further)).collect();
        assert_eq!(watched(&host, "Website"), expected, "{what}");
        let reason = host.observe(id).unwatched.map(|unwatched| unwatched.reason);
        assert_eq!(reason, expected.is_empty().then_some("NotGranted"), "{what}");
    }
}

#[test]
fn changes_in_each_namespace_reach_the_controller() {
    let spec = ControllerSpec { namespaces: vec!["a".into(), "b".into()], ..websites() };
    let (mut host, id) = Harness::running(&spec);
    for namespace in ["a", "b"] {
        let watch = host.control.environment().watch_of("Website", Some(namespace));
        host.control.environment_mut().apply(watch, &object(&format!("{namespace}/home")));
    }
    host.deliver();
    assert_eq!(host.reconciled(id), ["a/home", "b/home"]);
}

#[test]
fn only_what_may_be_watched_is() {
    let all = &["*"][..];
    for (what, rules, website, deployment, unwatched) in [
        ("everything", vec![rule("*", "*", all)], true, true, None),
        ("the primary kind", vec![rule("demo.dev", "websites", &["list", "watch"])], true, false, None),
        ("the other kind", vec![rule("apps", "deployments", all)], false, true, Some("NotGranted")),
        ("to list but not to watch", vec![rule("*", "*", &["list", "get"])], false, false, Some("NotGranted")),
        ("nothing", vec![], false, false, Some("NotGranted")),
    ] {
        let spec = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
        let (host, id) = Harness::running_with(Setup { rules, ..setup("web") }, &spec);
        let environment = host.control.environment();
        assert_eq!(
            (environment.has_watch_of("Website"), environment.has_watch_of("Deployment")),
            (website, deployment),
            "{what}"
        );
        assert_eq!(host.observe(id).unwatched.map(|unwatched| unwatched.reason), unwatched, "{what}");
    }
}

#[test]
fn while_permissions_are_learnt_everything_may_be_watched() {
    let mut host = Harness::with(LoopOptions { learning: Some(Learning::default()), ..LoopOptions::default() });
    let id = host.add(Setup { rules: Vec::new(), ..setup("web") });
    host.start();
    host.boot(id, &websites());
    assert!(host.control.environment().has_watch_of("Website"));
}

#[test]
fn two_registrations_on_one_watch_are_reconciled_separately_and_hold_it_together() {
    let (mut host, id) = Harness::running(&websites());
    let second = ControllerSpec { name: "again".into(), ..websites() };
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![register(&second), done(task)]);
    host.deliver();
    assert_eq!(host.reconciled(id), ["web/home"], "the second one sees it as well");
    assert_eq!(host.control.environment().watches.len(), 1);
    host.apply("Website", &object("web/home").version(2));
    let registrations: BTreeSet<u32> = host.events(id).iter().map(|event| event.aux).collect();
    assert_eq!((host.begun(id).len(), registrations), (2, BTreeSet::from([0, 1])));
    // The next instance registers the second one alone.
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    host.does(id, vec![register(&second)]);
    host.deliver();
    assert_eq!(host.control.environment().watches.len(), 1);
    assert_eq!(host.control.slots[id].watches.primaries.len(), 1);
    let found = host.reconciled(id);
    assert!(found.iter().all(|object| object == "web/home") && !found.is_empty(), "{found:?}");
}

#[test]
fn the_next_instance_may_register_something_else() {
    let site = |name: &str| ControllerSpec { name: name.into(), ..websites() };
    let nodes = reconciler(kind("Node"), Vec::new());
    let with_child = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
    for (what, before, after, watches, survives) in [
        ("the same", websites(), websites(), &["Website"][..], true),
        ("another kind", websites(), nodes, &["Node"], false),
        ("a further watch", websites(), with_child.clone(), &["Website", "Deployment"], true),
        ("a watch less", with_child, websites(), &["Website"], true),
        ("another name", site("a"), site("b"), &["Website"], false),
    ] {
        let (mut host, id) = Harness::running(&before);
        host.list("Website", &[object("web/home")]);
        host.reconciled(id);
        host.apply("Website", &object("web/home").version(2));
        // A timer of the first instance's object.
        let task = host.begun(id)[0].0;
        host.does(id, vec![requeue(task, secs(100))]);
        host.apply("Website", &object("web/x"));
        host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
        host.does(id, vec![register(&after)]);
        host.deliver();
        let environment = host.control.environment();
        let found: Vec<&str> = environment.watches.values().map(|watch| &*watch.request.kind).collect();
        assert_eq!(found, watches, "{what}");
        host.reconciled(id);
        // The queue of a registration that is continued keeps its times.
        let queue = host.observe(id).queue;
        assert_eq!(queue.adds > 3, survives, "{what}: {queue:?}");
    }
}

#[test]
fn each_watch_is_released_as_often_as_it_was_subscribed_to() {
    let spec = reconciler(
        kind("Website"),
        vec![related("Deployment", Relation::Owner), WatchSpec { label_selector: "a=b".into(), ..kind("ConfigMap") }],
    );
    let (mut host, id) = Harness::running(&spec);
    host.apply("Website", &object("web/home"));
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    host.does(id, vec![register(&reconciler(kind("Node"), Vec::new()))]);
    host.deliver();
    let asked = &host.control.environment().asked;
    let subscribed = asked.iter().filter(|asked| matches!(asked, Asked::Subscribe(_))).count();
    let released = asked.iter().filter(|asked| matches!(asked, Asked::Release(_))).count();
    assert_eq!((subscribed, released), (4, 3));
    assert_eq!(watched(&host, "Node").len(), 1);
}

#[test]
fn an_event_of_a_watch_that_has_ended_concerns_nobody() {
    let (mut host, id) = Harness::running(&websites());
    let watch = host.watch("Website");
    host.apply("Website", &object("web/x"));
    host.control.environment_mut().apply(watch, &object("web/home"));
    let late = host.control.environment_mut().sent.pop_front().unwrap();
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    host.does(id, vec![register(&reconciler(kind("Node"), Vec::new()))]);
    assert!(!host.control.environment().has_watch_of("Website"));
    // The harness checks that nothing is kept of it.
    host.event(HostEvent::Watch(late));
    assert!(!host.is_stepping(id));
}

// --- grants

fn grant(host: &mut Harness, id: SlotId, rules: Option<Vec<wasmop_package::manifest::PolicyRule>>) {
    let name = host.control.name(id).to_string();
    let grant = Grant { rules: rules.map(Into::into), ..Grant::all() };
    let controllers = [(name, Authorization { policy: Some(Policy::Never), grant })].into();
    host.event(HostEvent::Settings(Settings { policy: Policy::Never, controllers, ..Settings::default() }));
}

#[test]
fn a_new_grant_begins_and_ends_watches() {
    let spec = reconciler(kind("Website"), vec![related("Deployment", Relation::Owner)]);
    let list_watch = &["list", "watch"];
    let (mut host, id) = Harness::running(&spec);
    host.list("Website", &[object("web/home")]);
    host.reconciled(id);
    let kinds = |host: &Harness| {
        let watches = host.control.environment().watches.values();
        watches.map(|watch| watch.request.kind.clone()).collect::<Vec<_>>()
    };
    for (what, rules, expected, sees) in [
        ("less", Some(vec![rule("demo.dev", "websites", list_watch)]), &["Website"][..], false),
        ("the same again", Some(vec![rule("demo.dev", "websites", list_watch)]), &["Website"], false),
        ("nothing", Some(vec![]), &[], false),
        ("everything", None, &["Website", "Deployment"], true),
    ] {
        grant(&mut host, id, rules);
        assert_eq!(kinds(&host), expected, "{what}");
        if sees {
            host.list("Website", &[object("web/home")]);
        }
        host.deliver();
        let found = host.reconciled(id);
        assert_eq!(found, if sees { vec!["web/home"] } else { vec![] }, "{what}");
    }
    assert!(host.observe(id).unwatched.is_none());
}

#[test]
fn a_watch_that_is_granted_again_is_another_watch() {
    let (mut host, id) = Harness::running(&websites());
    let before = host.watch("Website");
    grant(&mut host, id, Some(vec![]));
    assert_eq!(host.observe(id).unwatched.map(|unwatched| unwatched.reason), Some("NotGranted"));
    grant(&mut host, id, None);
    assert_ne!(host.watch("Website"), before);
}

#[test]
fn a_new_service_account_watches_for_itself() {
    let (mut host, id) = Harness::running(&websites());
    let before = host.watch("Website");
    let account = "web/robot".parse().unwrap();
    let grant = Grant { service_account: Some(std::sync::Arc::new(account)), ..Grant::all() };
    let controllers = [("web".to_owned(), Authorization { policy: None, grant })].into();
    host.event(HostEvent::Settings(Settings { policy: Policy::Never, controllers, ..Settings::default() }));
    let after = host.watch("Website");
    assert_ne!(after, before);
    assert!(host.control.environment().watches[&after].request.service_account.is_some());
    host.list("Website", &[object("web/home")]);
    assert_eq!(host.reconciled(id), ["web/home"]);
}

#[test]
fn controllers_that_register_the_same_share_one_copy_of_it() {
    let mut host = Harness::new();
    let ids = ["a", "b"].map(|name| host.add(setup(name)));
    host.start();
    for id in ids {
        host.does(id, vec![register(&websites())]);
    }
    host.list_new();
    let spec = |host: &Harness, id| host.control.slots[id].controller.registration(R0).unwrap().spec.clone();
    let [a, b] = ids.map(|id| spec(&host, id));
    assert!(std::sync::Arc::ptr_eq(&a, &b));
    drop((a, b));
    // Both register something else, and with the next restart nothing is left of it.
    host.apply("Website", &object("web/home"));
    for id in ids {
        host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
        host.does(id, vec![register(&reconciler(kind("Node"), Vec::new()))]);
    }
    host.list_new();
    host.apply("Node", &object("n1"));
    host.does(ids[0], Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    let specs: Vec<&str> = host.control.subscriptions.specs.iter().map(|spec| &*spec.name).collect();
    assert_eq!(specs, ["nodes"]);
}
