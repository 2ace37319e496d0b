use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::super::mapping::{MAP_GONE, MAX_MAPPING};
use super::super::tests::{at, call, output, ready};
use super::super::{Controller, Effect};
use super::*;
use crate::step::{Action, Call};

fn change(key: &str, bytes: usize) -> WatchedChange {
    let object = if bytes == LARGE { large() } else { vec![b'x'; bytes].into() };
    WatchedChange {
        registration: RegistrationId(0),
        watch: 0,
        source: WatchId(7),
        key: key.into(),
        gone: false,
        object: Some(object),
    }
}

fn deletion(key: &str, bytes: usize) -> WatchedChange {
    WatchedChange { gone: true, ..change(key, bytes) }
}

const LARGE: usize = 3 << 20;

/// An object of this size, allocated once.
fn large() -> Bytes {
    static OBJECT: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; LARGE].into());
    OBJECT.clone()
}

fn large_call(id: u64, body: usize) -> Call {
    Call { body: vec![0; body].into(), ..call(id, 0) }
}

/// Kinds of the next events, and their number.
fn batch(c: &mut Controller) -> Vec<EventKind> {
    c.take_batch(at(0)).unwrap_or_default().iter().map(|event| event.kind).collect()
}

#[test]
fn a_duplicate_call_gets_no_answer() {
    let mut c = ready();
    c.commit(output(vec![Action::Call(call(1, 0))]), at(0), at(0));
    let held = c.held_bytes();
    for _ in 0..10 {
        let again = (0..16_000).map(|_| Action::Call(call(1, 0))).collect();
        let effects = c.commit(output(again), at(0), at(0));
        assert!(effects.len() == 16_000 && effects.iter().all(|e| matches!(e, Effect::Misbehaved(_))));
    }
    assert_eq!(c.held_bytes(), held);
    assert!(batch(&mut c).is_empty() && !c.is_overdrawn());
}

#[test]
fn calls_beyond_the_limit_are_refused_and_finally_lose_the_instance() {
    let mut c = ready();
    let calls = |from: u64| output((from..from + 16_000).map(|id| Action::Call(call(id, 0))).collect());
    c.commit(calls(0), at(0), at(0));
    assert_eq!(c.calls_in_flight(), MAX_CALLS);
    assert!(!c.is_overdrawn(), "a burst is no reason");
    let refused = batch(&mut c);
    assert!(!refused.is_empty() && refused.iter().all(|kind| *kind == EventKind::Failed));
    let mut steps = 1;
    while !c.is_overdrawn() {
        c.commit(calls(16_000 * steps), at(0), at(0));
        batch(&mut c);
        steps += 1;
        assert!(steps < 100);
    }
    assert!(c.held_bytes() < 2 * MAX_HELD_BYTES);
    c.reset(true, at(0), 0);
    assert_eq!((c.held_bytes(), c.is_overdrawn()), (0, false));
}

#[test]
fn requests_are_limited_in_bytes_but_a_single_one_is_always_allowed() {
    let mut c = ready();
    let opened = |c: &mut Controller, id, body| {
        let effects = c.commit(output(vec![Action::Call(large_call(id, body))]), at(0), at(0));
        matches!(effects[..], [Effect::Call(_)])
    };
    assert!(opened(&mut c, 1, 2 * MAX_HELD_BYTES));
    assert!(!opened(&mut c, 2, 0));
    batch(&mut c);
    c.answer(1, EventKind::End, 0, Bytes::new());
    batch(&mut c);
    assert!(opened(&mut c, 3, MAX_HELD_BYTES / 2) && !opened(&mut c, 4, MAX_HELD_BYTES / 2));
}

#[test]
fn undelivered_answers_count_as_calls() {
    let mut c = ready();
    let calls = |from: u64| output((from..from + MAX_CALLS as u64).map(|id| Action::Call(call(id, 0))).collect());
    c.commit(calls(0), at(0), at(0));
    for id in 0..MAX_CALLS as u64 {
        c.answer_itself(id, EventKind::End, 0, Bytes::new());
    }
    let effects = c.commit(calls(100_000), at(0), at(0));
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Misbehaved(_))));
}

#[test]
fn answers_of_the_host_return_no_credit() {
    let mut c = ready();
    c.commit(output(vec![Action::Call(call(1, 0)), Action::Call(call(2, 0))]), at(0), at(0));
    let body = |bytes: usize| Bytes::from(vec![0; bytes]);
    c.answer_itself(1, EventKind::Head, 403, body(10));
    c.answer_itself(1, EventKind::Body, 0, body(500));
    c.answer_itself(1, EventKind::End, 0, Bytes::new());
    batch(&mut c);
    assert_eq!(c.take_credit(), 0);
    c.answer(2, EventKind::Head, 200, body(20));
    c.answer(2, EventKind::Body, 0, body(300));
    batch(&mut c);
    assert_eq!(c.take_credit(), 320);
}

#[test]
fn the_reason_of_a_failed_call_is_shortened() {
    let mut c = ready();
    c.commit(output(vec![Action::Call(call(1, 0))]), at(0), at(0));
    c.answer(1, EventKind::Failed, 0, vec![b'x'; 1 << 20].into());
    assert!(c.take_batch(at(0)).unwrap()[0].payload.len() < 5000);
}

#[test]
fn changes_beyond_the_limit_are_looked_up_at_delivery() {
    let mut c = ready();
    let large = 900 << 10;
    for n in 0..40 {
        c.enqueue_map(change(&format!("ns/{n}"), large));
        c.enqueue_map(change(&format!("ns/{n}"), large));
        assert!(c.held_bytes() <= MAX_WITH_CHANGES_BYTES);
    }
    let whole = MAX_WITH_CHANGES_BYTES / large;
    let (mut asked, mut all_due, mut found) = (0, BTreeMap::new(), std::cell::Cell::new(0));
    while c.has_unasked() {
        c.look_up_changes(|watch, key| {
            assert_eq!(watch, WatchId(7));
            found.set(found.get() + 1);
            match key {
                "ns/39" => Found::WithoutObject,
                "ns/38" => Found::Nothing,
                _ => Found::Object(vec![b'y'; large].into()),
            }
        });
        assert!(c.held_bytes() <= MAX_HELD_BYTES);
        let events = c.take_batch(at(0)).unwrap_or_default();
        asked += events.len();
        let answers = events.iter().map(|event| Action::Mapped { task: event.id, keys: String::new() });
        c.commit(output(answers.collect()), at(0), at(0));
        all_due.append(&mut c.take_all_due());
    }
    assert_eq!(all_due, [(RegistrationId(0), at(0))].into(), "one was not found");
    // Changes with an object come twice, the others once.
    assert_eq!((asked, *found.get_mut()), (whole + (40 - whole / 2 - 1), 40 - whole / 2));
}

#[test]
fn a_deletion_beyond_the_limit_is_delivered_by_name_in_order() {
    let mut c = ready();
    c.enqueue_map(change("ns/large", MAX_WITH_CHANGES_BYTES - 2000));
    for again in [change("ns/a", 5000), deletion("ns/a", 5000), change("ns/a", 5000), change("ns/a", 5000)] {
        c.enqueue_map(again);
    }
    c.look_up_changes(|_, _| Found::Object(Bytes::from_static(b"now")));
    let mut payloads = Vec::new();
    while let Some(events) = c.take_batch(at(0)) {
        let said = |event: &Event| (event.aux == MAP_GONE, event.payload.len() < 200);
        payloads.extend(events.iter().map(said));
        c.look_up_changes(|_, _| Found::Object(Bytes::from_static(b"now")));
    }
    assert_eq!(payloads, [(false, false), (false, true), (true, true), (false, true)]);
    assert!(c.take_all_due().is_empty());
}

#[test]
fn without_room_for_a_name_all_objects_are_reconciled_after_earlier_changes() {
    let mut c = ready();
    c.enqueue_map(change("ns/large", MAX_WITH_CHANGES_BYTES - size_of::<WatchedChange>() - 20));
    c.enqueue_map(change("ns/other", 10));
    assert!(c.has_unasked() && c.take_all_due().is_empty(), "after the changes that are still to be asked about");
    batch(&mut c);
    assert_eq!(c.take_all_due(), [(RegistrationId(0), at(0))].into());
    assert!(c.take_all_due().is_empty());
}

#[test]
fn map_tasks_are_limited_and_reconciles_continue() {
    let mut c = ready();
    for n in 0..1000 {
        c.enqueue_map(change(&format!("ns/{n}"), 10));
        c.enqueue(RegistrationId(0), format!("ns/{n}").into(), at(0));
    }
    let events = c.take_batch(at(0)).unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::Map).count(), events.len() / 2);
    let mut asked = events.len() / 2;
    while let Some(events) = c.take_batch(at(0)) {
        asked += events.iter().filter(|event| event.kind == EventKind::Map).count();
    }
    assert_eq!(asked, MAX_MAPPING, "it answers none");
    assert!(!c.is_runnable(at(0)) && c.has_unasked());
    c.commit(output(vec![Action::Mapped { task: 1, keys: String::new() }]), at(0), at(0));
    assert_eq!(batch(&mut c), [EventKind::Map]);
}

/// An operation on a controller.
#[derive(Clone, Debug)]
enum Happening {
    Changed(u8),
    Mapped(u8, u32, bool),
    Calls(Vec<(u8, u32)>),
    Drops(u8),
    Answers(u8, u32),
    AnswersItself(u8, u32),
    Ends(u8),
    Fails(u8),
    Steps,
    /// Finishes the task with this index.
    Done(u8),
    SaysMapped(u8),
    Cancelled(u8),
    TimesOut(u8),
    LooksUp(bool),
    Lost,
    Restarts,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let small = 0..6_u8;
    let bytes = prop_oneof![0..200_u32, Just(LARGE as u32)];
    prop_oneof![
        3 => small.clone().prop_map(Changed),
        4 => (small.clone(), bytes.clone(), any::<bool>()).prop_map(|(key, bytes, deleted)| Mapped(key, bytes, deleted)),
        4 => prop::collection::vec((small.clone(), bytes), 1..4).prop_map(Calls),
        1 => small.clone().prop_map(Drops),
        4 => (small.clone(), 0..70_000_u32).prop_map(|(id, bytes)| Answers(id, bytes)),
        2 => (small.clone(), 0..2000_u32).prop_map(|(id, bytes)| AnswersItself(id, bytes)),
        2 => small.clone().prop_map(Ends),
        1 => small.clone().prop_map(Fails),
        6 => Just(Steps),
        3 => small.clone().prop_map(Done),
        3 => small.clone().prop_map(SaysMapped),
        1 => small.clone().prop_map(Cancelled),
        1 => small.prop_map(TimesOut),
        2 => any::<bool>().prop_map(LooksUp),
        1 => Just(Lost),
        1 => Just(Restarts),
    ]
}

const CREDIT: usize = 1 << 20;

fn happens(c: &mut Controller, happening: Happening, available: &mut usize, now: Duration) {
    use Happening::*;
    let nth = |c: &Controller, n: u8| c.tasks().nth(usize::from(n)).unwrap_or(999);
    let commit = |c: &mut Controller, action| drop(c.commit(output(vec![action]), now, now));
    match happening {
        Changed(key) => c.enqueue(RegistrationId(0), format!("ns/{key}").into(), now),
        Mapped(key, bytes, gone) => {
            c.enqueue_map(WatchedChange { gone, ..change(&format!("ns/{key}"), bytes as usize) });
        }
        Calls(calls) => {
            let task = nth(c, 0);
            let calls =
                calls.into_iter().map(|(id, body)| Action::Call(Call { task, ..large_call(id.into(), body as usize) }));
            c.commit(output(calls.collect()), now, now);
        }
        Drops(id) => commit(c, Action::DropCall { id: id.into() }),
        Answers(id, bytes) => {
            // Like a response, it waits without credit.
            let bytes = bytes as usize;
            if *available >= bytes {
                *available -= bytes;
                let kind = if bytes.is_multiple_of(2) { EventKind::Head } else { EventKind::Body };
                if !c.answer(id.into(), kind, 0, vec![0; bytes].into()) {
                    *available += bytes;
                }
            }
        }
        AnswersItself(id, bytes) => {
            c.answer_itself(id.into(), EventKind::Body, 0, vec![0; bytes as usize].into());
        }
        Ends(id) => drop(c.answer(id.into(), EventKind::End, 0, Bytes::new())),
        Fails(id) => drop(c.answer(id.into(), EventKind::Failed, 0, vec![b'x'; 10_000].into())),
        Steps => {
            if let Some(events) = c.take_batch(now)
                && events.iter().any(|event| event.kind == EventKind::Start)
            {
                commit(c, Action::Register { spec: super::super::tests::SPEC.into() });
            }
        }
        Done(n) => commit(c, Action::Done { task: nth(c, n), requeue_after: None, error: None }),
        SaysMapped(n) => commit(c, Action::Mapped { task: nth(c, n), keys: "ns/a".into() }),
        Cancelled(n) => drop(c.cancelled(nth(c, n), false, now)),
        TimesOut(n) => drop(c.time_out(nth(c, n), now)),
        LooksUp(found) => c.look_up_changes(|_, key| match key {
            "ns/1" => Found::WithoutObject,
            _ if found => Found::Object(vec![b'z'; 5000].into()),
            _ => Found::Nothing,
        }),
        Lost => drop(c.reset(false, now, 0)),
        Restarts => {
            let saved = postcard::to_stdvec(&c.save(now)).unwrap();
            // Responses of another process had their own credit.
            *available = CREDIT;
            *c = Controller::restore(postcard::from_bytes(&saved).unwrap(), now, 0, Duration::ZERO).unwrap();
        }
    }
}

proptest! {
    /// After any operations the account matches a recount and stays within its limits. Credit is neither lost nor
    /// created.
    #[test]
    fn the_account_is_consistent(happenings in prop::collection::vec(happening(), 1..150)) {
        let mut c = ready();
        let mut available = CREDIT;
        for (ms, what) in happenings.into_iter().enumerate() {
            let before = c.held_bytes();
            let is_call = matches!(what, Happening::Calls(_));
            let is_change = matches!(what, Happening::Mapped(..));
            happens(&mut c, what, &mut available, at(ms as u64));
            c.check_account();
            let held = c.held_bytes();
            prop_assert!(!is_change || held <= before.max(MAX_WITH_CHANGES_BYTES));
            // A call is accepted only below the limit; a refusal is small.
            prop_assert!(!is_call || held <= before.max(MAX_HELD_BYTES) + 4096);
            available += c.take_credit();
            prop_assert!(available <= CREDIT, "{available} of {CREDIT}");
        }
        c.reset(true, at(1000), 0);
        c.check_account();
        prop_assert_eq!(c.held_bytes(), 0);
        prop_assert_eq!(available + c.take_credit(), CREDIT);
    }
}
