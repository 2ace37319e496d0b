use super::*;

const MIB: u64 = 1 << 20;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn object(name: &str) -> Object {
    (RegistrationId(0), name.into())
}

fn memory(mebibytes: u64) -> MemoryUse {
    MemoryUse::new(mebibytes * MIB, 2 * MIB, 64 * MIB, false)
}

/// An event at some second.
enum At {
    /// A step fails on this object.
    Fails(u64, &'static str),
    /// A step runs out of memory on this object, with this many MiB in use before.
    OutOfMemory(u64, &'static str, u64),
    Ends(&'static str),
    /// A map function answers. A failing one is an object without a name.
    Maps,
    /// This many objects are available for a check.
    Finds(usize),
    Restarts(u64),
}

use At::{Ends, Fails, Finds, Maps, OutOfMemory, Restarts};

/// Description, reconciles in progress, events, and verdicts.
type Row = (&'static str, usize, Vec<At>, Vec<(usize, Verdict)>);

const CHECK: Verdict = Verdict::Check(CHECKED);
const FULL: Verdict = Verdict::Restart(Why::MemoryFull);
const NOTHING: Verdict = Verdict::Restart(Why::NothingSucceeds);

/// Verdicts other than `GoOn`, with the index of the event that led to them.
fn verdicts(liveness: &mut Liveness, active: usize, story: &[At]) -> Vec<(usize, Verdict)> {
    let mut verdicts = Vec::new();
    for (place, event) in story.iter().enumerate() {
        let verdict = match event {
            Fails(at, name) => {
                liveness.failed(object(name), None, secs(*at));
                liveness.judge(active, secs(*at))
            }
            OutOfMemory(at, name, used) => {
                liveness.failed(object(name), Some(memory(*used)), secs(*at));
                liveness.judge(active, secs(*at))
            }
            Ends(name) => {
                liveness.ended(&object(name));
                Verdict::GoOn
            }
            Maps => {
                liveness.mapped(RegistrationId(0));
                Verdict::GoOn
            }
            Finds(objects) => liveness.checks_with(*objects),
            Restarts(at) => {
                liveness.restarted(true, secs(*at));
                Verdict::GoOn
            }
        };
        if verdict != Verdict::GoOn {
            verdicts.push((place, verdict));
        }
    }
    verdicts
}

#[test]
fn an_instance_restarts_when_nothing_succeeds_but_not_if_objects_are_at_fault() {
    let one_fails = |times: u64| (0..times).map(|n| Fails(n * 3, "a")).collect::<Vec<_>>();
    let table: Vec<Row> = vec![
        ("two that fail", 0, vec![Fails(0, "a"), Fails(1, "b"), Fails(2, "a")], vec![]),
        ("three in a row", 0, vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c")], vec![(2, CHECK)]),
        ("while others may yet end", 1, vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c")], vec![]),
        ("and they don't", 1, vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Fails(10, "a")], vec![(3, CHECK)]),
        ("one ends between", 0, vec![Fails(0, "a"), Fails(0, "b"), Ends("x"), Fails(0, "c")], vec![]),
        (
            "those of the check fail as well",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Finds(2), Fails(1, "d"), Fails(1, "a"), Fails(1, "e")],
            vec![(2, CHECK), (6, NOTHING)],
        ),
        (
            "there is one for the check",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Finds(1), Fails(1, "d")],
            vec![(2, CHECK), (4, NOTHING)],
        ),
        (
            "there is none for the check",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Finds(0)],
            vec![(2, CHECK), (3, NOTHING)],
        ),
        (
            "one of the check ends",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Finds(2), Ends("d"), Fails(1, "e"), Fails(1, "a")],
            vec![(2, CHECK)],
        ),
        (
            "those of the check never run",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Fails(0, "c"), Finds(2), Fails(5, "a"), Fails(8, "b"), Fails(10, "c")],
            vec![(2, CHECK), (6, NOTHING)],
        ),
        ("one object, a few times", 0, one_fails(4), vec![]),
        ("one object, again and again", 0, one_fails(8), vec![(4, CHECK)]),
        ("one object, often in a moment", 0, (0..100).map(|_| Fails(0, "a")).collect(), vec![]),
        (
            "a map function that answers between",
            0,
            vec![Fails(0, ""), Fails(3, ""), Fails(6, ""), Fails(9, ""), Maps, Fails(12, "")],
            vec![],
        ),
        (
            "reconciles while a map function answers",
            0,
            vec![Fails(0, "a"), Fails(0, "b"), Maps, Fails(0, "c")],
            vec![(3, CHECK)],
        ),
        (
            "checks are not made all the time",
            0,
            vec![
                Fails(0, "a"),
                Fails(0, "b"),
                Fails(0, "c"),
                Finds(2),
                Ends("d"),
                Fails(9, "a"),
                Fails(9, "b"),
                Fails(9, "c"),
                Fails(10, "a"),
            ],
            vec![(2, CHECK), (8, CHECK)],
        ),
    ];
    for (what, active, story, expected) in table {
        assert_eq!(verdicts(&mut Liveness::default(), active, &story), expected, "{what}");
    }
}

#[test]
fn a_full_memory_is_distinguished_from_steps_that_need_too_much() {
    let by_turns = |n| if n % 2 == 0 { "a" } else { "b" };
    let full = |used, times, at| (0..times).map(move |n| OutOfMemory(at, by_turns(n), used)).collect::<Vec<_>>();
    let single = |times: u64, every| (0..times).map(move |n| OutOfMemory(n * every, "a", 60)).collect::<Vec<_>>();
    let table: Vec<Row> = vec![
        ("full", 0, full(60, 3, 0), vec![(2, FULL)]),
        (
            "others go on",
            0,
            vec![OutOfMemory(0, "a", 60), Ends("b"), OutOfMemory(1, "c", 60), Ends("b"), OutOfMemory(2, "a", 60)],
            vec![(4, FULL)],
        ),
        ("others may give some back", 1, full(60, 9, 0), vec![]),
        ("and do not", 1, full(60, 9, 0).into_iter().chain(full(60, 1, 10)).collect(), vec![(9, FULL)]),
        ("an allocator that doubles its heap", 0, full(33, 3, 0), vec![(2, FULL)]),
        ("little was in use", 0, full(20, 100, 0), vec![]),
        ("a new instance", 0, full(2, 100, 0), vec![]),
        ("one object, often in a moment", 0, single(16, 0), vec![]),
        ("one object, too few times", 0, single(4, 9), vec![]),
        ("one object, again and again", 0, single(5, 8), vec![(4, FULL)]),
        (
            "one object that ends between",
            0,
            single(4, 8).into_iter().chain([Ends("a")]).chain(single(4, 8)).collect(),
            vec![],
        ),
        ("a map function, again and again", 0, (0..5).map(|n| OutOfMemory(n * 8, "", 60)).collect(), vec![(4, FULL)]),
        (
            "a map function that answers between",
            0,
            [0, 8, 16, 24]
                .map(|at| OutOfMemory(at, "", 60))
                .into_iter()
                .chain([Maps, OutOfMemory(32, "", 60)])
                .collect(),
            vec![],
        ),
        (
            "it did with less",
            0,
            full(60, 2, 0).into_iter().chain([Ends("a"), Ends("b")]).chain(full(60, 1, 0)).collect(),
            vec![],
        ),
    ];
    for (what, active, story, expected) in table {
        assert_eq!(verdicts(&mut Liveness::default(), active, &story), expected, "{what}");
    }
}

#[test]
fn a_restart_that_did_not_help_is_repeated_with_backoff() {
    let full = |at| ["a", "c", "a"].map(|name| OutOfMemory(at, name, 60));
    let mut liveness = Liveness::default();
    assert_eq!(verdicts(&mut liveness, 0, &full(0)), [(2, FULL)]);
    verdicts(&mut liveness, 0, &[Restarts(0), Ends("b")]);
    // "a" fails in the new instance, too.
    assert_eq!(verdicts(&mut liveness, 0, &full(59)), []);
    assert_eq!(verdicts(&mut liveness, 0, &full(60)), [(0, FULL), (1, FULL), (2, FULL)]);
    verdicts(&mut liveness, 0, &[Restarts(60)]);
    assert_eq!(verdicts(&mut liveness, 0, &full(179)), []);
    assert!(!verdicts(&mut liveness, 0, &full(180)).is_empty());
    // A restart that helps may be repeated at once.
    verdicts(&mut liveness, 0, &[Restarts(180), Ends("a")]);
    assert_eq!(verdicts(&mut liveness, 0, &full(181)), [(2, FULL)]);
}

#[test]
fn failures_of_an_instance_do_not_count_for_the_next_one() {
    let mut liveness = Liveness::default();
    verdicts(&mut liveness, 0, &[OutOfMemory(0, "a", 60), OutOfMemory(0, "b", 60)]);
    liveness.restarted(false, secs(0));
    assert_eq!(verdicts(&mut liveness, 0, &[OutOfMemory(0, "a", 60), Fails(0, "b")]), []);
    liveness.restarted(false, secs(0));
    assert!(liveness.is_idle());
}

#[test]
fn an_idle_instance_with_nearly_full_memory_restarts_with_backoff() {
    let mut liveness = Liveness::default();
    let big = MemoryUse::new(60 * MIB, 58 * MIB, 64 * MIB, false);
    for (memory, at, begins) in [
        (memory(55), 0, false),
        (memory(56), 0, true),
        (memory(64), 599, false),
        (memory(64), 600, true),
        (memory(64), 600 + 1199, false),
        (memory(64), 600 + 1200, true),
        (memory(1), 1 << 30, false),
        // It starts with this much.
        (big, 1 << 30, false),
        (memory(64), 1 << 30, true),
        (memory(64), (1 << 30) + 4799, false),
    ] {
        assert_eq!(liveness.begins_anew_while_idle(memory, secs(at)), begins, "{memory:?} at {at} s");
    }
}

#[test]
fn limits_of_any_size_are_handled() {
    for (used, base, limit) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (u64::MAX, 0, u64::MAX), (0, u64::MAX, 1)] {
        let memory = MemoryUse { used, base, limit, refused: false };
        assert_eq!(memory.has_grown(), used > base, "{memory:?}");
        assert_eq!(memory.is_nearly_full(), used > base, "{memory:?}");
    }
}

#[test]
fn memory_is_nearly_full_at_the_limit_or_after_a_denied_growth() {
    let gib = |n: u64| n << 30;
    for (used, base, limit, refused, expected) in [
        (56 * MIB, 2 * MIB, 64 * MIB, false, true),
        (55 * MIB, 2 * MIB, 64 * MIB, false, false),
        // An allocator that doubles its heap.
        (33 * MIB, 2 * MIB, 64 * MIB, true, true),
        (33 * MIB, 2 * MIB, 64 * MIB, false, false),
        // One large growth was denied, and it has hardly grown.
        (10 * MIB, 2 * MIB, 64 * MIB, true, false),
        // A limit that no memory can reach.
        (gib(4) - MIB, 2 * MIB, gib(64), false, true),
        (gib(3), 2 * MIB, u64::MAX, false, false),
    ] {
        let memory = MemoryUse::new(used, base, limit, refused);
        assert_eq!(memory.is_nearly_full(), expected, "{memory:?}");
    }
    assert!(MemoryUse::new(gib(2), 2 * MIB, gib(64), false).has_grown());
}

#[test]
fn a_denied_growth_does_not_count_for_the_next_instance() {
    let mut liveness = Liveness::default();
    liveness.refused_memory();
    assert!(liveness.was_refused_memory() && !liveness.is_idle());
    liveness.restarted(false, secs(0));
    assert!(!liveness.was_refused_memory() && liveness.is_idle());
}
