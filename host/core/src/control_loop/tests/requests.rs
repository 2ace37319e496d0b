//! Calls of guests: permitted, throttled, sent, answered.

use bytes::Bytes;
use wasmop_package::manifest::{Limits, Mode};

use super::super::{Credit, HostEffect};
use super::super::{Destination, HostEvent, LoopOptions, RESPONSE_CREDIT_BYTES, SlotId};
use super::environment::object;
use super::harness::*;
use crate::permissions::learn::Learning;
use crate::reply::Reply;
use crate::step::{EventKind, Lost};

const HOME: &str = "/apis/demo.dev/v1/namespaces/web/websites/home";
const LOGS: &str = "/api/v1/namespaces/web/pods/p/log?follow=true";
const WATCH: &str = "/apis/demo.dev/v1/websites?watch=true";

fn limited(limits: Limits) -> Setup {
    Setup { limits, ..setup("web") }
}

/// What the guest hears of its calls in the step that is under way: kind, call and HTTP status.
fn answers(host: &Harness, id: SlotId) -> Vec<(EventKind, u64, u32)> {
    host.events(id).iter().map(|event| (event.kind, event.id, event.aux)).collect()
}

fn payload(host: &Harness, id: SlotId) -> String {
    host.events(id).iter().map(|event| String::from_utf8_lossy(&event.payload)).collect()
}

#[test]
fn a_request_that_is_not_permitted_is_answered_by_the_host() {
    let read = || vec![rule("demo.dev", "websites", &["get", "list", "watch"])];
    for (what, action, sent, answer) in [
        ("a read that is permitted", get(7, HOME), true, ""),
        ("a write that is not", call(7, 0, "DELETE", HOME), false, "no permission to delete websites.demo.dev"),
        ("another resource", get(7, "/api/v1/namespaces/web/secrets/s"), false, "no permission to get secrets"),
        ("a path with two meanings", get(7, "/apis/demo.dev/v1//websites"), false, "request refused"),
        ("a URL that is no resource", get(7, "/metrics"), false, "no permission to get the URL /metrics"),
    ] {
        let (mut host, id) = Harness::calling(Setup { rules: read(), ..setup("web") }, vec![action]);
        assert_eq!(host.sent(), if sent { vec![7] } else { vec![] }, "{what}");
        if !sent {
            let head = [(EventKind::Head, 7, 403), (EventKind::Body, 7, 0), (EventKind::End, 7, 0)];
            assert_eq!(answers(&host, id), head, "{what}");
            let status = payload(&host, id);
            assert!(status.contains(answer) && status.contains("\"reason\":\"Forbidden\""), "{what}: {status}");
        }
    }
}

#[test]
fn an_external_host_that_is_not_permitted_fails_without_a_response() {
    for (what, external, target, sent, answer) in [
        ("asked for", vec!["https://example.com"], "https://example.com", true, ""),
        ("another host", vec!["https://example.com"], "https://example.org", false, "no permission to contact"),
        ("none is asked for", vec![], "https://example.com", false, "no permission to contact"),
        ("no target", vec![], "??", false, "wasmop: "),
    ] {
        let (mut host, id) = Harness::calling(Setup { external, ..setup("web") }, vec![contact(7, target)]);
        let sends = host.sends();
        assert_eq!(sends.len(), usize::from(sent), "{what}");
        match sends.first() {
            Some(send) => assert!(matches!(send.destination, Destination::External(_)) && !send.is_stream, "{what}"),
            None => {
                assert_eq!(answers(&host, id), [(EventKind::Failed, 7, 0)], "{what}");
                assert!(payload(&host, id).contains(answer), "{what}: {}", payload(&host, id));
            }
        }
    }
}

#[test]
fn while_permissions_are_learnt_every_request_is_sent() {
    let mut host = Harness::with(LoopOptions { learning: Some(Learning::default()), ..LoopOptions::default() });
    let id = host.add(Setup { rules: Vec::new(), ..setup("web") });
    host.start();
    host.does(id, vec![register(&websites()), get(1, HOME), contact(2, "https://example.com")]);
    assert_eq!(host.sent(), [1, 2]);
}

#[test]
fn a_request_says_what_the_shell_needs_to_make_it() {
    let limits = Limits { response_bytes: 1234, ..Limits::NONE };
    let (mut host, id) = Harness::calling(limited(limits), vec![get(1, HOME), get(2, LOGS), get(3, WATCH)]);
    let sends = host.sends();
    let streams: Vec<bool> = sends.iter().map(|send| send.is_stream).collect();
    assert_eq!(streams, [false, true, true]);
    assert!(sends.iter().all(|send| send.slot == id && send.max_bytes == 1234 && send.fence.is_none()));
    assert_eq!((&*sends[0].method, &*sends[0].path), ("GET", HOME));
    assert_eq!(host.observe(id).requests, 3);
    assert!(sends.iter().all(|send| !send.keeps_up));
}

#[test]
fn watches_of_an_unmodified_program_are_kept_up_and_a_guest_driven_one_is_ready_without_registering() {
    for mode in [Mode::GuestDriven, Mode::HostDriven] {
        let mut host = Harness::new();
        let id = host.add(Setup { mode, has_kept_up_watches: true, ..setup("web") });
        host.start();
        host.does(id, vec![get(1, HOME), get(2, WATCH)]);
        let kept: Vec<bool> = host.sends().iter().map(|send| send.keeps_up).collect();
        assert_eq!(kept, [false, true]);
        assert_eq!(host.observe(id).registered, mode == Mode::GuestDriven);
    }
}

// --- limits

#[test]
fn requests_above_the_rate_wait_until_there_is_room() {
    let limits = Limits { api_requests_per_second: 10, api_burst: 2, ..Limits::NONE };
    let (mut host, id) = Harness::calling(limited(limits), (1..=5).map(|call| get(call, HOME)).collect());
    assert_eq!(host.sent(), [1, 2]);
    assert_eq!(host.reasons(), ["RequestRateLimited"]);
    assert_eq!(host.limit_hits(id), [("api-rate", 1)]);
    for expected in [3, 4, 5] {
        assert_eq!(host.control.next_wake(), Some(host.now.host + ms(100)));
        host.advance(ms(99));
        assert!(host.sent().is_empty());
        host.advance(ms(1));
        assert_eq!(host.sent(), [expected]);
    }
    assert_eq!(host.control.next_wake(), None);
    let throttled: Vec<f64> = host.observe(id).counters.trouble().unwrap().throttled().map(|(_, time)| time).collect();
    assert!((0.29..0.31).contains(&throttled[0]), "{throttled:?}");
}

#[test]
fn requests_beyond_those_in_flight_wait_for_answers_and_nobody_is_told() {
    let limits = Limits { api_in_flight: 2, ..Limits::NONE };
    let (mut host, id) = Harness::calling(limited(limits), (1..=4).map(|call| get(call, HOME)).collect());
    let sends = host.sends();
    assert_eq!(sends.iter().map(|send| send.call).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((host.reasons(), host.limit_hits(id)), (vec![], vec![("api-in-flight", 1)]));
    assert_eq!(host.control.next_wake(), None, "time alone does not help");
    host.respond(&sends[0], 200, "{}");
    assert_eq!(host.sent(), [3]);
    host.reply(&sends[1], vec![Reply::Failed("reset".into())]);
    assert_eq!(host.sent(), [4]);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_keep_no_other_request_waiting() {
    let limits = Limits { api_in_flight: 1, ..Limits::NONE };
    let (mut host, id) =
        Harness::calling(limited(limits), vec![get(1, WATCH), get(2, LOGS), get(3, HOME), get(4, WATCH)]);
    assert_eq!(host.sent(), [1, 3]);
    assert_eq!(answers(&host, id), [(EventKind::Failed, 2, 0), (EventKind::Failed, 4, 0)]);
    assert!(payload(&host, id).contains("1 watches or logs are open"));
    assert_eq!(host.limit_hits(id), [("api-in-flight", 2)]);
    assert_eq!(host.reasons(), ["RequestsInFlightLimited"]);
}

// --- calls that are dropped

#[test]
fn a_dropped_call_is_not_sent_or_is_aborted() {
    let limits = Limits { api_in_flight: 1, ..Limits::NONE };
    let (mut host, id) = Harness::calling(limited(limits), vec![get(1, HOME), get(2, HOME), get(3, HOME)]);
    assert_eq!(host.sent(), [1]);
    host.apply("Website", &object("web/home"));
    host.does(id, vec![drop_call(1), drop_call(2)]);
    assert_eq!((host.aborted(), host.sent()), (vec![1], vec![3]));
    assert_eq!(host.observe(id).requests, 1);
}

#[test]
fn an_answer_to_a_dropped_call_is_not_delivered_and_its_credit_comes_back() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, HOME), get(2, HOME)]);
    let sends = host.sends();
    host.apply("Website", &object("web/home"));
    host.does(id, vec![drop_call(1)]);
    host.reply(&sends[0], vec![head(200), body("0123456789")]);
    let credit = host.control.credit(id).unwrap();
    assert_eq!(credit.available(), RESPONSE_CREDIT_BYTES);
    assert!(!host.is_stepping(id));
}

#[test]
fn an_answer_to_an_earlier_call_with_the_same_number_is_not_delivered() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, HOME), get(2, WATCH)]);
    let first = host.sends().remove(0);
    host.apply("Website", &object("web/home"));
    host.does(id, vec![drop_call(1), get(1, HOME)]);
    let second = host.send();
    assert_ne!(first.token, second.token);
    host.respond(&first, 200, "first");
    assert!(!host.is_stepping(id));
    host.respond(&second, 200, "second");
    assert_eq!(payload(&host, id), "second");
    let credit = host.control.credit(id).unwrap();
    assert_eq!(credit.available(), RESPONSE_CREDIT_BYTES, "what is with the guest is paid");
}

#[test]
fn bytes_of_an_earlier_credit_do_not_count_for_a_later_one() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, HOME)]);
    let first = host.send();
    assert!(host.control.credit(id).unwrap().try_take(1000), "the request takes credit");
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![drop_call(1), done(task)]);
    assert!(host.control.credit(id).is_none(), "nothing is under way");
    host.apply("Website", &object("web/home").version(2));
    host.does(id, vec![get(2, HOME)]);
    host.event(HostEvent::Replies {
        slot: id,
        call: first.call,
        token: first.token,
        replies: vec![Reply::Body(Bytes::from(vec![b'x'; 1000]))],
    });
    assert_eq!(host.control.credit(id).unwrap().available(), RESPONSE_CREDIT_BYTES);
}

// --- answers

#[test]
fn answers_come_to_the_guest_in_their_pieces() {
    for (what, replies, expected, hits) in [
        (
            "a whole one",
            vec![head(200), body("ab"), body("c"), Reply::End],
            &[EventKind::Head, EventKind::Body, EventKind::Body, EventKind::End][..],
            vec![],
        ),
        ("none", vec![Reply::Failed("reset".into())], &[EventKind::Failed], vec![]),
        (
            "one that breaks off",
            vec![head(200), body("ab"), Reply::Failed("reset".into())],
            &[EventKind::Head, EventKind::Body, EventKind::Failed],
            vec![],
        ),
        (
            "one that is too large",
            vec![head(200), Reply::TooLarge],
            &[EventKind::Head, EventKind::Failed],
            vec![("response", 1)],
        ),
    ] {
        let (mut host, id) = Harness::calling(setup("web"), vec![get(1, HOME)]);
        let send = host.send();
        host.reply(&send, replies);
        assert_eq!(host.kinds(id), expected, "{what}");
        assert_eq!((host.observe(id).requests, host.limit_hits(id)), (0, hits.clone()), "{what}");
        assert_eq!(host.reasons().len(), hits.len(), "{what}");
    }
}

#[test]
fn a_response_that_is_too_large_is_reported_on_the_object_that_asked_for_it() {
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.does(id, vec![call(1, task, "GET", HOME)]);
    let send = host.send();
    assert_eq!(send.task, task);
    host.reply(&send, vec![Reply::TooLarge]);
    let notice = host.notices().remove(0);
    let (kind, key) = notice.object.unwrap();
    assert_eq!((&*kind.kind, &*key), ("Website", "web/home"));
}

#[test]
fn credit_is_taken_by_answers_and_returned_when_the_guest_has_them() {
    let (mut host, id) = Harness::calling(setup("web"), vec![get(1, HOME), get(2, WATCH)]);
    let sends = host.sends();
    let available = |host: &Harness| host.control.credit(id).map(|credit| RESPONSE_CREDIT_BYTES - credit.available());
    host.apply("Website", &object("web/home"));
    let task = host.begun(id)[0].0;
    host.reply(&sends[0], vec![head(200), body("0123456789")]);
    assert_eq!(available(&host), Some(10), "the guest is in a step and does not have it yet");
    host.reply(&sends[0], vec![Reply::End]);
    host.does(id, vec![done(task)]);
    assert_eq!(available(&host), Some(0), "it is on its way to the guest");
    host.reply(&sends[1], vec![Reply::End]);
    host.reconciled(id);
    assert_eq!(available(&host), None, "nothing is under way");
}

#[test]
fn credit_outlives_a_suspend_while_answers_wait_for_the_guest() {
    let (mut host, id) =
        Harness::calling(Setup { policy: Some(wasmop_policy::Policy::Immediate), ..setup("web") }, vec![get(1, HOME)]);
    let send = host.send();
    assert!(host.saving(id).is_some());
    host.reply(&send, vec![head(200), body(&"x".repeat(60_000)), body(&"x".repeat(60_000))]);
    let more = (0..6).map(|_| body(&"x".repeat(60_000))).chain([Reply::End]).collect();
    host.reply(&send, more);
    host.saved(id);
    // The first part of the answer is delivered, and the guest calls again.
    host.does(id, vec![get(2, HOME)]);
    host.send();
    host.does(id, vec![]);
    assert_eq!(host.control.credit(id).unwrap().available(), RESPONSE_CREDIT_BYTES);
}

#[test]
fn an_instance_that_is_lost_takes_its_requests_with_it() {
    let limits = Limits { api_in_flight: 1, ..Limits::NONE };
    let (mut host, id) = Harness::calling(limited(limits), vec![get(1, HOME), get(2, WATCH), get(3, HOME)]);
    host.sends();
    host.apply("Website", &object("web/home"));
    host.does(id, Did { lost: Some(Lost::NoCulprit), ..Did::default() });
    assert_eq!(host.aborted(), [1, 2]);
    assert_eq!((host.observe(id).requests, host.control.credit(id).is_none()), (0, true));
    host.advance(secs(10));
    assert!(host.sent().is_empty(), "the one that waited is not sent");
}

#[test]
fn a_guest_that_takes_no_answers_is_restarted() {
    // One call takes all the room, so that the others are refused. Then not even the refusals have room.
    let (mut host, id) = Harness::running(&websites());
    host.apply("Website", &object("web/home"));
    let large = put(0, 0, HOME, &"x".repeat(16 << 20));
    let limits = host.limit_hits(id);
    host.does(id, std::iter::once(large).chain((1..25_000).map(|call| get(call, HOME))).collect::<Vec<_>>());
    assert_eq!((host.restarts(id), limits), (1, vec![]));
    assert_eq!(host.discarded(), 1);
    let reasons = host.reasons();
    assert!(reasons.contains(&"CrashLoop") && reasons.contains(&"InterfaceMisused"), "{reasons:?}");
    assert!(host.last_error(id).contains("does not take the answers"), "{}", host.last_error(id));
}

#[test]
fn what_a_step_asks_for_is_sent_before_the_next_step_is_ordered() {
    let (mut host, id) = Harness::running(&websites());
    host.list("Website", &[object("web/home"), object("web/shop")]);
    let begun = host.begun(id);
    host.effects.clear();
    host.does(id, vec![get(1, HOME), done(begun[0].0)]);
    assert!(matches!(host.effects.first(), Some(HostEffect::Send(_))));
    assert!(host.is_stepping(id));
}

// --- write storms

#[test]
fn controllers_that_overwrite_each_other_are_slowed_down_and_both_are_told() {
    const SHARED: &str = "/api/v1/namespaces/web/configmaps/shared";
    let mut host = Harness::new();
    let ids = ["one", "two"].map(|name| host.add(setup(name)));
    host.start();
    let write = |host: &mut Harness, turn: u64| {
        host.advance(ms(10));
        host.does(ids[turn as usize % 2], vec![put(turn, 0, SHARED, "{}")]);
        let sends = host.sends();
        sends.iter().for_each(|send| host.respond(send, 200, "{}"));
        sends.len()
    };
    for turn in 0..20 {
        assert_eq!(write(&mut host, turn), 1, "turn {turn}");
    }
    assert_eq!(write(&mut host, 20), 0);
    assert_eq!(host.reasons(), ["WriteStorm", "WriteStorm"]);
    host.advance(ms(990));
    assert!(host.sends().is_empty());
    host.advance(ms(20));
    let [held] = &host.sends()[..] else { panic!("the write is not sent") };
    assert_eq!(held.call, 20);
}
