//! Controllers that are saved and continue on the next host.

use super::super::registrations::SavedRegistrations;
use super::*;

#[test]
fn after_a_restart_of_the_host_tasks_continue_and_calls_have_failed() {
    let mut c = ready();
    for key in ["a", "b", "c"] {
        c.enqueue(R0, key.into(), at(0));
    }
    c.take_batch(at(0)).unwrap();
    let mut out =
        output(vec![Action::Call(call(5, 1)), Action::Done { task: 3, requeue_after: Some(at(1000)), error: None }]);
    out.park = Some(at(400));
    c.commit(out, at(0), at(0));
    c.enqueue(R0, "d".into(), at(0));
    let saved = postcard::to_stdvec(&c.save(at(100))).unwrap();

    let saved: ControllerState = postcard::from_bytes(&saved).unwrap();
    let mut c = Controller::restore(saved, at(50_000), 7_000, at(200)).unwrap();
    assert_eq!(c.clock(at(50_001)), 1_007_000);
    assert_eq!(c.tasks().collect::<Vec<_>>(), [1, 2]);
    let batch = c.take_batch(at(50_000)).unwrap();
    assert_eq!(kinds(&batch), [(EventKind::Failed, 5), (EventKind::Reconcile, 4)]);
    // 400 - 100 were left, 200 have passed; 1000 - 100 - 200 for the requeue.
    assert_eq!(c.next_wake(at(50_000)), Some(at(50_100)));
    c.commit(output(vec![]), at(50_000), at(50_000));
    assert_eq!(c.next_wake(at(50_000)), Some(at(50_700)));
    c.enqueue(R0, "a".into(), at(50_000));
    assert!(c.take_batch(at(50_000)).is_none(), "`a` is still being reconciled");
}

#[test]
fn after_a_restart_of_the_host_watches_that_have_begun_end() {
    let mut c = ready();
    let watch = |id| Call { path: "/api/v1/pods?watch=true".into(), ..call(id, 0) };
    let log = |id| Call { path: "/api/v1/namespaces/a/pods/b/log?follow=true".into(), ..call(id, 0) };
    let calls = [watch(1), watch(2), watch(3), log(4)].map(Action::Call);
    c.commit(output(calls.into()), at(0), at(0));
    for call in [1, 4] {
        c.answer(call, EventKind::Head, 200, Bytes::new());
    }
    c.take_batch(at(0)).unwrap();
    c.commit(output(vec![]), at(0), at(0));
    // The guest has not got these.
    c.answer(1, EventKind::Body, 0, Bytes::from_static(b"{}\n"));
    c.answer(2, EventKind::Head, 200, Bytes::new());

    let saved = postcard::to_stdvec(&c.save(at(100))).unwrap();
    let saved: ControllerState = postcard::from_bytes(&saved).unwrap();
    let mut c = Controller::restore(saved, at(0), 0, at(0)).unwrap();
    let mut events = kinds(&c.take_batch(at(0)).unwrap());
    events.sort_by_key(|(_, call)| *call);
    let expected = [(EventKind::End, 1), (EventKind::Failed, 2), (EventKind::Failed, 3), (EventKind::Failed, 4)];
    assert_eq!(events, expected);
}

/// A saved controller with a requeue, a backoff and a guest timer.
fn saved_with_times() -> Vec<u8> {
    let mut c = ready();
    for key in ["requeued", "failed"] {
        c.enqueue(R0, key.into(), at(0));
    }
    c.take_batch(at(0)).unwrap();
    let mut out = output(vec![
        Action::Done { task: 1, requeue_after: Some(at(90_000)), error: None },
        Action::Done { task: 2, requeue_after: Some(at(60_000)), error: Some("no".into()) },
    ]);
    out.park = Some(at(30_000));
    c.commit(out, at(0), at(0));
    postcard::to_stdvec(&c.save(at(10_000))).unwrap()
}

#[test]
fn time_without_a_host_counts_for_requeues_backoff_and_timers() {
    let saved = saved_with_times();
    for now in [0, 2, 40_000, 50_000_000] {
        // The rest of 20, 50 and 80 s.
        for (elapsed, expected) in [
            (0, [Some(20_000), Some(50_000), Some(80_000)]),
            (19_999, [Some(1), Some(30_001), Some(60_001)]),
            (60_000, [None, None, Some(20_000)]),
            (u64::MAX / 2_000_000, [None, None, None]),
        ] {
            let restored = postcard::from_bytes(&saved).unwrap();
            let mut c = Controller::restore(restored, at(now), 0, at(elapsed)).unwrap();
            let [deadline, failed, requeued] =
                expected.map(|left: Option<u64>| left.map_or(at(now), |ms| at(now + ms)));
            let mut due = vec![(deadline, None), (failed, Some("failed")), (requeued, Some("requeued"))];
            due.retain(|(time, _)| *time > at(now));
            let objects = |batch: Option<Vec<Event>>| {
                let events = batch.into_iter().flatten();
                events.map(|e| String::from_utf8(e.payload.to_vec()).unwrap()).collect::<Vec<_>>()
            };
            let late = 3 - due.len();
            assert_eq!(c.is_runnable(at(now)), late > 0, "{elapsed} ms later");
            let overdue: Vec<_> = ["failed", "requeued"].into_iter().take(late.saturating_sub(1)).collect();
            assert_eq!(objects(c.take_batch(at(now))), overdue, "{elapsed} ms later");
            for (time, object) in due {
                let context = format!("at {now}, {elapsed} ms later: {object:?} at {time:?}");
                c.commit(
                    StepOutput { park: (deadline > at(now)).then(|| deadline - at(now)), ..output(vec![]) },
                    at(now),
                    at(now),
                );
                assert!(
                    object.is_none() || c.take_batch(time - at(1)).is_none_or(|batch| batch.is_empty()),
                    "{context}"
                );
                assert_eq!(objects(c.take_batch(time)), Vec::from_iter(object), "{context}");
            }
        }
    }
}

#[test]
fn time_without_a_host_counts_against_the_timeout_of_a_reconcile() {
    let (timeout, grace) = (at(60_000), at(10_000));
    let mut c = ready();
    c.enqueue(R0, "a".into(), at(0));
    c.take_batch(at(0)).unwrap();
    c.commit(output(vec![]), at(0), at(0));
    for (elapsed, left) in [(0, at(55_000)), (20_000, at(35_000)), (50_000, grace), (1 << 40, grace)] {
        for now in [0, 7, 1 << 40] {
            let mut c = Controller::restore(c.save(at(5_000)), at(now), 0, at(elapsed)).unwrap();
            assert_eq!(c.next_timeout(timeout), Some(at(now) + left), "{elapsed} ms later");
            // Repeated restarts do not reset it.
            let again = Controller::restore(c.save(at(now + 1)), at(now), 0, at(4)).unwrap();
            assert_eq!(again.next_timeout(timeout), Some(at(now) + (left - at(5)).max(grace)));
            let done = output(vec![Action::Done { task: 1, requeue_after: None, error: None }]);
            let effects = c.commit(done, at(now), at(now + 3));
            let [Effect::Reconciled { took, .. }] = &effects[..] else { panic!("{effects:?}") };
            assert_eq!(*took, at(5_003 + elapsed));
        }
    }
}

#[test]
fn an_object_that_changed_during_a_continued_reconcile_is_reconciled_again() {
    let mut c = ready();
    for key in ["changed", "unchanged"] {
        c.enqueue(R0, key.into(), at(0));
    }
    c.take_batch(at(0)).unwrap();
    c.commit(output(vec![]), at(0), at(0));
    c.enqueue(R0, "changed".into(), at(1));
    // Ready when it was saved: it is handed out once.
    c.enqueue(R0, "waiting".into(), at(1));
    c.take_batch(at(1)).unwrap();
    c.enqueue(R0, "waiting".into(), at(1));
    let done = |task| Action::Done { task, requeue_after: None, error: None };

    // The guest has not received the last object, so it has no task.
    let mut c = Controller::restore(c.save(at(2)), at(2), 0, at(0)).unwrap();
    let tasks: Vec<u64> = c.tasks().collect();
    c.commit(output(tasks.into_iter().map(done).collect()), at(2), at(2));
    let objects =
        |batch: &[Event]| batch.iter().map(|e| String::from_utf8(e.payload.to_vec()).unwrap()).collect::<Vec<_>>();
    let mut again = objects(&c.take_batch(at(3)).unwrap());
    again.sort();
    assert_eq!(again, ["changed", "waiting"]);
}

#[test]
fn an_inconsistent_saved_state_is_rejected() {
    let task = Task { registration: RegistrationId(3), key: "a".into(), ..Task::default() };
    let saved = ControllerState {
        registrations: SavedRegistrations::default(),
        tasks: vec![(1, task)],
        calls: vec![],
        next_task: 2,
        deadline_ns: None,
    };
    assert!(Controller::restore(saved, at(0), 0, at(0)).is_err());
}
