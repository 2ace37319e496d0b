//! When the loop has to be dispatched though nothing happens.

use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

use super::environment::object;
use super::harness::*;

#[test]
fn the_next_wake_is_the_earliest_of_everything_that_is_to_come() {
    let limits =
        Limits { reconcile_timeout_ns: 600_000_000_000, api_requests_per_second: 1, api_burst: 1, ..Limits::NONE };
    for (what, policy, actions, park, expected) in [
        ("nothing", Policy::Never, vec![done(1)], None, None),
        ("a requeue", Policy::Never, vec![requeue(1, secs(30))], None, Some(secs(30))),
        ("a failure", Policy::Never, vec![fails(1)], None, Some(ms(5))),
        ("a timer of the guest", Policy::Never, vec![done(1)], Some(secs(9)), Some(secs(9))),
        ("the earlier of two", Policy::Never, vec![requeue(1, secs(30))], Some(secs(9)), Some(secs(9))),
        ("a reconcile that may take too long", Policy::Never, vec![], None, Some(secs(600))),
        ("its policy", Policy::After(secs(3)), vec![done(1)], None, Some(secs(3))),
        ("a requeue before its policy", Policy::After(secs(30)), vec![requeue(1, secs(3))], None, Some(secs(3))),
        (
            "a request that is throttled",
            Policy::Never,
            vec![done(1), get(1, "/api/v1/pods"), get(2, "/api/v1/pods")],
            None,
            Some(secs(1)),
        ),
        ("a time that never comes", Policy::Never, vec![done(1)], Some(secs(400 * 86_400)), None),
    ] {
        let setup = Setup { limits, policy: Some(policy), ..setup("web") };
        let (mut host, id) = Harness::running_with(setup, &websites());
        host.apply("Website", &object("web/home"));
        assert_eq!(host.begun(id)[0].0, 1);
        host.does(id, Did { park, ..Did::from(actions) });
        assert_eq!(host.control.next_wake(), expected.map(|wait| host.now.host + wait), "{what}");
    }
}

#[test]
fn the_earliest_controller_decides_and_one_with_a_worker_has_no_time() {
    let mut host = Harness::new();
    let ids = ["a", "b", "c"].map(|name| host.add(setup(name)));
    host.start();
    for id in ids {
        host.does(id, vec![register(&websites())]);
    }
    host.list_new();
    let begun = host.now.host;
    host.apply("Website", &object("web/home"));
    for (id, after) in ids.into_iter().zip([30, 10, 20]) {
        let task = host.begun(id)[0].0;
        host.does(id, vec![requeue(task, secs(after))]);
    }
    for (at, id) in [(10, ids[1]), (20, ids[2]), (30, ids[0])] {
        assert_eq!(host.control.next_wake(), Some(begun + secs(at)));
        host.now.host = begun + secs(at);
        host.dispatch();
        assert!(host.is_stepping(id), "{at} s");
    }
    assert_eq!(host.control.next_wake(), None);
}

#[test]
fn controllers_that_are_due_together_are_all_stepped() {
    let mut host = Harness::new();
    let ids = ["a", "b", "c"].map(|name| host.add(setup(name)));
    host.start();
    for id in ids {
        host.does(id, vec![register(&websites())]);
    }
    host.list_new();
    host.apply("Website", &object("web/home"));
    for id in ids {
        let task = host.begun(id)[0].0;
        host.does(id, vec![requeue(task, secs(10))]);
    }
    host.advance(secs(1000));
    assert!(ids.into_iter().all(|id| host.is_stepping(id)));
}
