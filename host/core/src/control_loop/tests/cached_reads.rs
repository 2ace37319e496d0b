//! Reads that a watch answers.

use serde_json::json;
use wasmop_package::manifest::{ControllerSpec, Limits, WatchSpec};

use super::super::{Credit, HostEvent, LoopOptions, RESPONSE_CREDIT_BYTES, SlotId};
use super::environment::{Object, object};
use super::harness::*;
use crate::permissions::learn::Learning;
use crate::status::counters::CachedRead;
use crate::step::EventKind;
use crate::watch::{WaitReason, Waiting};

const ALL: &str = "/apis/demo.dev/v1/websites";
const HOME: &str = "/apis/demo.dev/v1/namespaces/web/websites/home";

fn any(path: &str) -> String {
    format!("{path}?resourceVersion=0")
}

fn cached() -> ControllerSpec {
    reconciler(WatchSpec { cached: true, ..kind("Website") }, Vec::new())
}

/// A controller that is reconciling `web/home`, with these objects in its cache.
fn reading(setup: Setup, objects: &[Object]) -> (Harness, SlotId, u64) {
    let (mut host, id) = Harness::running_with(setup, &cached());
    host.list("Website", objects);
    let task = host.begun(id)[0].0;
    (host, id, task)
}

fn site(key: &str) -> Object {
    object(key).version(10).spec(json!({ "title": key }))
}

fn waiting(cause: WaitReason) -> Waiting {
    Waiting { resource: "websites.demo.dev/v1".into(), cause, message: "no".into(), service_account: None }
}

#[test]
fn a_read_is_answered_from_the_cache_if_it_may_be() {
    use CachedRead::*;
    let all = any(ALL);
    let small = Limits { response_bytes: 100, ..Limits::NONE };
    for (what, path, limits, outcome) in [
        ("an object", any(HOME), Limits::NONE, Some(Hit)),
        ("a list", all.clone(), Limits::NONE, Some(Hit)),
        ("a list of a namespace", any("/apis/demo.dev/v1/namespaces/web/websites"), Limits::NONE, Some(Hit)),
        ("a list with a limit", format!("{all}&limit=1"), Limits::NONE, Some(Hit)),
        ("an object that is not there", any(&HOME.replace("home", "none")), Limits::NONE, Some(Absent)),
        ("another resource", any("/api/v1/namespaces/web/secrets/s"), Limits::NONE, Some(NotWatched)),
        ("another version of the kind", any(&HOME.replace("v1", "v2")), Limits::NONE, Some(NotWatched)),
        ("with another selector", format!("{all}&labelSelector=a%3Db"), Limits::NONE, Some(NotWatched)),
        ("an unusual parameter", format!("{all}&pretty=true"), Limits::NONE, Some(Other)),
        ("an object that is too large", any(HOME), small, Some(TooLarge)),
        ("a list that is too large", all.clone(), small, Some(TooLarge)),
        ("the newest state", HOME.to_owned(), Limits::NONE, None),
        ("a certain version", format!("{HOME}?resourceVersion=10"), Limits::NONE, None),
        ("a subresource", any(&format!("{HOME}/status")), Limits::NONE, None),
    ] {
        let (mut host, id, _) = reading(Setup { limits, ..setup("web") }, &[site("web/home"), site("web/shop")]);
        host.does(id, vec![get(1, &path)]);
        let expected: Vec<_> = outcome.into_iter().map(|outcome| (outcome, 1)).collect();
        assert_eq!(host.cached_reads(id), expected, "{what}");
        let sends = host.sends();
        assert_eq!(sends.is_empty(), outcome == Some(Hit), "{what}");
        assert!(sends.iter().all(|send| send.path == path), "{what}");
        if outcome == Some(Hit) {
            assert_eq!(host.kinds(id)[..3], [EventKind::Head, EventKind::Body, EventKind::End], "{what}");
            let body = String::from_utf8_lossy(&host.events(id)[1].payload).into_owned();
            assert!(body.contains("web/home"), "{what}: {body}");
            assert!(body.contains("\"resourceVersion\":\"10\""), "{what}: {body}");
        }
    }
}

#[test]
fn a_read_of_what_a_controller_has_not_registered_as_cached_is_not_counted() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, &any(HOME))]);
    assert_eq!((host.cached_reads(id), host.sent()), (vec![], vec![1]));
}

#[test]
fn a_read_that_is_not_permitted_is_denied_though_it_is_cached() {
    let rules = vec![rule("demo.dev", "websites", &["list", "watch"])];
    let (mut host, id, _) = reading(Setup { rules, ..setup("web") }, &[site("web/home")]);
    host.does(id, vec![get(1, &any(HOME))]);
    assert_eq!((host.cached_reads(id), host.sent()), (vec![], vec![]));
    assert_eq!(host.events(id)[0].aux, 403);
}

#[test]
fn a_watch_that_is_not_in_order_answers_nothing() {
    let (mut host, id, _) = reading(setup("web"), &[site("web/home")]);
    host.fail_watch("Website", waiting(WaitReason::Unreachable));
    host.does(id, vec![get(1, &any(HOME))]);
    assert_eq!((host.cached_reads(id), host.sent()), (vec![(CachedRead::NotSynced, 1)], vec![1]));
}

#[test]
fn a_read_sees_the_controllers_own_writes() {
    for (what, answer, changes, expected, path) in [
        ("no write", None, vec![], CachedRead::Hit, None),
        ("a write the watch has not seen", Some((200, 11)), vec![], CachedRead::Written, Some(HOME)),
        ("a write the watch has seen", Some((200, 11)), vec![site("web/home").version(11)], CachedRead::Hit, None),
        (
            "a write before what the watch has seen",
            Some((200, 11)),
            vec![site("web/shop").version(12)],
            CachedRead::Hit,
            None,
        ),
        ("a write that failed", Some((409, 0)), vec![], CachedRead::Hit, None),
    ] {
        let (mut host, id, task) = reading(setup("web"), &[site("web/home")]);
        host.does(id, answer.map(|_| put(1, task, HOME, "{}")).into_iter().collect::<Vec<_>>());
        if let Some((status, version)) = answer {
            let send = host.send();
            let answer =
                json!({ "metadata": { "resourceVersion": version.to_string(), "name": "home", "namespace": "web" } });
            host.respond(&send, status, &answer.to_string());
        }
        for change in changes {
            host.apply("Website", &change);
        }
        if !host.is_stepping(id) {
            host.apply("Website", &site("web/other").version(10));
        }
        host.does(id, vec![get(2, &any(HOME))]);
        assert_eq!(host.cached_reads(id), [(expected, 1)], "{what}");
        assert_eq!(host.sends().first().map(|send| &*send.path), path, "{what}");
    }
}

#[test]
fn a_deletion_is_seen_once_the_watch_reports_it() {
    let (mut host, id, task) = reading(setup("web"), &[site("web/home")]);
    host.does(id, vec![call(1, task, "DELETE", HOME)]);
    let send = host.send();
    host.respond(&send, 200, r#"{"kind":"Status","details":{"uid":"uid of web/home"}}"#);
    host.does(id, vec![get(2, &any(HOME))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Written, 1)]);
    host.sends();
    host.delete("Website", &site("web/home").version(11));
    host.apply("Website", &site("web/shop").version(5));
    host.does(id, vec![get(3, &any(HOME))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Written, 1), (CachedRead::Absent, 1)]);
}

#[test]
fn an_answer_from_the_cache_takes_credit_like_any_other() {
    let (mut host, id, _) = reading(setup("web"), &[site("web/home")]);
    host.does(id, vec![get(1, "/api/v1/pods"), get(2, &any(HOME))]);
    let taken = |host: &Harness| RESPONSE_CREDIT_BYTES - host.control.credit(id).unwrap().available();
    assert_eq!(taken(&host), 0, "it is on its way to the guest");
    let task = host.events(id)[0].id;
    assert_eq!(task, 2);
    // Without credit the read is sent.
    assert!(host.control.credit(id).unwrap().try_take(RESPONSE_CREDIT_BYTES - 10));
    host.does(id, vec![get(3, &any(HOME))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Hit, 1), (CachedRead::TooLarge, 1)]);
    assert_eq!(host.sent(), [1, 3]);
}

#[test]
fn a_read_that_the_same_step_drops_costs_nothing() {
    let (mut host, id, _) = reading(setup("web"), &[site("web/home")]);
    host.does(id, vec![get(1, "/api/v1/pods"), get(2, &any(HOME)), drop_call(2)]);
    assert_eq!(host.control.credit(id).unwrap().available(), RESPONSE_CREDIT_BYTES);
    assert_eq!((host.sent(), host.is_stepping(id)), (vec![1], false));
}

#[test]
fn nothing_is_read_from_the_cache_while_permissions_are_learnt() {
    let mut host = Harness::with(LoopOptions { learning: Some(Learning::default()), ..LoopOptions::default() });
    let id = host.add(setup("web"));
    host.start();
    host.boot(id, &cached());
    host.list("Website", &[site("web/home")]);
    host.does(id, vec![get(1, &any(HOME))]);
    assert_eq!((host.cached_reads(id), host.sent()), (vec![], vec![1]));
}

#[test]
fn a_controller_reads_from_its_own_watches_alone() {
    // Another controller has the watch hold whole objects.
    let mut host = Harness::new();
    let (a, b) = (host.add(setup("a")), host.add(setup("b")));
    host.start();
    host.boot(a, &cached());
    host.does(b, vec![register(&websites())]);
    host.list("Website", &[site("web/home")]);
    host.does(b, vec![get(1, &any(HOME))]);
    assert_eq!(host.cached_reads(b), []);
    host.does(a, vec![get(1, &any(HOME))]);
    assert_eq!(host.cached_reads(a), [(CachedRead::Hit, 1)]);
}

#[test]
fn at_shutdown_reads_are_not_answered() {
    let (mut host, id, _) = reading(setup("web"), &[site("web/home")]);
    host.event(HostEvent::Shutdown);
    host.does(id, vec![get(1, &any(HOME))]);
    assert_eq!((host.cached_reads(id), host.sent()), (vec![], vec![]));
}

#[test]
fn what_one_of_several_caches_has_seen_says_nothing_of_the_others() {
    let primary = WatchSpec { cached: true, namespaces: vec!["a".into(), "b".into()], ..kind("Website") };
    let (mut host, id) = Harness::running(&reconciler(primary, Vec::new()));
    let path = |namespace: &str| format!("/apis/demo.dev/v1/namespaces/{namespace}/websites/home");
    for (namespace, version) in [("a", 10), ("b", 20)] {
        let watch = host.control.environment().watch_of("Website", Some(namespace));
        let listed = object(&format!("{namespace}/home")).version(version);
        host.control.environment_mut().list(watch, &[listed]);
    }
    host.deliver();
    let task = host.begun(id)[0].0;
    host.does(id, vec![put(1, task, &path("a"), "{}")]);
    let send = host.send();
    host.respond(&send, 200, r#"{"metadata":{"name":"home","namespace":"a","resourceVersion":"11"}}"#);
    host.does(id, vec![get(2, &any(&path("b")))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Hit, 1)]);
    host.does(id, vec![get(3, &any(&path("a")))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Hit, 1), (CachedRead::Written, 1)]);
}

#[test]
fn a_deletion_that_one_of_several_caches_has_seen_is_not_read_from_the_others() {
    let web = WatchSpec { namespace: Some("web".into()), cached: true, ..kind("Website") };
    let spec = reconciler(WatchSpec { cached: true, ..kind("Website") }, vec![web]);
    let (mut host, id) = Harness::running(&spec);
    let watches = [None, Some("web")].map(|namespace| host.control.environment().watch_of("Website", namespace));
    for watch in watches {
        host.control.environment_mut().list(watch, &[site("web/home")]);
    }
    host.deliver();
    let task = host.begun(id)[0].0;
    host.does(id, vec![call(1, task, "DELETE", HOME)]);
    let send = host.send();
    host.respond(&send, 200, r#"{"kind":"Status","details":{"uid":"uid of web/home"}}"#);
    host.control.environment_mut().delete(watches[0], &site("web/home").version(11));
    host.deliver();
    host.does(id, vec![get(2, &any(HOME))]);
    assert_eq!(host.cached_reads(id), [(CachedRead::Absent, 1)]);
}
