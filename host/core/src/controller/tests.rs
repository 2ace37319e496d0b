use super::registrations::{MAX_SPEC_BYTES, MAX_WATCHES};
use super::*;
use crate::step::{Action, StepOutput};
use crate::watch::WatchId;

mod snapshots;

const R0: RegistrationId = RegistrationId(0);
const R1: RegistrationId = RegistrationId(1);

pub(super) const SPEC: &str =
    r#"{"name":"c","maxConcurrentReconciles":0,"primary":{"group":"g","version":"v1","kind":"K","plural":"ks"}}"#;

pub(super) fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn output(actions: Vec<Action>) -> StepOutput {
    StepOutput { actions, ..StepOutput::default() }
}

/// A controller whose guest has started and registered one reconciler.
pub(super) fn ready() -> Controller {
    let mut c = Controller::new(at(0), 1_000);
    let batch = c.take_batch(at(0)).unwrap();
    assert_eq!(batch[0].kind, EventKind::Start);
    let effects = c.commit(output(vec![Action::Register { spec: SPEC.into() }]), at(0), at(0));
    assert!(matches!(effects[..], [Effect::Registered(R0)]));
    c
}

pub(super) fn call(id: u64, task: u64) -> Call {
    let text = String::new;
    Call { id, task, target: text(), method: "GET".into(), path: "/x".into(), headers: text(), body: Bytes::new() }
}

fn kinds(batch: &[Event]) -> Vec<(EventKind, u64)> {
    batch.iter().map(|e| (e.kind, e.id)).collect()
}

#[test]
fn the_first_event_is_start_alone() {
    let mut c = Controller::new(at(0), 0);
    c.enqueue(R0, "ns/a".into(), at(0));
    assert!(c.is_runnable(at(0)));
    assert_eq!(kinds(&c.take_batch(at(0)).unwrap()), [(EventKind::Start, 0)]);
    assert!(c.take_batch(at(0)).is_none(), "nothing else until it has registered");
}

#[test]
fn a_reconcile_is_delivered_once_and_again_if_the_object_changed() {
    let mut c = ready();
    c.enqueue(R0, "ns/a".into(), at(1));
    c.enqueue(R0, "ns/a".into(), at(1));
    let batch = c.take_batch(at(1)).unwrap();
    assert_eq!(kinds(&batch), [(EventKind::Reconcile, 1)]);
    assert_eq!(&batch[0].payload[..], b"ns/a");
    c.enqueue(R0, "ns/a".into(), at(2));
    assert!(c.take_batch(at(2)).is_none(), "not twice at once");
    let done = Action::Done { task: 1, requeue_after: None, error: None };
    let effects = c.commit(output(vec![done]), at(3), at(3));
    assert!(matches!(&effects[..], [Effect::Reconciled { outcome: Outcome::Ok, .. }]));
    assert_eq!(kinds(&c.take_batch(at(3)).unwrap()), [(EventKind::Reconcile, 2)]);
}

#[test]
fn the_outcome_of_a_reconcile_decides_when_it_comes_back() {
    let error = || Some("boom".to_string());
    let table = [
        (None, None, None),
        (Some(at(50)), None, Some(at(60))),
        (None, error(), Some(at(15))),
        (Some(at(70)), error(), Some(at(80))),
        (Some(Duration::MAX), error(), None),
    ];
    for (requeue_after, error, expected) in table {
        let mut c = ready();
        c.enqueue(R0, "a".into(), at(10));
        c.take_batch(at(10)).unwrap();
        c.commit(output(vec![Action::Done { task: 1, requeue_after, error: error.clone() }]), at(10), at(10));
        assert_eq!(c.next_wake(at(10)), expected, "{requeue_after:?} {error:?}");
        assert!(c.is_idle());
    }
}

#[test]
fn answers_reach_the_guest_in_order_and_not_after_it_dropped_the_call() {
    let mut c = ready();
    c.enqueue(R0, "a".into(), at(0));
    c.take_batch(at(0)).unwrap();
    let effects = c.commit(output(vec![Action::Call(call(7, 1)), Action::Call(call(8, 1))]), at(0), at(0));
    assert!(matches!(effects[..], [Effect::Call(_), Effect::Call(_)]));
    assert!(c.answer(7, EventKind::Head, 200, Bytes::new()));
    assert!(c.answer(8, EventKind::Head, 200, Bytes::new()));
    assert!(c.answer(7, EventKind::End, 0, Bytes::new()));
    let effects = c.commit(output(vec![Action::DropCall { id: 8 }, Action::DropCall { id: 7 }]), at(0), at(0));
    assert!(matches!(effects[..], [Effect::DropCall(8)]), "dropping an answered call is nothing");
    assert!(!c.answer(8, EventKind::End, 0, Bytes::new()));
    assert_eq!(kinds(&c.take_batch(at(0)).unwrap()), [(EventKind::Head, 7), (EventKind::End, 7)]);
}

#[test]
fn bytes_that_leave_the_inbox_in_any_way_return_credit() {
    let body = || Bytes::from(vec![0; 100]);
    let with_bodies = || {
        let mut c = ready();
        c.enqueue(R0, "a".into(), at(0));
        c.take_batch(at(0)).unwrap();
        c.commit(output(vec![Action::Call(call(7, 1)), Action::Call(call(8, 1))]), at(0), at(0));
        c.answer(7, EventKind::Body, 0, body());
        c.answer(8, EventKind::Body, 0, body());
        assert_eq!(c.take_credit(), 0, "still waiting");
        c
    };
    let mut delivered = with_bodies();
    delivered.take_batch(at(0)).unwrap();
    let mut dropped = with_bodies();
    dropped.commit(output(vec![Action::DropCall { id: 7 }]), at(0), at(0));
    let mut cancelled = with_bodies();
    cancelled.cancelled(1, false, at(0));
    let mut reset = with_bodies();
    reset.reset(true, at(0), 0);
    for (mut c, expected) in [(delivered, 200), (dropped, 100), (cancelled, 200), (reset, 200)] {
        assert_eq!((c.take_credit(), c.take_credit()), (expected, 0));
    }
}

#[test]
fn a_call_id_in_use_is_refused_and_the_first_call_goes_on() {
    let mut c = ready();
    let effects = c.commit(output(vec![Action::Call(call(7, 0)), Action::Call(call(7, 0))]), at(0), at(0));
    assert!(matches!(effects[..], [Effect::Call(_), Effect::Misbehaved(_)]));
    assert_eq!(c.calls_in_flight(), 1);
}

#[test]
fn a_step_takes_no_more_bytes_than_allowed_and_at_least_one_event() {
    let mut c = ready();
    c.commit(output(vec![Action::Call(call(1, 0))]), at(0), at(0));
    for _ in 0..3 {
        c.answer(1, EventKind::Body, 0, Bytes::from(vec![0; MAX_STEP_BYTES / 2]));
    }
    c.answer(1, EventKind::Body, 0, Bytes::from(vec![0; MAX_STEP_BYTES * 2]));
    let mut sizes = Vec::new();
    while let Some(batch) = c.take_batch(at(0)) {
        sizes.push(batch.len());
    }
    assert_eq!(sizes, [1, 1, 1, 1]);
}

#[test]
fn a_step_takes_no_more_events_than_allowed_and_of_each_registration_in_turn() {
    let mut c = ready();
    c.commit(output(vec![Action::Register { spec: SPEC.into() }]), at(0), at(0));
    for object in 0..2 * MAX_STEP_EVENTS {
        c.enqueue(R0, format!("ns/{object}").into(), at(0));
    }
    c.enqueue(R1, "ns/other".into(), at(0));
    let batch = c.take_batch(at(0)).unwrap();
    assert_eq!(batch.len(), MAX_STEP_EVENTS);
    assert_eq!(batch.iter().filter(|e| e.aux == 1).count(), 1, "the second registration waits for no other");
    assert_eq!(c.active(), MAX_STEP_EVENTS, "what is for a later step stays in the queue");
    let sizes: Vec<_> = std::iter::from_fn(|| c.take_batch(at(0))).map(|batch| batch.len()).collect();
    assert_eq!(sizes, [MAX_STEP_EVENTS, 1]);
}

#[test]
fn a_guest_timer_makes_it_runnable_when_it_fires() {
    let mut c = ready();
    let mut out = output(vec![]);
    out.park = Some(at(100));
    c.commit(out, at(10), at(12));
    assert_eq!(c.next_wake(at(12)), Some(at(110)));
    assert!(c.take_batch(at(109)).is_none());
    assert_eq!(c.take_batch(at(110)).unwrap().len(), 0, "a step without events");
    let mut out = output(vec![]);
    out.park = Some(Duration::from_secs(365 * 86_400));
    c.commit(out, at(110), at(110));
    assert_eq!(c.next_wake(at(110)), None, "an executor's sentinel is no deadline");
}

#[test]
fn misuse_by_a_guest_is_reported_and_changes_nothing() {
    let mut c = ready();
    let nonsense = vec![
        Action::Done { task: 99, requeue_after: None, error: None },
        Action::Mapped { task: 99, keys: "a".into() },
        Action::Register { spec: "{}".into() },
        Action::DropCall { id: 1234 },
    ];
    let effects = c.commit(output(nonsense), at(0), at(0));
    assert_eq!(effects.len(), 3);
    assert!(effects.iter().all(|e| matches!(e, Effect::Misbehaved(_))), "{effects:?}");
    assert!(c.is_idle());
    assert_eq!(c.registrations().count(), 1);
}

#[test]
fn a_cancelled_task_backs_off_and_its_events_are_not_delivered() {
    let mut c = ready();
    c.enqueue(R0, "a".into(), at(0));
    c.enqueue(R0, "b".into(), at(0));
    c.take_batch(at(0)).unwrap();
    c.commit(output(vec![Action::Call(call(1, 1)), Action::Call(call(2, 2))]), at(0), at(0));
    c.answer(1, EventKind::Head, 200, Bytes::new());
    c.answer(2, EventKind::Head, 200, Bytes::new());
    let effect = c.cancelled(1, false, at(0));
    assert!(matches!(effect, Some(Effect::Reconciled { outcome: Outcome::Cancelled { .. }, .. })));
    assert_eq!(kinds(&c.take_batch(at(0)).unwrap()), [(EventKind::Head, 2)]);
    assert_eq!(c.next_wake(at(0)), Some(at(5)));
}

#[test]
fn an_object_that_cost_the_instance_waits_behind_the_others() {
    let mut c = ready();
    c.enqueue(R0, "culprit".into(), at(0));
    c.enqueue(R0, "other".into(), at(0));
    c.take_batch(at(0)).unwrap();
    c.cancelled(1, true, at(0));
    c.reset(true, at(0), 0);
    for key in ["culprit", "other"] {
        c.enqueue_listed(R0, key.into(), at(500));
    }
    c.take_batch(at(1000)).unwrap();
    c.commit(output(vec![Action::Register { spec: SPEC.into() }]), at(1000), at(1000));
    let batch = c.take_batch(at(1000)).unwrap();
    assert_eq!(batch.iter().map(|event| &*event.payload).collect::<Vec<_>>(), [b"other"]);
    assert!(c.take_batch(at(5999)).is_none());
    assert_eq!(&*c.take_batch(at(6000)).unwrap()[0].payload, b"culprit");
    c.enqueue(R0, "culprit".into(), at(6000));
}

#[test]
fn other_objects_come_before_a_culprit_after_any_number_of_crashes() {
    let mut c = ready();
    let mut now = at(0);
    for crash in 0..6 {
        let (culprit, other) = (format!("culprit-{crash}"), format!("other-{crash}"));
        for key in [&culprit, &other] {
            c.enqueue(R0, (&**key).into(), now);
        }
        let batch = c.take_batch(now).unwrap();
        let task = batch.iter().find(|event| *event.payload == *culprit.as_bytes()).unwrap().id;
        c.cancelled(task, true, now);
        c.reset(true, now, 0);
        now = c.held_until().unwrap();
        assert_eq!(c.take_batch(now).unwrap()[0].kind, EventKind::Start);
        c.commit(output(vec![Action::Register { spec: SPEC.into() }]), now, now);
        let batch = c.take_batch(now).unwrap();
        let has = |key: &str| batch.iter().any(|event| *event.payload == *key.as_bytes());
        assert!(has(&other) && !has(&culprit), "after crash {crash}");
    }
}

#[test]
fn a_restart_retries_everything_once_the_guest_has_registered() {
    let mut c = ready();
    c.enqueue(R0, "a".into(), at(0));
    c.take_batch(at(0)).unwrap();
    c.commit(output(vec![Action::Call(call(1, 1))]), at(0), at(0));
    assert!(matches!(c.reset(true, at(0), 0)[..], [Effect::DropCall(1)]));
    assert!(c.is_idle());
    assert!(c.take_batch(at(999)).is_none(), "held back after a crash");
    assert_eq!(kinds(&c.take_batch(at(1000)).unwrap()), [(EventKind::Start, 0)]);
    assert!(c.take_batch(at(1000)).is_none());
    let effects = c.commit(output(vec![Action::Register { spec: SPEC.into() }]), at(1000), at(1000));
    assert!(matches!(effects[..], [Effect::Registered(R0)]), "it is the same: {effects:?}");
    assert_eq!(kinds(&c.take_batch(at(1010)).unwrap()), [(EventKind::Reconcile, 2)]);
}

#[test]
fn a_timed_out_reconcile_is_cancelled_with_its_calls_and_retried() {
    let timeout = at(100);
    let mut c = ready();
    c.enqueue(R0, "ns/slow".into(), at(10));
    c.take_batch(at(10)).unwrap();
    c.commit(output(vec![Action::Call(call(7, 1))]), at(10), at(10));
    c.enqueue(R0, "ns/other".into(), at(50));
    c.take_batch(at(50)).unwrap();
    c.answer(7, EventKind::Head, 200, Bytes::new());
    assert_eq!((c.next_timeout(timeout), c.overdue(timeout, at(109))), (Some(at(110)), None));
    assert_eq!(c.overdue(timeout, at(110)), Some(1));
    let effects = c.time_out(1, at(110));
    assert!(matches!(
        &effects[..],
        [Effect::DropCall(7), Effect::Reconciled { outcome: Outcome::Cancelled { .. }, .. }]
    ));
    assert_eq!(c.next_timeout(timeout), Some(at(150)), "the other one's");
    // The backoff is over as well.
    assert_eq!(kinds(&c.take_batch(at(115)).unwrap()), [(EventKind::Cancel, 1), (EventKind::Reconcile, 3)]);
    let done = || output(vec![Action::Done { task: 1, requeue_after: None, error: None }]);
    assert!(c.commit(done(), at(115), at(115)).is_empty(), "it may not have known yet");
    assert!(matches!(c.commit(done(), at(116), at(116))[..], [Effect::Misbehaved(_)]));
    assert!(!c.answer(7, EventKind::End, 0, Bytes::new()));
}

#[test]
fn a_guest_is_not_notified_of_an_undelivered_reconcile_that_timed_out() {
    let mut c = ready();
    // With such long keys a step takes fewer than are handed out for it.
    for n in 0..MAX_STEP_EVENTS {
        c.enqueue(R0, format!("ns/{}{n}", "x".repeat(2 * MAX_STEP_BYTES / MAX_STEP_EVENTS)).into(), at(0));
    }
    let batch = c.take_batch(at(0)).unwrap();
    let first_undelivered = batch.len() as u64 + 1;
    assert_eq!(c.time_out(first_undelivered, at(1)).len(), 1);
    assert_eq!(c.take_batch(at(1)).unwrap()[0].id, first_undelivered + 1);
}

#[test]
fn watches_are_bounded_and_invalid_registrations_are_rejected() {
    let watches = |n: usize| {
        let watch = r#"{"version":"v1","kind":"K"}"#;
        SPEC.replace("}}", &format!("}},\"watches\":[{}]}}", vec![watch; n].join(",")))
    };
    for (specs, registered) in [
        (vec![watches(MAX_WATCHES - 1)], 1),
        (vec![watches(MAX_WATCHES)], 0),
        (vec![SPEC.into(); MAX_WATCHES + 1], MAX_WATCHES as u32),
        (vec!["{}".into(), " ".repeat(MAX_SPEC_BYTES + 1), SPEC.into()], 1),
    ] {
        let mut c = Controller::new(at(0), 0);
        c.take_batch(at(0)).unwrap();
        let refused = specs.len() - registered as usize;
        let actions = specs.into_iter().map(|spec| Action::Register { spec }).collect();
        let effects = c.commit(output(actions), at(0), at(0));
        assert_eq!(c.registrations().count() as u32, registered);
        assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Misbehaved(_))).count(), refused);
    }
}

#[test]
fn a_registration_with_an_invalid_predicate_is_rejected_with_its_position() {
    let spec = |predicate: &str| {
        let watch = serde_json::json!({"version": "v1", "kind": "ConfigMap", "predicate": predicate});
        serde_json::json!({"name": "maps", "primary": watch}).to_string()
    };
    for (predicate, said) in [
        ("object.spec !=", "at line 1, column 15"),
        ("self.spec == 1", "unknown variable `self`"),
        ("object.data.map(d, d)", "`map` and `filter` are not supported"),
    ] {
        let mut c = Controller::new(at(0), 0);
        c.take_batch(at(0)).unwrap();
        let effects = c.commit(output(vec![Action::Register { spec: spec(predicate) }]), at(0), at(0));
        let [Effect::Misbehaved(why)] = &effects[..] else { panic!("{predicate}: {effects:?}") };
        for part in [said, "the watch of ConfigMap is refused", predicate, "help:"] {
            assert!(why.contains(part), "{predicate}: {part:?} is not in {why}");
        }
        assert!(!c.has_registered());
    }
    let mut c = Controller::new(at(0), 0);
    c.take_batch(at(0)).unwrap();
    let effects = c.commit(output(vec![Action::Register { spec: spec("has(object.data)") }]), at(0), at(0));
    assert!(matches!(effects[..], [Effect::Registered(R0)]));
}

#[test]
fn a_map_event_tells_whether_the_object_was_deleted() {
    let mut c = ready();
    for gone in [false, true] {
        let object = Some(Bytes::from_static(b"{}"));
        c.enqueue_map(WatchedChange { registration: R0, watch: 3, source: WatchId(0), key: "a".into(), gone, object });
    }
    let batch = c.take_batch(at(0)).unwrap();
    assert_eq!(
        batch.iter().map(|e| (e.kind, e.aux)).collect::<Vec<_>>(),
        [(EventKind::Map, 3), (EventKind::Map, 3 + 32768)]
    );
}

#[test]
fn names_without_an_object_are_reconciled_up_to_a_limit() {
    let mut c = ready();
    let long = "x".repeat(600);
    for nonsense in ["", "/", "a/", "/a", "a/b/c", &long] {
        assert_eq!(c.enqueue_unknown(R0, nonsense.into(), at(0)), None, "{nonsense:?} is no key");
    }
    assert_eq!(c.enqueue_unknown(RegistrationId(9), "a".into(), at(0)), None, "there is no such registration");
    for n in 0..MAX_UNKNOWN {
        assert_eq!(c.enqueue_unknown(R0, format!("ns/{n}").into(), at(0)), Some(true));
    }
    assert_eq!(c.enqueue_unknown(R0, "ns/1".into(), at(0)), Some(true), "it waits already");
    assert_eq!(c.enqueue_unknown(R0, "ns/another".into(), at(0)), Some(false));
    c.enqueue(R0, "ns/watched".into(), at(0));
    assert_eq!(c.registration(R0).unwrap().queue.len(), MAX_UNKNOWN + 1);
    // Finished objects make room.
    let batch = c.take_batch(at(0)).unwrap();
    let done = |event: &Event| Action::Done { task: event.task, requeue_after: None, error: None };
    c.commit(output(batch.iter().map(done).collect()), at(0), at(0));
    assert_eq!(c.enqueue_unknown(R0, "ns/another".into(), at(0)), Some(true));
}

#[test]
fn watched_objects_do_not_count_as_names_without_an_object() {
    let mut c = ready();
    for n in 0..2 * MAX_UNKNOWN {
        c.enqueue(R0, format!("ns/{n}").into(), at(0));
    }
    // Each is requeued.
    while let Some(batch) = c.take_batch(at(0)) {
        let requeue = |event: &Event| Action::Done { task: event.task, requeue_after: Some(at(1000)), error: None };
        c.commit(output(batch.iter().map(requeue).collect()), at(0), at(0));
    }
    assert_eq!(c.registration(R0).unwrap().queue.len(), 2 * MAX_UNKNOWN);
    assert_eq!(c.enqueue_unknown(R0, "ns/unknown".into(), at(0)), Some(true));
}

#[test]
fn names_without_an_object_are_bounded_for_all_registrations_together() {
    for (bytes, expected) in [(20, MAX_UNKNOWN), (MAX_KEY_BYTES, MAX_UNKNOWN_BYTES / MAX_KEY_BYTES)] {
        let mut c = ready();
        let more = vec![Action::Register { spec: SPEC.into() }; MAX_WATCHES - 1];
        c.commit(output(more), at(0), at(0));
        let ids: Vec<_> = c.registrations().map(|r| r.id).collect();
        assert_eq!(ids.len(), MAX_WATCHES);
        let mut taken = 0;
        for n in 0..300 {
            for id in &ids {
                taken += usize::from(c.enqueue_unknown(*id, format!("{n:0bytes$}").into(), at(0)) == Some(true));
            }
        }
        assert_eq!(taken, expected, "names of {bytes} bytes");
    }
}

#[test]
fn objects_are_retried_at_once_when_the_instance_is_to_blame() {
    let mut c = ready();
    c.enqueue(R0, "a".into(), at(0));
    c.enqueue(R0, "b".into(), at(0));
    let batch = c.take_batch(at(0)).unwrap();
    // One has failed and the other is being reconciled when the instance is lost.
    c.cancelled(batch[0].id, false, at(0));
    c.reset(true, at(1), 0);
    let queue = |c: &Controller| {
        let queue = &c.registration(R0).unwrap().queue;
        (queue.len(), ["a", "b"].map(|key| queue.is_backing_off(key)))
    };
    assert_eq!(queue(&c), (2, [true, true]));
    c.retry_now(at(1));
    assert_eq!(queue(&c), (2, [false, false]));
}
