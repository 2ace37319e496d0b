use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::tests::call;
use super::*;
use crate::controller::{Controller, Effect, WatchedChange};
use crate::step::{Action, Event, EventKind, StepOutput};
use crate::watch::WatchId;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A change of an object that the first registration watches.
fn change(watch: u32) -> WatchedChange {
    let object = Some(Default::default());
    WatchedChange { registration: RegistrationId(0), watch, source: WatchId(0), key: "a".into(), gone: false, object }
}

/// A spec as JSON. `objects`: a label selector; `watches`: kinds.
fn spec(name: &str, objects: &str, watches: &[&str]) -> String {
    let watch = |kind: &&str| serde_json::json!({"version": "v1", "kind": kind});
    serde_json::json!({
        "name": name,
        "primary": {"version": "v1", "kind": "K", "labelSelector": objects},
        "watches": watches.iter().map(watch).collect::<Vec<_>>(),
    })
    .to_string()
}

fn register(specs: &[String]) -> StepOutput {
    let actions = specs.iter().map(|spec| Action::Register { spec: spec.clone() }).collect();
    StepOutput { actions, ..StepOutput::default() }
}

/// A started instance with these registrations.
fn started(specs: &[String]) -> (Controller, Vec<Effect>) {
    let mut c = Controller::new(at(0), 0);
    c.take_batch(at(0)).unwrap();
    let effects = c.commit(register(specs), at(0), at(0));
    (c, effects)
}

/// Loses the instance; the next one makes these registrations.
fn start_again(c: &mut Controller, specs: &[String]) -> Vec<Effect> {
    let mut effects = c.reset(false, at(0), 0);
    assert_eq!(c.take_batch(at(0)).unwrap()[0].kind, EventKind::Start);
    effects.extend(c.commit(register(specs), at(0), at(0)));
    effects
}

/// Ids registered and retired.
fn ids(effects: &[Effect]) -> (Vec<u32>, Vec<u32>) {
    let mut ids = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Registered(id) => ids.0.push(id.0),
            Effect::Unregistered(id) => ids.1.push(id.0),
            other => panic!("{other:?}"),
        }
    }
    ids
}

/// Index and object of each reconcile.
fn reconciles(batch: Option<Vec<Event>>) -> BTreeSet<(u32, String)> {
    let of = |event: Event| (event.aux, String::from_utf8(event.payload.to_vec()).unwrap());
    batch.into_iter().flatten().filter(|event| event.kind == EventKind::Reconcile).map(of).collect()
}

#[test]
fn registrations_in_another_order_keep_their_queues() {
    let [a, b] = ["a", "b"].map(|name| spec(name, "", &[]));
    let (mut c, effects) = started(&[a.clone(), b.clone()]);
    assert_eq!(ids(&effects), (vec![0, 1], vec![]));
    c.enqueue(RegistrationId(0), "of-a".into(), at(0));
    c.enqueue(RegistrationId(1), "of-b".into(), at(0));
    assert_eq!(ids(&start_again(&mut c, &[b, a])), (vec![1, 0], vec![]));
    assert_eq!(reconciles(c.take_batch(at(0))), BTreeSet::from([(0, "of-b".into()), (1, "of-a".into())]));
}

#[test]
fn a_registration_that_is_not_repeated_is_retired_and_its_id_not_reused() {
    let [a, b, d] = ["a", "b", "d"].map(|name| spec(name, "", &[]));
    let (mut c, _) = started(&[a.clone(), b.clone()]);
    assert_eq!(ids(&start_again(&mut c, &[d, b.clone()])), (vec![2, 1], vec![0]));
    assert!(c.registration(RegistrationId(0)).is_none());
    c.enqueue(RegistrationId(0), "late".into(), at(0));
    c.enqueue_map(change(7));
    assert!(!c.is_runnable(at(0)));
    assert_eq!(ids(&start_again(&mut c, &[a])), (vec![3], vec![1, 2]));
}

#[test]
fn a_registration_that_changes_only_what_it_watches_keeps_its_queue() {
    let (mut c, _) = started(&[spec("a", "x=1", &["Secret", "Pod"])]);
    c.enqueue(RegistrationId(0), "object".into(), at(0));
    assert_eq!(ids(&start_again(&mut c, &[spec("a", "x=1", &["Pod"])])), (vec![0], vec![]));
    assert_eq!(c.registration(RegistrationId(0)).unwrap().spec.watches.len(), 1);
    assert_eq!(reconciles(c.take_batch(at(0))), BTreeSet::from([(0, "object".into())]));
    // Other objects are another registration.
    assert_eq!(ids(&start_again(&mut c, &[spec("a", "x=2", &["Pod"])])), (vec![1], vec![0]));
}

#[test]
fn equal_registrations_keep_their_queues_and_an_identical_spec_takes_precedence() {
    let (one, other) = (spec("a", "", &["Pod"]), spec("a", "", &["Secret"]));
    let (mut c, _) = started(&[one.clone(), one.clone(), other.clone()]);
    assert_eq!(ids(&start_again(&mut c, &[other.clone(), one.clone(), one.clone()])), (vec![2, 0, 1], vec![]));
    assert_eq!(ids(&start_again(&mut c, &[other.clone(), other])), (vec![2, 0], vec![1]));
}

#[test]
fn queues_wait_through_failed_instances_until_one_registers() {
    let a = spec("a", "", &[]);
    let (mut c, _) = started(std::slice::from_ref(&a));
    c.enqueue(RegistrationId(0), "object".into(), at(0));
    for _ in 0..3 {
        assert!(c.reset(false, at(0), 0).is_empty());
        c.take_batch(at(0)).unwrap();
    }
    assert_eq!(ids(&start_again(&mut c, &[a])), (vec![0], vec![]));
    assert_eq!(reconciles(c.take_batch(at(0))).len(), 1);
}

#[test]
fn registrations_are_not_retired_while_main_waits_for_an_answer() {
    let [a, b] = ["a", "b"].map(|name| spec(name, "", &[]));
    let (mut c, _) = started(&[a.clone(), b.clone()]);
    c.reset(false, at(0), 0);
    c.take_batch(at(0)).unwrap();
    let mut out = register(std::slice::from_ref(&a));
    let text = String::new;
    let call = crate::step::Call {
        id: 1,
        task: 0,
        target: text(),
        method: "GET".into(),
        path: "/x".into(),
        headers: text(),
        body: Default::default(),
    };
    out.actions.push(Action::Call(call));
    let effects = c.commit(out, at(0), at(0));
    assert!(matches!(effects[..], [Effect::Registered(RegistrationId(0)), Effect::Call(_)]), "{effects:?}");
    c.answer(1, EventKind::End, 0, Default::default());
    // It has not received the answer yet.
    assert!(c.commit(StepOutput::default(), at(0), at(0)).is_empty());
    c.take_batch(at(0)).unwrap();
    assert_eq!(ids(&c.commit(register(&[b]), at(0), at(0))), (vec![1], vec![]));
    // An instance that stops after the first registration omits the second.
    let mut effects = c.reset(false, at(0), 0);
    c.take_batch(at(0)).unwrap();
    effects.extend(c.commit(register(&[a]), at(0), at(0)));
    assert_eq!(ids(&effects), (vec![0], vec![1]));
}

#[test]
fn an_instance_that_registers_nothing_retires_all_registrations() {
    let (mut c, _) = started(&["a", "b"].map(|name| spec(name, "", &[])));
    c.reset(false, at(0), 0);
    c.take_batch(at(0)).unwrap();
    let asks = StepOutput { actions: vec![Action::Call(call(1, 0))], ..StepOutput::default() };
    assert!(matches!(c.commit(asks, at(0), at(0))[..], [Effect::Call(_)]), "it waits for an answer");
    c.answer(1, EventKind::End, 0, Default::default());
    c.take_batch(at(0)).unwrap();
    let sleeps = StepOutput { park: Some(at(100)), ..StepOutput::default() };
    assert!(c.commit(sleeps, at(0), at(0)).is_empty(), "it sleeps");
    c.take_batch(at(100)).unwrap();
    assert_eq!(ids(&c.commit(StepOutput::default(), at(100), at(100))), (vec![], vec![0, 1]));
    assert_eq!(c.registrations().count(), 0);
}

#[test]
fn rejected_registrations_are_numbered_too() {
    let (mut c, effects) = started(&["nonsense".into(), spec("a", "", &[])]);
    assert!(matches!(effects[..], [Effect::Misbehaved(_), Effect::Registered(RegistrationId(0))]), "{effects:?}");
    assert_eq!(c.registered(), 2);
    c.enqueue(RegistrationId(0), "object".into(), at(0));
    c.enqueue_map(change(3));
    let batch = c.take_batch(at(0)).unwrap();
    assert_eq!(batch.iter().map(|event| event.aux).collect::<BTreeSet<_>>(), BTreeSet::from([1, 1 << 16 | 3]));
    // On the next host, too.
    let mut c = Controller::restore(c.save(at(0)), at(0), 0, at(0)).unwrap();
    assert_eq!((c.registered(), c.has_registered()), (2, true));
    c.enqueue(RegistrationId(0), "another".into(), at(0));
    assert!(reconciles(c.take_batch(at(0))).contains(&(1, "another".into())));
}

#[test]
fn inconsistent_saved_registrations_are_rejected() {
    let one = |id, index| SavedRegistration {
        id: RegistrationId(id),
        index,
        spec: spec("a", "", &[]),
        queue: SavedQueue::default(),
    };
    let many = |n: usize| SavedRegistration { spec: spec("a", "", &vec!["Pod"; n]), ..one(0, 0) };
    for (all, is_good) in [
        (vec![], true),
        (vec![one(0, 1), one(7, 0)], true),
        (vec![one(0, 0), one(0, 1)], false),
        (vec![one(1, 0), one(0, 1)], false),
        (vec![one(0, 1), one(1, 1)], false),
        (vec![one(0, 2)], false),
        (vec![one(u32::MAX, 0)], false),
        (vec![SavedRegistration { spec: "{}".into(), ..one(0, 0) }], false),
        (vec![many(MAX_WATCHES - 1)], true),
        (vec![many(MAX_WATCHES)], false),
    ] {
        let text = format!("{all:?}");
        let restored = Registrations::restore(SavedRegistrations { all, calls: 2 }, at(0), at(0));
        assert_eq!(restored.is_ok(), is_good, "{text}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// One of the known specs, or an invalid one.
    Register(usize),
    Reset(bool),
    /// An object of the nth registration.
    Enqueue(usize, u8),
    Step,
    Done(usize),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..9).prop_map(Op::Register),
        1 => any::<bool>().prop_map(Op::Reset),
        3 => (any::<usize>(), 0u8..4).prop_map(|(n, object)| Op::Enqueue(n, object)),
        4 => Just(Op::Step),
        2 => any::<usize>().prop_map(Op::Done),
        1 => Just(Op::Restart),
    ]
}

/// The objects that a spec reconciles: equal specs have equal ones.
fn objects(spec: &ControllerSpec) -> String {
    format!("{}[{}]", spec.name, spec.primary.label_selector)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After any registrations and restarts, an instance reconciles only objects of its own registrations, by its own
    /// numbers, and the host watches what is registered.
    #[test]
    fn each_instance_gets_only_objects_of_its_registrations(ops in prop::collection::vec(op(), 1..120)) {
        let specs: Vec<String> = [("a", "", &[][..]), ("a", "", &["Pod"]), ("a", "x=1", &[]), ("b", "", &["Pod", "Secret"]),
            ("b", "", &["Secret", "Pod"]), ("c", "", &["Pod"]), ("c", "", &[])]
            .into_iter().map(|(name, selector, watches)| spec(name, selector, watches)).chain(["{}".into(), "?".into()]).collect();
        let mut c = Controller::new(at(0), 0);
        let mut now = at(0);
        // The instance's registrations by number.
        let mut guest: Vec<Option<ControllerSpec>> = Vec::new();
        let mut started = false;
        let mut tasks: Vec<u64> = Vec::new();
        let mut watched: BTreeMap<RegistrationId, usize> = BTreeMap::new();
        for op in ops {
            let mut effects = Vec::new();
            match op {
                Op::Register(n) if started => {
                    guest.push(serde_json::from_str(&specs[n]).ok());
                    effects = c.commit(register(&specs[n..=n]), now, now);
                }
                Op::Reset(failed) => {
                    effects = c.reset(failed, now, 0);
                    (started, guest, tasks) = (false, Vec::new(), Vec::new());
                }
                Op::Enqueue(n, object) => {
                    let all: Vec<_> = c.registrations().map(|r| (r.id, objects(&r.spec))).collect();
                    // Also for a registration that is gone or never existed.
                    let (id, of) = all.get(n % (all.len() + 1)).cloned().unwrap_or((RegistrationId(n as u32), "?".into()));
                    if of != "?" || c.registration(id).is_none() {
                        c.enqueue(id, format!("{of}/{object}").into(), now);
                    }
                }
                Op::Step => {
                    now += at(700_000);
                    let mut park = None;
                    for event in c.take_batch(now).into_iter().flatten() {
                        if event.kind == EventKind::Start {
                            started = true;
                            // Its main function waits and registers later.
                            park = Some(at(1));
                        } else {
                            let key = String::from_utf8(event.payload.to_vec()).unwrap();
                            let spec = guest.get(event.aux as usize).cloned().flatten();
                            let spec = spec.expect("an index that it has registered");
                            prop_assert!(key.starts_with(&objects(&spec)), "{key} for {spec:?}");
                            tasks.push(event.task);
                        }
                    }
                    effects = c.commit(StepOutput { park, ..StepOutput::default() }, now, now);
                }
                Op::Done(n) if !tasks.is_empty() => {
                    let task = tasks.remove(n % tasks.len());
                    let done = Action::Done { task, requeue_after: None, error: None };
                    let mut done = c.commit(StepOutput { actions: vec![done], ..StepOutput::default() }, now, now);
                    let is_reconciled = matches!(done.remove(0), Effect::Reconciled { .. });
                    prop_assert!(is_reconciled);
                    effects = done;
                }
                // The next host knows the instance's registrations and no others.
                Op::Restart if started => {
                    let saved = postcard::to_stdvec(&c.save(now)).unwrap();
                    c = Controller::restore(postcard::from_bytes(&saved).unwrap(), at(0), 0, at(0)).unwrap();
                    now = at(0);
                    watched = c.registrations().map(|r| (r.id, r.spec.watches.len())).collect();
                }
                Op::Register(_) | Op::Done(_) | Op::Restart => {}
            }
            for effect in effects {
                match effect {
                    Effect::Registered(id) => {
                        let registration = c.registration(id);
                        prop_assert!(registration.is_some(), "{id} is registered and not there");
                        watched.insert(id, registration.map_or(0, |r| r.spec.watches.len()));
                    }
                    Effect::Unregistered(id) => {
                        prop_assert!(watched.remove(&id).is_some(), "{id} is given up and was not there");
                    }
                    Effect::Misbehaved(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            // The loop indexes into the watches of those.
            let there: BTreeMap<_, _> = c.registrations().map(|r| (r.id, r.spec.watches.len())).collect();
            prop_assert_eq!(&watched, &there);
            prop_assert!(there.len() <= 2 * MAX_WATCHES);
            prop_assert!(c.registrations().zip(c.registrations().skip(1)).all(|(a, b)| a.id < b.id));
            for task in c.tasks() {
                prop_assert!(c.reconcile(task).is_some(), "task {task} of a registration that is gone");
            }
            prop_assert_eq!(c.registered() as usize, guest.len());
        }
    }
}
