//! Changes that a controller has made itself, and reconciles that cause each other.

use serde_json::json;
use wasmop_package::manifest::{ControllerSpec, Relation, WatchSpec};

use super::super::{Send, SlotId};
use super::environment::{Object, object};
use super::harness::*;
use crate::reply::Reply;
use crate::status::counters::IgnoredChange;
use crate::step::{Action, EventKind};

const HOME: &str = "/apis/demo.dev/v1/namespaces/web/websites/home";
const STATUS: &str = "/apis/demo.dev/v1/namespaces/web/websites/home/status";

fn ignoring() -> ControllerSpec {
    reconciler(WatchSpec { ignore_own_writes: true, ..kind("Website") }, Vec::new())
}

fn site(version: u64) -> Object {
    object("web/home").version(version).uid("u")
}

fn answer(version: u64) -> String {
    json!({ "metadata": { "uid": "u", "resourceVersion": version.to_string() } }).to_string()
}

/// A reconcile of `web/home` at version 1 that writes, as what the guest thinks is this version.
fn writing(from: &str) -> (Harness, SlotId, u64, Send) {
    let (mut host, id) = Harness::running(&ignoring());
    host.apply("Website", &site(1));
    let task = host.begun(id)[0].0;
    host.does(id, vec![put(1, task, HOME, &json!({ "metadata": { "resourceVersion": from } }).to_string())]);
    let send = host.send();
    (host, id, task, send)
}

#[derive(Debug)]
enum Then {
    Answer(u16, u64),
    Lost,
    Change(u64),
    Drop,
}

#[test]
fn only_changes_that_are_provably_the_controllers_own_cause_no_reconcile() {
    use Then::*;
    for (what, from, events, again, avoided) in [
        ("the change after the answer", "1", vec![Answer(200, 2), Change(2)], false, 1),
        ("the change before the answer", "1", vec![Change(2), Answer(200, 2)], false, 1),
        ("somebody else's change", "1", vec![Answer(409, 0), Change(2)], true, 0),
        ("somebody else's before the answer", "1", vec![Change(2), Answer(409, 0)], true, 0),
        ("its own and then somebody else's", "1", vec![Answer(200, 2), Change(2), Change(3)], true, 1),
        ("a write of no version", "", vec![Answer(200, 2), Change(2)], true, 0),
        ("an answer that is lost", "1", vec![Change(2), Lost], true, 0),
        ("a call that is dropped", "1", vec![Change(2), Drop], true, 0),
    ] {
        let (mut host, id, task, send) = writing(from);
        let mut is_answered = false;
        for event in events {
            match event {
                Answer(status, version) => {
                    host.respond(&send, status, &answer(version));
                    is_answered = true;
                }
                Lost => {
                    host.reply(&send, vec![Reply::Failed("reset".into())]);
                    is_answered = true;
                }
                Change(version) => host.apply("Website", &site(version)),
                Drop => {
                    host.apply("Website", &object("web/other"));
                    let other = host.begun(id)[0].0;
                    host.does(id, vec![drop_call(1), done(other)]);
                }
            }
        }
        // The guest ends the reconcile when it has the answer.
        if !is_answered && !host.is_stepping(id) {
            host.apply("Website", &object("web/last"));
        }
        host.does(id, vec![done(task)]);
        let found = host.reconciled(id);
        assert_eq!(found.iter().any(|object| object == "web/home"), again, "{what}: {found:?}");
        assert_eq!(host.ignored(id, IgnoredChange::OwnWrite), avoided, "{what}");
    }
}

// --- reconciles that cause each other

/// So many reconciles of `web/home`, each of which writes its status and is triggered by that.
fn in_a_row(spec: &ControllerSpec, reconciles: u64, interrupt: impl Fn(u64) -> bool) -> (Harness, SlotId) {
    let (mut host, id) = Harness::running(spec);
    host.apply("Website", &site(1));
    for round in 0..reconciles {
        let version = 10 * (round + 1);
        let task = host.begun(id)[0].0;
        host.does(id, vec![put(round, task, STATUS, "{}")]);
        let send = host.send();
        host.respond(&send, 200, &answer(version));
        host.does(id, vec![done(task)]);
        host.apply("Website", &site(version));
        if interrupt(round) {
            // Somebody else changes it as well.
            host.apply("Website", &site(version + 1));
        }
        host.advance(ms(10));
    }
    (host, id)
}

#[test]
fn reconciles_that_cause_each_other_are_reported_with_a_remedy() {
    for (what, spec, interrupted, remedy) in [
        ("its own status", websites(), 0, Some("GenerationChangedPredicate")),
        (
            "without own writes, which the status is not",
            reconciler(WatchSpec { generation_changed: true, ..kind("Website") }, Vec::new()),
            0,
            None,
        ),
        ("with changes of others in between", websites(), 4, None),
    ] {
        if remedy.is_none() && interrupted == 0 {
            // Changes of the status cause no reconcile here, so there is no second one.
            let (mut host, id) = Harness::running(&spec);
            host.apply("Website", &site(1));
            host.reconciled(id);
            host.apply("Website", &site(2));
            assert!(!host.is_stepping(id), "{what}");
            continue;
        }
        let is_interrupted = |round: u64| interrupted > 0 && round.is_multiple_of(interrupted);
        let (mut host, _) = in_a_row(&spec, 30, is_interrupted);
        let notices = host.notices();
        assert_eq!(notices.len(), usize::from(remedy.is_some()), "{what}: {notices:?}");
        if let (Some(notice), Some(remedy)) = (notices.first(), remedy) {
            assert_eq!(notice.problem.reason(), "SelfTriggered");
            assert!(notice.message.contains(remedy) && notice.message.contains("websites/status web/home"));
            assert_eq!(notice.object.as_ref().map(|(_, key)| &**key), Some("web/home"));
        }
    }
}

#[test]
fn a_dry_run_and_a_write_outside_of_a_reconcile_are_no_writes() {
    let (mut host, id) = Harness::running(&ignoring());
    host.apply("Website", &site(1));
    let task = host.begun(id)[0].0;
    let text = json!({ "metadata": { "resourceVersion": "1" } }).to_string();
    host.does(id, vec![put(1, task, &format!("{HOME}?dryRun=All"), &text), put(2, 0, HOME, &text)]);
    for send in host.sends() {
        host.respond(&send, 200, &answer(2));
    }
    host.apply("Website", &site(2));
    host.does(id, vec![]);
    host.does(id, vec![done(task)]);
    assert_eq!(host.reconciled(id), ["web/home"]);
    assert_eq!(host.ignored(id, IgnoredChange::OwnWrite), 0);
}

#[test]
fn a_change_of_an_owned_object_may_be_the_controllers_own() {
    let child = WatchSpec { ignore_own_writes: true, ..related("Deployment", Relation::Owner) };
    let (mut host, id) = Harness::running(&reconciler(kind("Website"), vec![child]));
    let deployment = |version: u64| object("web/d").version(version).uid("u").owned_by("Website", "home", true);
    host.apply("Website", &object("web/home"));
    host.reconciled(id);
    host.apply("Deployment", &deployment(1));
    let task = host.begun(id)[0].0;
    let text = json!({ "metadata": { "resourceVersion": "1" } }).to_string();
    host.does(id, vec![put(1, task, "/apis/apps/v1/namespaces/web/deployments/d", &text)]);
    let send = host.send();
    host.respond(&send, 200, &answer(2));
    host.apply("Deployment", &deployment(2));
    host.does(id, vec![done(task)]);
    assert!(!host.is_stepping(id));
    host.apply("Deployment", &deployment(3));
    assert_eq!(host.reconciled(id), ["web/home"]);
}

#[test]
fn a_change_that_concerns_no_watched_object_is_not_held() {
    // A map function has named `web/new`, which does not exist.
    let child = WatchSpec { ignore_own_writes: true, ..related("Deployment", Relation::Owner) };
    let spec = reconciler(kind("Website"), vec![child, related("ConfigMap", Relation::Map)]);
    let (mut host, id) = Harness::running(&spec);
    host.apply("ConfigMap", &object("web/config"));
    let map = host.task(id, EventKind::Map);
    host.does(id, vec![Action::Mapped { task: map, keys: "web/new".into() }]);
    let task = host.begun(id)[0].0;
    let deployment = |version: u64| object("web/d").version(version).uid("u").owned_by("Website", "new", true);
    host.apply("Deployment", &deployment(1));
    let text = json!({ "metadata": { "resourceVersion": "1" } }).to_string();
    host.does(id, vec![put(1, task, "/apis/apps/v1/namespaces/web/deployments/d", &text)]);
    let send = host.send();
    host.apply("Deployment", &deployment(2));
    host.respond(&send, 409, "{}");
    host.does(id, vec![done(task)]);
    assert!(!host.is_stepping(id));
    assert_eq!(host.ignored(id, IgnoredChange::Unrelated), 2);
}

#[test]
fn only_changes_that_its_writes_have_made_make_a_loop() {
    // What each of 30 reconciles writes to, how that is answered, and how it ends.
    for (what, path, status, is_error, is_mapped, is_loop) in [
        ("writes", STATUS, 200, false, false, true),
        ("dry runs", "/apis/demo.dev/v1/namespaces/web/websites/home?dryRun=All", 200, false, false, false),
        ("writes that are refused", STATUS, 409, false, false, false),
        ("reconciles that fail", STATUS, 200, true, false, false),
        ("a map function that names it as well", STATUS, 200, false, true, false),
    ] {
        let spec = reconciler(kind("Website"), vec![related("ConfigMap", Relation::Map)]);
        let (mut host, id) = Harness::running(&spec);
        host.apply("Website", &site(1));
        for round in 0..30 {
            let version = 10 * (round + 1);
            let task = host.begun(id)[0].0;
            if is_mapped {
                host.apply("ConfigMap", &object("web/config").version(version));
            }
            host.does(id, vec![put(round, task, path, "{}")]);
            if is_mapped {
                let map = host.task(id, EventKind::Map);
                host.does(id, vec![Action::Mapped { task: map, keys: "web/home".into() }]);
            }
            let send = host.send();
            host.respond(&send, status, &answer(version));
            host.apply("Website", &site(version));
            host.does(id, vec![if is_error { fails(task) } else { done(task) }]);
            if !host.is_stepping(id) {
                let wake = host.control.next_wake().unwrap();
                host.advance(wake - host.now.host);
            }
        }
        assert_eq!(host.reasons().contains(&"SelfTriggered"), is_loop, "{what}");
    }
}
