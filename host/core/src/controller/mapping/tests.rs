use bytes::Bytes;

use super::super::tests::{at, output, ready};
use super::*;
use crate::step::Action;
use crate::watch::{Before, ObjectMetaLite, ResourceVersion};

const R0: RegistrationId = RegistrationId(0);

fn change(key: &str, bytes: usize) -> WatchedChange {
    let object = Some(Bytes::from(vec![b'x'; bytes]));
    WatchedChange { registration: R0, watch: 0, source: WatchId(0), key: key.into(), gone: false, object }
}

/// Lets the guest map a change; returns the task.
fn ask(c: &mut Controller, now: Duration) -> u64 {
    c.enqueue_map(change("ns/a", 10));
    let batch = c.take_batch(now).unwrap();
    assert_eq!(batch[0].kind, EventKind::Map);
    batch[0].task
}

fn done(task: u64, error: Option<&str>) -> Action {
    Action::Done { task, requeue_after: None, error: error.map(String::from) }
}

fn mapped(task: u64) -> Action {
    Action::Mapped { task, keys: "ns/object".into() }
}

fn kinds(batch: Option<Vec<Event>>) -> Vec<(EventKind, u64)> {
    batch.into_iter().flatten().map(|event| (event.kind, event.id)).collect()
}

#[test]
fn all_objects_are_due_after_any_failure_of_a_map_task() {
    type Failure = fn(&mut Controller, u64, Duration);
    let failures: [(&str, Failure); 4] = [
        ("its step failed", |c, task, now| assert!(c.cancelled(task, false, now).is_none())),
        ("it took too long", |c, task, now| assert!(c.time_out(task, now).is_empty())),
        ("it ended with an error", |c, task, now| {
            let effects = c.commit(output(vec![done(task, Some("boom"))]), now, now);
            let [Effect::MapFailed { message, retry_after, .. }] = &effects[..] else { panic!("{effects:?}") };
            assert_eq!((&**message, *retry_after), ("boom", at(1000)));
        }),
        ("it ended as a reconcile does", |c, task, now| {
            let effects = c.commit(output(vec![done(task, None)]), now, now);
            assert!(matches!(effects[..], [Effect::Misbehaved(_)]), "{effects:?}");
        }),
    ];
    for (what, fail) in failures {
        let mut c = ready();
        let task = ask(&mut c, at(10));
        assert!(!c.has_unasked());
        fail(&mut c, task, at(10));
        assert_eq!(c.tasks().count(), 0, "{what}");
        assert!(c.has_unasked(), "{what}: the next snapshot does not have the change");
        assert_eq!(c.take_all_due(), [(R0, at(1010))].into(), "{what}");
        c.check_account();
    }
}

#[test]
fn a_map_function_that_keeps_failing_is_retried_with_backoff() {
    let mut c = ready();
    let fail = |c: &mut Controller, now| {
        let task = ask(c, now);
        c.cancelled(task, false, now);
        c.take_all_due()[&R0] - now
    };
    assert_eq!([0, 10, 20].map(|ms| fail(&mut c, at(ms))), [1, 2, 4].map(Duration::from_secs));
    let task = ask(&mut c, at(30));
    let effects = c.commit(output(vec![mapped(task)]), at(30), at(30));
    assert!(matches!(effects[..], [Effect::Mapped { .. }]), "{effects:?}");
    assert_eq!(fail(&mut c, at(40)), Duration::from_secs(1), "it works again");
    assert_eq!((0..20).map(|_| fail(&mut c, at(50))).max(), Some(MAP_BACKOFF.max));
}

#[test]
fn an_object_that_is_due_at_a_time_is_reconciled_then() {
    let mut c = ready();
    c.enqueue_at(R0, "later".into(), at(100), at(5));
    c.enqueue_at(R0, "now".into(), at(0), at(5));
    c.enqueue_at(RegistrationId(9), "nobody's".into(), at(0), at(5));
    let objects = |batch: Option<Vec<Event>>| {
        let events = batch.into_iter().flatten();
        events.map(|event| String::from_utf8(event.payload.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(objects(c.take_batch(at(5))), ["now"]);
    assert_eq!(objects(c.take_batch(at(99))), [""; 0]);
    assert_eq!(objects(c.take_batch(at(100))), ["later"]);
}

#[test]
fn an_unanswered_map_task_times_out() {
    let timeout = at(100);
    let mut c = ready();
    for n in 0..=MAX_MAPPING {
        c.enqueue_map(change(&format!("ns/{n}"), 10));
    }
    while c.take_batch(at(10)).is_some() {}
    assert!(!c.is_runnable(at(10)));
    assert_eq!(c.next_timeout(timeout), Some(at(110)));
    assert_eq!((c.overdue(timeout, at(109)), c.overdue(timeout, at(110))), (None, Some(1)));
    c.time_out(1, at(110));
    let next = MAX_MAPPING as u64 + 1;
    assert_eq!(kinds(c.take_batch(at(110))), [(EventKind::Cancel, 1), (EventKind::Map, next)]);
}

#[test]
fn one_answer_to_a_cancelled_map_task_is_no_misuse() {
    let mut c = ready();
    let task = ask(&mut c, at(0));
    c.time_out(task, at(0));
    assert!(c.commit(output(vec![mapped(task)]), at(0), at(0)).is_empty());
    let again = c.commit(output(vec![mapped(task)]), at(0), at(0));
    assert!(matches!(again[..], [Effect::Misbehaved(_)]), "{again:?}");
}

#[test]
fn a_guest_is_not_notified_of_an_undelivered_map_task_that_timed_out() {
    let mut c = ready();
    for key in ["ns/a", "ns/b"] {
        c.enqueue_map(change(key, MAX_STEP_BYTES - 1000));
    }
    let batch = c.take_batch(at(0));
    assert_eq!(kinds(batch), [(EventKind::Map, 1)], "a step has no room for both");
    assert_eq!(c.tasks().count(), 2);
    c.time_out(2, at(0));
    assert_eq!(kinds(c.take_batch(at(0))), []);
}

#[test]
fn a_change_without_content_is_looked_up_or_reconciles_all_objects() {
    let meta = ObjectMetaLite {
        resource_version: ResourceVersion(1),
        generation: 1,
        uid: 1,
        deleting: false,
        owners: [].into(),
    };
    let applied = |key: &str| Change::Applied {
        key: key.into(),
        meta: meta.clone(),
        old: None,
        object: None,
        before: Before::Unknown,
    };
    let deleted = Change::Deleted { key: "ns/deleted".into(), meta: meta.clone(), object: None };
    let mut c = ready();
    for change in [applied("ns/read"), applied("ns/unread"), applied("ns/gone"), deleted] {
        c.enqueue_map(WatchedChange::of(R0, 3, WatchId(7), &change).unwrap());
    }
    assert!(WatchedChange::of(R0, 3, WatchId(7), &Change::Synced).is_none());
    c.look_up_changes(|watch, key| {
        assert_eq!(watch, WatchId(7));
        match key {
            "ns/read" => Found::Object(Bytes::from_static(b"{}")),
            "ns/unread" => Found::WithoutObject,
            _ => Found::Nothing,
        }
    });
    let asked = c.take_batch(at(0)).unwrap();
    assert_eq!(asked.iter().map(|event| event.aux).collect::<Vec<_>>(), [3, 3 | MAP_GONE, 3 | MAP_GONE]);
    assert_eq!(c.take_all_due(), [(R0, at(0))].into(), "one has no content");
}
