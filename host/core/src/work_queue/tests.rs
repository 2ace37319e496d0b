use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(5), max: Duration::from_secs(1000) };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn queue() -> WorkQueue {
    WorkQueue::new(0, BACKOFF)
}

#[test]
fn an_object_added_twice_is_handed_out_once() {
    let mut queue = queue();
    queue.add("a".into(), ms(0));
    queue.add("b".into(), ms(0));
    queue.add("a".into(), ms(0));
    assert_eq!(queue.len(), 2);
    assert_eq!(queue.take(ms(0)).as_deref(), Some("a"));
    assert_eq!(queue.take(ms(0)).as_deref(), Some("b"));
    assert_eq!(queue.take(ms(0)), None);
}

#[test]
fn an_object_added_while_processing_comes_again_after_done() {
    let mut queue = queue();
    queue.add("a".into(), ms(0));
    queue.take(ms(0)).unwrap();
    queue.add("a".into(), ms(1));
    assert_eq!(queue.take(ms(1)), None);
    queue.done("a", ms(2));
    assert_eq!(queue.take(ms(2)).as_deref(), Some("a"));
    queue.done("a", ms(3));
    assert!(queue.is_empty());
    assert!(queue.items.is_empty());
}

#[test]
fn no_more_objects_are_processed_at_once_than_allowed() {
    let mut queue = WorkQueue::new(2, BACKOFF);
    for key in ["a", "b", "c"] {
        queue.add(key.into(), ms(0));
    }
    assert!(queue.take(ms(0)).is_some());
    assert!(queue.take(ms(0)).is_some());
    assert!(!queue.has_ready(ms(0)));
    assert_eq!(queue.take(ms(0)), None);
    queue.done("a", ms(0));
    assert!(queue.has_ready(ms(0)));
    assert_eq!(queue.take(ms(0)).as_deref(), Some("c"));
}

#[test]
fn an_object_is_handed_out_when_its_time_has_come_and_not_before() {
    let mut queue = queue();
    queue.add_at("a".into(), ms(100));
    assert_eq!(queue.next_at(), Some(ms(100)));
    assert!(!queue.has_ready(ms(99)));
    assert_eq!(queue.take(ms(99)), None);
    assert!(queue.has_ready(ms(100)));
    assert_eq!(queue.take(ms(100)).as_deref(), Some("a"));
    assert_eq!(queue.next_at(), None);
}

#[test]
fn of_two_times_the_earlier_wins() {
    for (first, second) in [(100, 200), (200, 100)] {
        let mut queue = queue();
        queue.add_at("a".into(), ms(first));
        queue.add_at("a".into(), ms(second));
        assert_eq!(queue.next_at(), Some(ms(100)));
        assert!(queue.take(ms(100)).is_some());
        queue.done("a", ms(100));
        assert_eq!(queue.take(ms(300)), None);
    }
}

#[test]
fn adding_an_object_cancels_its_pending_time() {
    let mut queue = queue();
    queue.add_at("a".into(), ms(100));
    queue.add("a".into(), ms(1));
    assert_eq!(queue.take(ms(1)).as_deref(), Some("a"));
    queue.done("a", ms(2));
    assert_eq!(queue.take(ms(100)), None);
}

#[test]
fn a_change_takes_precedence_over_a_requeue() {
    for done_first in [true, false] {
        let mut queue = queue();
        queue.add("a".into(), ms(0));
        queue.take(ms(0)).unwrap();
        queue.add("a".into(), ms(1));
        if done_first {
            queue.done("a", ms(2));
            queue.add_at("a".into(), ms(500));
        } else {
            queue.add_at("a".into(), ms(500));
            queue.done("a", ms(2));
        }
        assert_eq!(queue.take(ms(2)).as_deref(), Some("a"));
        queue.done("a", ms(3));
        assert_eq!(queue.take(ms(1000)), None);
    }
}

#[test]
fn an_object_that_falls_due_while_processing_is_ready_after_done() {
    let mut queue = queue();
    queue.add("a".into(), ms(0));
    queue.take(ms(0)).unwrap();
    queue.add_at("a".into(), ms(10));
    assert_eq!(queue.next_at(), None);
    assert!(!queue.has_ready(ms(20)));
    assert_eq!(queue.take(ms(20)), None);
    queue.done("a", ms(21));
    assert_eq!(queue.take(ms(21)).as_deref(), Some("a"));
}

#[test]
fn objects_that_fell_due_earlier_take_precedence() {
    let mut queue = queue();
    queue.add_at("due".into(), ms(5));
    queue.add("new".into(), ms(6));
    assert_eq!(queue.take(ms(6)).as_deref(), Some("due"));
    assert_eq!(queue.take(ms(6)).as_deref(), Some("new"));
}

#[test]
fn backoff_doubles_up_to_its_maximum_and_resets_after_success() {
    let mut queue = queue();
    let mut now = ms(0);
    let mut delays = Vec::new();
    for _ in 0..25 {
        let delay = queue.retry("a".into(), now);
        now += delay;
        assert_eq!(queue.next_at(), Some(now));
        queue.take(now).unwrap();
        queue.done("a", now);
        delays.push(delay);
    }
    assert_eq!(delays[..4], [ms(5), ms(10), ms(20), ms(40)]);
    assert_eq!(delays[24], BACKOFF.max);
    assert!(delays.is_sorted());
    queue.forget("a");
    assert_eq!(queue.retry("a".into(), now), ms(5));
    assert_eq!(BACKOFF.delay(u32::MAX), BACKOFF.max);
}

#[test]
fn a_removed_object_is_neither_ready_nor_pending_and_its_processing_goes_on() {
    let mut queue = queue();
    queue.retry("a".into(), ms(0));
    queue.add("b".into(), ms(0));
    queue.add("c".into(), ms(0));
    for key in ["a", "b", "never seen"] {
        queue.remove(key);
    }
    assert_eq!(queue.take(ms(9_999)).as_deref(), Some("c"));
    assert_eq!(queue.take(ms(9_999)), None);
    queue.add("c".into(), ms(0));
    queue.remove("c");
    assert_eq!(queue.processing(), 1);
    queue.done("c", ms(0));
    assert!(queue.is_empty() && queue.items.is_empty());
}

#[test]
fn an_object_with_a_debounce_is_ready_when_it_has_not_been_added_for_that_long() {
    let mut queue = queue();
    queue.set_debounce(ms(100));
    queue.add("a".into(), ms(0));
    queue.add("a".into(), ms(60));
    assert_eq!((queue.take(ms(159)), queue.next_at()), (None, Some(ms(160))));
    assert_eq!(queue.take(ms(160)).as_deref(), Some("a"));
    queue.add("a".into(), ms(170));
    queue.done("a", ms(180));
    assert_eq!(queue.take(ms(269)), None);
    assert_eq!(queue.take(ms(270)).as_deref(), Some("a"));
    queue.done("a", ms(270));
    // A change delays a retry that was due sooner, as in kube-rs.
    queue.add_at("a".into(), ms(300));
    queue.add("a".into(), ms(280));
    assert_eq!((queue.take(ms(379)), queue.take(ms(380)).as_deref()), (None, Some("a")));
}

#[test]
fn done_without_processing_changes_nothing() {
    let mut queue = queue();
    queue.done("never seen", ms(0));
    queue.add("a".into(), ms(0));
    queue.done("a", ms(0));
    assert_eq!((queue.processing(), queue.len()), (0, 1));
}

#[test]
fn objects_in_processing_are_exported_as_ready_and_first() {
    let mut queue = queue();
    for key in ["ready", "worked on"] {
        queue.add(key.into(), ms(0));
    }
    queue.retry("failed".into(), ms(0));
    queue.add("worked on first".into(), ms(0));
    queue.take(ms(0)).unwrap();
    let saved = queue.export(ms(2));
    let item = |key: &str, wait, failures| SavedItem { key: key.into(), wait, failures, marks: 0 };
    assert_eq!(
        saved.items,
        [
            item("ready", Wait::Ready, 0),
            item("worked on", Wait::Ready, 0),
            item("worked on first", Wait::Ready, 0),
            item("failed", Wait::Nanoseconds(3_000_000), 1),
        ]
    );
    let json = serde_json::to_string(&saved).unwrap();
    assert_eq!(serde_json::from_str::<SavedQueue>(&json).unwrap(), saved);

    let mut restored = WorkQueue::new(0, BACKOFF);
    restored.import(saved, ms(1_000), ms(0));
    assert_eq!(restored.next_at(), Some(ms(1_003)));
    assert_eq!(restored.failures("failed"), 1);
    assert_eq!(restored.len(), 4);
}

#[test]
fn time_between_export_and_import_counts_wherever_the_clock_stands() {
    let mut queue = queue();
    queue.add_at("late".into(), ms(100));
    queue.add_at("early".into(), ms(50));
    queue.add_at("later".into(), ms(1_000));
    queue.add("ready".into(), ms(0));
    let saved = queue.export(ms(10));
    for now in [0, 1, 500, 50_000, 1 << 40] {
        let now = ms(now);
        for (elapsed, ready, next) in [
            (0, vec!["ready"], Some(40)),
            (39, vec!["ready"], Some(1)),
            (41, vec!["ready", "early"], Some(49)),
            (200, vec!["ready", "early", "late"], Some(790)),
            (1 << 50, vec!["ready", "early", "late", "later"], None),
        ] {
            let mut restored = WorkQueue::new(0, BACKOFF);
            restored.import(saved.clone(), now, ms(elapsed));
            let next = next.map(|ms_left| now + ms(ms_left));
            assert_eq!(restored.next_at(), next, "at {now:?}, {elapsed} ms later");
            let taken: Vec<Key> = std::iter::from_fn(|| restored.take(now)).collect();
            assert_eq!(taken.iter().map(|key| &**key).collect::<Vec<_>>(), ready, "at {now:?}, {elapsed} ms later");
        }
    }
}

#[test]
fn an_emptied_queue_is_as_small_as_a_new_one() {
    assert!(size_of::<WorkQueue>() < 200, "{}", size_of::<WorkQueue>());
    let mut queue = queue();
    for n in 0..1000 {
        queue.add(n.to_string().into(), ms(0));
    }
    while let Some(key) = queue.take(ms(0)) {
        queue.done(&key, ms(0));
    }
    assert_eq!(queue.ready.capacity(), 0);
    assert!(queue.items.is_empty());
}

#[test]
fn a_name_is_unknown_until_its_object_comes_or_nothing_is_left_to_remember() {
    let mut queue = queue();
    queue.add("watched".into(), ms(0));
    for name in ["watched", "ns/a", "ns/a", "b"] {
        queue.add_unknown(name.into(), ms(0));
    }
    assert_eq!(queue.unknown(), (2, 5), "a watched key is not counted, and an unknown name counts once");
    while queue.take(ms(0)).is_some() {}
    queue.retry("ns/a".into(), ms(0));
    for name in ["watched", "ns/a", "b"] {
        queue.done(name, ms(0));
    }
    assert_eq!(queue.unknown(), (1, 4), "one waits for its backoff");
    queue.retry_now(ms(0));
    assert_eq!(queue.unknown(), (1, 4));
    queue.add("ns/a".into(), ms(0));
    assert_eq!(queue.unknown(), (0, 0), "there is an object now");
}

#[test]
fn marks_of_a_saved_item_are_read_where_earlier_hosts_wrote_a_bool() {
    #[derive(Serialize)]
    struct Earlier {
        key: Key,
        wait: Wait,
        failures: u32,
        again: bool,
    }
    for again in [false, true] {
        let earlier = Earlier { key: "a".into(), wait: Wait::Ready, failures: 3, again };
        let item: SavedItem = postcard::from_bytes(&postcard::to_stdvec(&earlier).unwrap()).unwrap();
        let marks = if again { SavedItem::AGAIN } else { 0 };
        assert_eq!(item, SavedItem { key: "a".into(), wait: Wait::Ready, failures: 3, marks });
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8),
    AddUnknown(u8),
    AddIn(u8, u64),
    Take,
    /// For the nth key in processing.
    Done(usize),
    Fail(usize),
    Succeed(usize),
    Drop(u8),
    Pass(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..6_u8;
    prop_oneof![
        4 => key.clone().prop_map(Op::Add),
        2 => key.clone().prop_map(Op::AddUnknown),
        3 => (key.clone(), 0..2_000_u64).prop_map(|(key, after)| Op::AddIn(key, after)),
        5 => Just(Op::Take),
        3 => any::<usize>().prop_map(Op::Done),
        2 => any::<usize>().prop_map(Op::Fail),
        2 => any::<usize>().prop_map(Op::Succeed),
        1 => key.prop_map(Op::Drop),
        3 => (0..500_u64).prop_map(Op::Pass),
        1 => Just(Op::Restart),
    ]
}

/// The specification, without a queue: the time from which each key is owed a reconcile.
#[derive(Default)]
struct Owed(BTreeMap<Key, Duration>);

impl Owed {
    fn at(&mut self, key: &str, at: Duration) {
        let owed = self.0.entry(key.into()).or_insert(at);
        *owed = at.min(*owed);
    }
}

fn key(n: u8) -> Key {
    format!("ns/{n}").into()
}

fn nth(processing: &BTreeSet<Key>, n: usize) -> Option<Key> {
    let n = n.checked_rem(processing.len())?;
    processing.iter().nth(n).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_is_processed_twice_at_once_and_nothing_owed_is_lost(
        limit in 0..4_u32,
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut queue = WorkQueue::new(limit, BACKOFF);
        let mut now = ms(0);
        let mut processing = BTreeSet::new();
        let mut owed = Owed::default();
        let mut unknown = BTreeSet::new();
        for op in ops {
            match op {
                Op::Add(n) => {
                    queue.add(key(n), now);
                    owed.at(&key(n), now);
                    unknown.remove(&key(n));
                }
                Op::AddUnknown(n) => {
                    if !queue.contains(&key(n)) {
                        unknown.insert(key(n));
                    }
                    queue.add_unknown(key(n), now);
                    owed.at(&key(n), now);
                }
                Op::AddIn(n, after) => {
                    queue.add_at(key(n), now + ms(after));
                    owed.at(&key(n), now + ms(after));
                }
                Op::Take => {
                    let ready = queue.has_ready(now);
                    let taken = queue.take(now);
                    prop_assert_eq!(ready, taken.is_some());
                    let due = |(key, at): (&Key, &Duration)| *at <= now && !processing.contains(key);
                    let free = limit == 0 || processing.len() < limit as usize;
                    prop_assert_eq!(taken.is_some(), free && owed.0.iter().any(due));
                    if let Some(taken) = taken {
                        prop_assert!(owed.0.remove(&taken).is_some_and(|at| at <= now), "{} was not owed", taken);
                        prop_assert!(processing.insert(taken));
                    }
                }
                Op::Done(n) => if let Some(key) = nth(&processing, n) {
                    queue.done(&key, now);
                    processing.remove(&key);
                },
                Op::Fail(n) => if let Some(key) = nth(&processing, n) {
                    let before = queue.failures(&key);
                    let delay = queue.retry(key.clone(), now);
                    prop_assert_eq!(delay, BACKOFF.delay(before + 1));
                    owed.at(&key, now + delay);
                    queue.done(&key, now);
                    processing.remove(&key);
                },
                Op::Succeed(n) => if let Some(key) = nth(&processing, n) {
                    queue.forget(&key);
                    queue.done(&key, now);
                    prop_assert_eq!(queue.failures(&key), 0);
                    processing.remove(&key);
                },
                Op::Drop(n) => {
                    let key = key(n);
                    queue.remove(&key);
                    prop_assert_eq!(queue.failures(&key), 0);
                    owed.0.remove(&key);
                }
                Op::Pass(by) => now += ms(by),
                Op::Restart => {
                    let saved = queue.export(now);
                    queue = WorkQueue::new(limit, BACKOFF);
                    // Another process has a different time origin.
                    let later = now + ms(12_345);
                    queue.import(saved, later, ms(0));
                    for at in owed.0.values_mut() {
                        *at += ms(12_345);
                    }
                    now = later;
                    for key in std::mem::take(&mut processing) {
                        owed.at(&key, now);
                    }
                }
            }
            prop_assert_eq!(queue.processing(), processing.len());
            unknown.retain(|key| queue.contains(key));
            prop_assert_eq!(queue.unknown(), (unknown.len(), unknown.iter().map(|key| key.len()).sum()));
            if limit == 0 || processing.len() < limit as usize {
                let next = owed.0.iter().filter(|(key, at)| !processing.contains(*key) && **at > now).map(|(_, at)| *at).min();
                if !queue.has_ready(now) {
                    prop_assert_eq!(queue.next_at(), next);
                }
            }
        }
        // Finally everything owed is handed out.
        for key in std::mem::take(&mut processing) {
            queue.done(&key, now);
        }
        now += Duration::from_secs(2_000);
        let mut handed_out = BTreeSet::new();
        while let Some(key) = queue.take(now) {
            queue.done(&key, now);
            handed_out.insert(key);
        }
        prop_assert_eq!(handed_out, owed.0.into_keys().collect::<BTreeSet<_>>());
        prop_assert!(queue.is_empty());
        // A handful still remember failures.
        unknown.retain(|key| queue.contains(key));
        prop_assert_eq!(queue.unknown().0, unknown.len());
    }

    #[test]
    fn export_and_import_keep_everything(ops in proptest::collection::vec(op(), 1..60)) {
        let mut queue = WorkQueue::new(0, BACKOFF);
        let mut now = ms(0);
        for op in ops {
            match op {
                Op::Add(n) => queue.add(key(n), now),
                Op::AddUnknown(n) => queue.add_unknown(key(n), now),
                Op::AddIn(n, after) => queue.add_at(key(n), now + ms(after)),
                Op::Take => { queue.take(now); }
                Op::Fail(n) => { queue.retry(key((n % 6) as u8), now); }
                Op::Pass(by) => now += ms(by),
                _ => {}
            }
        }
        let saved = queue.export(now);
        let mut restored = WorkQueue::new(0, BACKOFF);
        restored.import(saved.clone(), ms(77), ms(0));
        prop_assert_eq!(restored.export(ms(77)), saved);
        prop_assert_eq!(restored.unknown(), queue.unknown());
    }
}

#[test]
fn an_object_is_ready_since_it_was_added_or_fell_due_or_its_last_work_ended() {
    let mut queue = queue();
    assert_eq!(queue.ready_since(ms(0)), None);
    queue.add("a".into(), ms(1));
    queue.add_at("b".into(), ms(3));
    queue.add("a".into(), ms(2));
    let mut taken = Vec::new();
    while let Some(since) = queue.ready_since(ms(9)) {
        taken.push((queue.take(ms(9)).unwrap(), since));
    }
    assert_eq!(taken, [("a".into(), ms(1)), ("b".into(), ms(3))]);
    queue.add("a".into(), ms(10));
    assert_eq!(queue.ready_since(ms(10)), None, "it is being processed");
    queue.done("a", ms(11));
    assert_eq!(queue.ready_since(ms(12)), Some(ms(11)));
}
