//! What a new subscriber of a watch sees: all objects once, or what it has missed.

use super::super::{SlotId, leadership::Recovered};
use super::environment::{Asked, Recorded, object};
use super::harness::*;
use crate::step::Lost;

fn two() -> (Harness, SlotId, SlotId) {
    let mut host = Harness::new();
    let (a, b) = (host.add(setup("a")), host.add(setup("b")));
    host.start();
    host.boot(a, &websites());
    (host, a, b)
}

#[test]
fn a_controller_that_joins_a_watch_sees_all_objects_and_the_others_see_nothing_again() {
    let (mut host, a, b) = two();
    host.list("Website", &[object("web/home"), object("web/shop")]);
    host.reconciled(a);
    host.does(b, vec![register(&websites())]);
    assert_eq!(host.control.environment().watches.len(), 1);
    host.deliver();
    assert!(!host.is_stepping(a));
    assert_eq!(host.reconciled(b), ["web/home", "web/shop"]);
}

#[test]
fn a_change_that_is_in_a_replay_counts_once() {
    let (mut host, a, b) = two();
    host.list("Website", &[]);
    let watch = host.watch("Website");
    // On its way when the second controller joins.
    host.control.environment_mut().apply(watch, &object("web/home"));
    host.does(b, vec![register(&websites())]);
    host.deliver();
    assert_eq!((host.reconciled(a), host.reconciled(b)), (vec!["web/home".into()], vec!["web/home".into()]));
    // After it, both see changes as they come.
    host.apply("Website", &object("web/home").version(2));
    assert_eq!((host.reconciled(a), host.reconciled(b)), (vec!["web/home".into()], vec!["web/home".into()]));
}

#[test]
fn controllers_that_start_together_see_the_first_list_and_no_replay() {
    let mut host = Harness::new();
    let (a, b) = (host.add(continued("a", Vec::new())), host.add(continued("b", Vec::new())));
    host.start();
    let asked = host.control.environment().asked.iter();
    assert_eq!(asked.clone().filter(|asked| matches!(asked, Asked::Recall(..))).count(), 2);
    assert_eq!(asked.filter(|asked| matches!(asked, Asked::Replay(..))).count(), 0);
    host.list("Website", &[object("web/home")]);
    assert_eq!((host.reconciled(a), host.reconciled(b)), (vec!["web/home".into()], vec!["web/home".into()]));
}

/// A controller that continues from a snapshot, having seen so much of its watches.
fn continued(name: &'static str, places: Vec<crate::watch::WatchPosition>) -> Setup {
    let (host, id) = Harness::running(&websites());
    let state = host.control.slots[id].controller.save(host.now.host);
    let controller = crate::controller::Controller::restore(state, secs(1), 0, secs(0)).unwrap();
    let recovered =
        Recovered { controller, snapshot_bytes: Some(4096), places, predictor: wasmop_policy::Predictor::default() };
    Setup { recovered: Some(recovered), ..setup(name) }
}

#[test]
fn a_controller_that_continues_sees_what_it_has_missed() {
    let recorded = || Recorded {
        present: vec![object("web/a").recorded(1), object("web/b").recorded(2), object("web/c").recorded(3)],
        last: 3,
    };
    let place = |number| crate::watch::WatchPosition { watch: crate::watch::hash("Website"), lineage: 1, number };
    let foreign = crate::watch::WatchPosition { watch: 7, lineage: 1, number: 2 };
    for (what, places, expected) in [
        ("it has seen some of it", vec![place(1)], &["web/b", "web/c"][..]),
        ("it has seen all", vec![place(3)], &[]),
        ("of several places the one in this watch counts", vec![foreign, place(2)], &["web/c"]),
        ("its place is unknown", vec![], &["web/a", "web/b", "web/c"]),
        ("its place is in another watch", vec![foreign], &["web/a", "web/b", "web/c"]),
    ] {
        let mut host = Harness::new();
        host.control.environment_mut().recorded.insert("Website".into(), recorded());
        let id = host.add(continued("web", places));
        host.start();
        let found = if host.is_stepping(id) { host.reconciled(id) } else { Vec::new() };
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn an_object_in_backoff_is_not_reconciled_sooner_because_it_is_listed_again() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    for _ in 0..10 {
        let task = host.begun(id)[0].0;
        host.does(id, vec![fails(task)]);
        let wake = host.control.next_wake().unwrap();
        host.advance(wake - host.now.host);
    }
    let task = host.begun(id)[0].0;
    host.does(id, vec![fails(task)]);
    let due = host.control.next_wake().unwrap();
    host.apply("Website", &object("web/other"));
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    host.does(id, vec![register(&websites())]);
    host.deliver();
    // The one under way is reconciled again; the one in backoff waits.
    assert_eq!(host.reconciled(id), ["web/other", "web/other"]);
    assert_eq!(host.control.next_wake(), Some(due));
    host.advance(due - host.now.host);
    assert_eq!(host.reconciled(id), ["web/home"]);
}

#[test]
fn an_instance_that_registers_again_sees_every_object_through_the_watch_it_has() {
    let (mut host, id) = Harness::running(&websites());
    host.list("Website", &[object("web/home"), object("web/shop")]);
    host.reconciled(id);
    host.apply("Website", &object("web/home").version(2));
    host.does(id, Did { lost: Some(Lost::Snapshot("torn".into())), ..Did::default() });
    host.control.environment_mut().asked.clear();
    host.does(id, vec![register(&websites())]);
    let watch = host.watch("Website");
    let subscriber = super::super::subscriptions::Subscription { slot: id, registration: R0, watch: None }.id();
    assert_eq!(
        host.control.environment().asked,
        [Asked::Subscribe(watch), Asked::Release(watch), Asked::Replay(watch, subscriber)]
    );
    host.deliver();
    // The one under way is reconciled again.
    assert_eq!(host.reconciled(id), ["web/home", "web/shop", "web/home"]);
}

#[test]
fn a_snapshot_names_places_only_in_watches_whose_replay_is_over() {
    let (mut host, a, b) = two();
    host.list("Website", &[object("web/home")]);
    host.reconciled(a);
    let numbers = |host: &Harness, id| host.control.places(id).0.iter().map(|place| place.number).collect::<Vec<_>>();
    assert_eq!(numbers(&host, a), [1]);
    host.does(b, vec![register(&websites())]);
    assert!(numbers(&host, b).is_empty(), "its replay is under way");
    assert_eq!(numbers(&host, a), [1]);
    host.deliver();
    assert_eq!(numbers(&host, b), [1]);
    assert_eq!(host.control.places(b).1.len(), 1, "the journal is written either way");
}

#[test]
fn a_snapshot_names_no_place_while_the_guest_has_to_be_asked_about_a_change() {
    use wasmop_package::manifest::Relation;
    let spec = reconciler(kind("Website"), vec![related("ConfigMap", Relation::Map)]);
    let (mut host, id) = Harness::running(&spec);
    host.apply("Website", &object("web/home"));
    // The instance is with a worker, so the change waits.
    host.apply("ConfigMap", &object("web/config"));
    assert_eq!(host.control.places(id), (Vec::new(), Vec::new()));
}
