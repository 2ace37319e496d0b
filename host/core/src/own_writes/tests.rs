use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::work_queue::{Backoff, WorkQueue};

const NOW: Duration = Duration::ZERO;

fn own_writes() -> OwnWrites {
    OwnWrites::of(&[Resource { group: "".into(), plural: "configmaps".into() }].into()).unwrap()
}

fn allowed(verb: &'static str, resource: &str) -> Allowed {
    Allowed {
        verb,
        group: String::new(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: String::new(),
        namespace: Some("a".into()),
        name: Some("a".into()),
    }
}

fn object(name: &str) -> Object {
    (RegistrationId(0), name.into())
}

fn meta(uid: &str, version: u64) -> ObjectMetaLite {
    ObjectMetaLite {
        resource_version: ResourceVersion(version),
        generation: 0,
        uid: hash(uid),
        deleting: false,
        owners: Arc::new([]),
    }
}

fn body(version: &str) -> Vec<u8> {
    format!(r#"{{"metadata":{{"name":"a","uid":"u","resourceVersion":"{version}"}}}}"#).into_bytes()
}

fn answer(own: &mut OwnWrites, call: u64, status: u16, version: u64) -> Option<Settled> {
    own.on_reply(call, &Reply::Head { status, headers: String::new() });
    own.on_reply(call, &Reply::Body(body(&version.to_string()).into()));
    own.on_reply(call, &Reply::End)
}

#[test]
fn only_proven_changes_are_own() {
    // Request, body, status and version of the answer; then a change, and the object it concerns.
    let change = |from, to| (Some(from), to);
    for (verb, resource, sent, status, to, (from, seen), concerned, expected) in [
        ("update", "configmaps", "5", 200, 6, change(5, 6), "a/a", Verdict::Own),
        ("patch", "configmaps", "5", 200, 6, change(5, 6), "a/a", Verdict::Own),
        ("create", "configmaps", "", 201, 6, (None, 6), "a/a", Verdict::Own),
        // Another object, in a reconcile of this one.
        ("update", "configmaps", "5", 200, 6, change(5, 6), "a/b", Verdict::Other),
        ("update", "secrets", "5", 200, 6, change(5, 6), "a/a", Verdict::Other),
        // No version, or any version.
        ("patch", "configmaps", "", 200, 6, change(5, 6), "a/a", Verdict::Other),
        ("update", "configmaps", "0", 200, 6, change(5, 6), "a/a", Verdict::Other),
        // Rejected, without effect, or another version.
        ("update", "configmaps", "5", 409, 6, change(5, 6), "a/a", Verdict::Other),
        ("update", "configmaps", "5", 200, 5, change(4, 5), "a/a", Verdict::Other),
        ("create", "configmaps", "", 200, 6, (None, 6), "a/a", Verdict::Other),
        ("delete", "configmaps", "5", 200, 6, change(5, 6), "a/a", Verdict::Other),
        // Skipped versions, or another object's change.
        ("update", "configmaps", "5", 200, 6, change(4, 6), "a/a", Verdict::Other),
        ("update", "configmaps", "5", 200, 6, change(5, 7), "a/a", Verdict::Other),
        ("update", "configmaps", "5", 200, 6, (None, 6), "a/a", Verdict::Other),
    ] {
        let mut own = own_writes();
        own.sent(1, &allowed(verb, resource), Some(object("a/a")), &body(sent));
        assert_eq!(answer(&mut own, 1, status, to), None);
        let old = from.map(|from| meta("u", from));
        let verdict = own.judge(&object(concerned), old.as_ref(), &meta("u", seen));
        assert_eq!(verdict, expected, "{verb} {resource} of {sent:?}, {status}, {from:?} to {seen} for {concerned}");
        assert_eq!(own.judge(&object(concerned), old.as_ref(), &meta("another", seen)), Verdict::Other);
    }
}

#[test]
fn a_write_outside_of_a_reconcile_or_without_json_proves_nothing() {
    let mut own = own_writes();
    own.sent(1, &allowed("update", "configmaps"), None, &body("5"));
    own.sent(2, &allowed("update", "configmaps"), Some(object("a/a")), b"apiVersion: v1");
    own.sent(3, &allowed("update", "configmaps"), Some(object("a/a")), &body("7"));
    own.on_reply(3, &Reply::Head { status: 200, headers: String::new() });
    own.on_reply(3, &Reply::Body(Bytes::from_static(b"{\"metadata\":")));
    for (call, from) in [(1, 5), (2, 5), (3, 7)] {
        own.on_reply(call, &Reply::End);
        let verdict = own.judge(&object("a/a"), Some(&meta("u", from)), &meta("u", from + 1));
        assert_eq!(verdict, Verdict::Other, "call {call}");
    }
    assert!(own.under_way.is_empty() && own.written.is_empty());
}

#[test]
fn a_change_before_the_answer_is_settled_by_the_answer() {
    let by = object("a/a");
    let (old, new) = (meta("u", 5), meta("u", 6));
    let held = |calls: &[u64]| {
        let mut own = own_writes();
        for call in calls {
            own.sent(*call, &allowed("update", "configmaps"), Some(by.clone()), &body("5"));
        }
        assert_eq!(own.judge(&by, Some(&old), &new), Verdict::Maybe);
        own.hold(&by, Some(&old), &new);
        own
    };
    assert_eq!(answer(&mut held(&[1]), 1, 200, 6), Some(Settled::Own(by.clone())));
    assert_eq!(answer(&mut held(&[1]), 1, 409, 6), Some(Settled::Other(by.clone())));
    assert_eq!(held(&[1]).failed(1), Some(Settled::Other(by.clone())));
    assert_eq!(held(&[1]).on_reply(1, &Reply::TooLarge), Some(Settled::Other(by.clone())));
    // Another one may still match.
    let mut two = held(&[1, 2]);
    assert_eq!(answer(&mut two, 1, 409, 6), None);
    assert_eq!(answer(&mut two, 2, 200, 6), Some(Settled::Own(by.clone())));
    assert!(two.held.is_empty());
    // Without a matching call there is nothing to wait for.
    assert_eq!(two.judge(&by, Some(&meta("u", 8)), &meta("u", 9)), Verdict::Other);
}

#[test]
fn memory_is_bounded() {
    let mut own = own_writes();
    for n in 1..=1000 {
        own.sent(n, &allowed("update", "configmaps"), Some(object("a/a")), &body(&n.to_string()));
        answer(&mut own, n, 200, n + 1);
    }
    assert_eq!(own.written.len(), MAX_WRITTEN);
    assert_eq!(own.judge(&object("a/a"), Some(&meta("u", 1000)), &meta("u", 1001)), Verdict::Own);
    assert_eq!(own.judge(&object("a/a"), Some(&meta("u", 1)), &meta("u", 2)), Verdict::Other);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Someone else changes the object.
    Foreign,
    /// The controller sends a write, with the version it has read or none.
    Send {
        names_version: bool,
    },
    /// The API server accepts it. A write without a version may change nothing.
    Take {
        which: usize,
        changes: bool,
    },
    Answer {
        which: usize,
    },
    Lose {
        which: usize,
    },
    /// The watch delivers the next change, or skips to the current state.
    Watch {
        skips: bool,
    },
    Begin,
    End,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => Just(Op::Foreign),
        4 => any::<bool>().prop_map(|names_version| Op::Send { names_version }),
        4 => (0..3_usize, any::<bool>()).prop_map(|(which, changes)| Op::Take { which, changes }),
        4 => (0..3_usize).prop_map(|which| Op::Answer { which }),
        1 => (0..3_usize).prop_map(|which| Op::Lose { which }),
        5 => prop::bool::weighted(0.1).prop_map(|skips| Op::Watch { skips }),
        3 => Just(Op::Begin),
        2 => Just(Op::End),
    ];
    prop::collection::vec(op, 1..120)
}

/// An object, a controller, an API server and the watch between them.
struct World {
    own: OwnWrites,
    queue: WorkQueue,
    /// On the API server.
    version: u64,
    /// In the index.
    watched: u64,
    calls: BTreeMap<u64, Call>,
    next: u64,
    /// The version that the current reconcile read at its start.
    read: Option<u64>,
    /// The same for the last reconcile that began.
    last_read: u64,
    last_foreign: u64,
    reconciles: u64,
}

struct Call {
    from: Option<u64>,
    answer: Option<(u16, u64)>,
}

impl World {
    fn new() -> World {
        let mut queue = WorkQueue::new(0, Backoff::default());
        queue.add("a/a".into(), NOW);
        World {
            own: own_writes(),
            queue,
            version: 1,
            watched: 1,
            calls: BTreeMap::new(),
            next: 1,
            read: None,
            last_read: 0,
            last_foreign: 1,
            reconciles: 0,
        }
    }

    fn nth(&self, which: usize, answered: bool) -> Option<u64> {
        self.calls.iter().filter(|(_, call)| call.answer.is_some() == answered).map(|(id, _)| *id).nth(which)
    }

    fn settle(&mut self, settled: Option<Settled>) {
        match settled {
            Some(Settled::Own(_)) => {
                self.queue.take_back("a/a");
            }
            Some(Settled::Other(_)) => self.queue.keep_held("a/a"),
            None => {}
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Foreign => {
                self.version += 1;
                self.last_foreign = self.version;
            }
            Op::Send { names_version } => {
                let Some(read) = self.read else { return };
                // The version it knows: read, or answered to an own write since.
                let from = names_version.then_some(read);
                let text = from.map_or(String::new(), |from| from.to_string());
                self.own.sent(self.next, &allowed("update", "configmaps"), Some(object("a/a")), &body(&text));
                self.calls.insert(self.next, Call { from, answer: None });
                self.next += 1;
            }
            Op::Take { which, changes } => {
                let Some(id) = self.nth(which, false) else { return };
                let call = self.calls.get_mut(&id).unwrap();
                call.answer = Some(match call.from {
                    Some(from) if from != self.version => (409, 0),
                    _ => {
                        self.version += u64::from(changes);
                        (200, self.version)
                    }
                });
            }
            Op::Answer { which } => {
                let Some(id) = self.nth(which, true) else { return };
                let (status, version) = self.calls.remove(&id).unwrap().answer.unwrap();
                let settled = answer(&mut self.own, id, status, version);
                self.settle(settled);
                if status == 200 {
                    self.read = self.read.map(|_| version);
                }
            }
            Op::Lose { which } => {
                let Some(id) = self.nth(which, false) else { return };
                // It may still be accepted, unnoticed.
                self.calls.remove(&id);
                let settled = self.own.failed(id);
                self.settle(settled);
            }
            Op::Watch { skips } => {
                if self.watched == self.version {
                    return;
                }
                let (old, new) = (self.watched, if skips { self.version } else { self.watched + 1 });
                self.watched = new;
                let (by, old, new) = (object("a/a"), meta("u", old), meta("u", new));
                match self.own.judge(&by, Some(&old), &new) {
                    Verdict::Own => {}
                    Verdict::Maybe if self.queue.add_held("a/a".into(), NOW) => self.own.hold(&by, Some(&old), &new),
                    Verdict::Maybe => {}
                    Verdict::Other => self.queue.add("a/a".into(), NOW),
                }
            }
            Op::Begin => {
                if self.read.is_none() && self.queue.take(NOW).is_some() {
                    (self.read, self.last_read) = (Some(self.version), self.version);
                    self.reconciles += 1;
                }
            }
            Op::End => {
                if self.read.take().is_some() {
                    self.queue.done("a/a", NOW);
                }
            }
        }
    }

    /// Runs until nothing is left to do.
    fn settle_all(&mut self) {
        for _ in 0..1000 {
            for op in [Op::Watch { skips: false }, Op::Take { which: 0, changes: false }, Op::Answer { which: 0 }] {
                self.run(op);
            }
            self.run(Op::End);
            self.run(Op::Begin);
        }
        assert!(self.watched == self.version && self.calls.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A reconcile begins after every foreign change.
    #[test]
    fn no_foreign_change_is_ignored(ops in ops()) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.settle_all();
        prop_assert!(world.last_read >= world.last_foreign, "read {}, foreign {}", world.last_read, world.last_foreign);
    }

    /// Without foreign changes there is one reconcile, for any number of writes and any order of answers and changes.
    #[test]
    fn own_writes_cause_no_reconcile(ops in prop::collection::vec(any::<bool>(), 1..40)) {
        let mut world = World::new();
        world.run(Op::Begin);
        for watch_first in ops {
            world.run(Op::Send { names_version: true });
            world.run(Op::Take { which: 0, changes: true });
            let order = [Op::Watch { skips: false }, Op::Answer { which: 0 }];
            for n in [usize::from(!watch_first), usize::from(watch_first)] {
                world.run(order[n]);
            }
        }
        world.settle_all();
        prop_assert_eq!(world.reconciles, 1);
    }
}
