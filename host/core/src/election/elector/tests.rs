use super::assignment::FORGET_AFTER;
use super::*;
use crate::election::rendezvous;

mod cluster;

use cluster::{Chaos, Cluster, name};

const MS: Duration = Duration::from_millis(1);

fn timing() -> Timing {
    Timing::default()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The host that rendezvous hashing assigns a controller to.
fn expected(controller: &str, nodes: &[usize]) -> usize {
    let names: Vec<_> = nodes.iter().map(|node| name(*node)).collect();
    let chosen = rendezvous::assigned(controller, names.iter().map(|name| &**name)).unwrap();
    nodes[names.iter().position(|name| **name == *chosen).unwrap()]
}

#[test]
fn hosts_that_start_together_share_the_controllers() {
    let mut cluster = Cluster::new(2, 6, 1, Chaos::NONE);
    cluster.run(seconds(30));
    cluster.assert_settled(&[0, 1]);
}

#[test]
fn a_new_host_gets_its_share_and_a_stopping_host_releases_it_at_once() {
    let mut cluster = Cluster::new(2, 6, 2, Chaos::NONE);
    cluster.crash(1);
    cluster.run(seconds(10));
    cluster.assert_settled(&[0]);
    cluster.start(1);
    cluster.run(seconds(10));
    cluster.assert_settled(&[0, 1]);
    cluster.end(0);
    // Less than a Lease's duration: three looks at the others.
    cluster.run(timing().retry_period * 3);
    cluster.assert_settled(&[1]);
}

#[test]
fn controllers_of_a_killed_host_move_after_its_lease_duration() {
    let mut cluster = Cluster::new(2, 6, 3, Chaos::NONE);
    cluster.run(seconds(20));
    cluster.crash(0);
    let mine: Vec<_> = (0..6).filter(|c| expected(&cluster::controller(*c), &[0, 1]) == 0).collect();
    assert!(!mine.is_empty());
    cluster.run(seconds(12));
    assert!(mine.iter().all(|c| cluster.holder(*c).is_none()), "no host may start it yet");
    cluster.run(seconds(8));
    cluster.assert_settled(&[1]);
}

#[test]
fn a_restarted_host_does_not_wait_for_its_own_lease() {
    let mut cluster = Cluster::new(1, 3, 4, Chaos::NONE);
    cluster.run(seconds(10));
    let before = cluster.tenures();
    cluster.crash(0);
    cluster.start(0);
    cluster.run(seconds(1));
    cluster.assert_settled(&[0]);
    assert_eq!(cluster.tenures(), before, "no other host has run them, so the snapshots are current");
}

#[test]
fn a_paused_host_holds_nothing_when_it_continues() {
    let mut cluster = Cluster::new(2, 6, 5, Chaos::NONE);
    cluster.run(seconds(20));
    cluster.pause(0, seconds(30));
    cluster.run(seconds(29));
    cluster.assert_settled(&[1]);
    cluster.run(seconds(20));
    cluster.assert_settled(&[0, 1]);
}

#[test]
fn a_host_without_an_api_server_stops_before_another_may_begin() {
    let mut cluster = Cluster::new(2, 6, 6, Chaos::NONE);
    cluster.run(seconds(20));
    let mine: Vec<_> = (0..6).filter(|c| cluster.holder(*c) == Some(0)).collect();
    cluster.cut_off(0, seconds(60));
    cluster.run(timing().renew_deadline + seconds(1));
    assert!(mine.iter().all(|c| cluster.holder(*c).is_none()), "it still acts");
    cluster.run(seconds(15));
    cluster.assert_settled(&[1]);
}

#[test]
fn a_host_gets_only_controllers_that_it_can_run() {
    let mut cluster = Cluster::new(2, 6, 7, Chaos::NONE);
    cluster.limit(1, 2);
    cluster.run(seconds(30));
    for controller in 0..6 {
        let expected = if controller < 2 { expected(&cluster::controller(controller), &[0, 1]) } else { 0 };
        assert_eq!(cluster.holder(controller), Some(expected), "controller {controller}");
    }
}

#[test]
fn the_lease_of_a_dead_host_is_deleted() {
    let mut cluster = Cluster::new(2, 3, 8, Chaos::NONE);
    cluster.run(seconds(20));
    cluster.crash(0);
    cluster.run(timing().lease_duration * (FORGET_AFTER + 2));
    assert_eq!(cluster.hosts(), [name(1).to_string()]);
}

#[test]
fn an_idle_host_makes_two_requests_a_period_for_any_number_of_controllers() {
    let mut cluster = Cluster::new(1, 100, 9, Chaos::NONE);
    cluster.run(seconds(30));
    let before = cluster.requests();
    cluster.run(seconds(60));
    let requests = cluster.requests() - before;
    // Once per lease duration, controllers' Leases are listed as well.
    assert!((60..=72).contains(&requests), "{requests} requests in 30 periods");
}

/// An elector with scripted answers.
struct ByHand {
    elector: Elector,
    now: Duration,
}

impl ByHand {
    /// An elector for one controller.
    fn new() -> ByHand {
        let elector = Elector::new(timing(), name(0), 1, vec!["a".into()], Duration::ZERO);
        ByHand { elector, now: Duration::ZERO }
    }

    /// Its next request.
    fn asks(&mut self) -> Request {
        let requests = self.elector.poll(self.now);
        let [request] = &requests[..] else { panic!("{requests:?}") };
        request.clone()
    }

    /// Answers its next requests in order.
    fn hears(&mut self, answers: impl IntoIterator<Item = Answer>) -> Vec<News> {
        for answer in answers {
            let (request, sent) = (self.asks(), self.now);
            self.now += MS;
            self.elector.answer(&request, sent, Ok(answer), self.now);
        }
        self.elector.take_news()
    }
}

fn own(version: &str, process: i64) -> Record {
    Record { version: version.into(), acquired_us: process, ..Record::default() }
}

fn listed(own: Option<Record>) -> Answer {
    Answer::Listed(own.map(|record| (name(0).to_string(), record)).into_iter().collect())
}

#[test]
fn a_host_stops_when_another_process_takes_its_name() {
    let mut host = ByHand::new();
    let mine = own("1", 1);
    let news = host.hears([listed(None), listed(None), Answer::Written(mine.clone()), Answer::Written(mine)]);
    let [News::Trouble(None), News::Gained { fence, .. }] = &news[..] else { panic!("{news:?}") };
    assert!(fence.holds(host.now));
    host.now += timing().retry_period * 2;
    let news = host.hears([listed(Some(own("2", 2)))]);
    assert!(news.is_empty(), "{news:?}");
    assert_eq!(host.elector.poll(host.now), [], "the Lease is not its own any more");
    let news = host.elector.take_news();
    assert!(matches!(news[..], [News::Lost { slot: 0 }, News::Trouble(Some(Trouble::Usurped))]), "{news:?}");
    assert!(!fence.holds(host.now));
}

#[test]
fn a_controller_that_was_acquired_in_an_earlier_term_is_not_held() {
    let mut host = ByHand::new();
    host.hears([listed(None), listed(None), Answer::Written(own("1", 1))]);
    let (acquire, sent) = (host.asks(), host.now);
    host.now += timing().renew_deadline + seconds(1);
    // Another term begins; the time in between is unknown.
    host.hears([listed(Some(own("1", 1))), Answer::Written(own("2", 1))]);
    host.elector.answer(&acquire, sent, Ok(Answer::Written(own("3", 1))), host.now);
    let news = host.elector.take_news();
    assert!(news.is_empty(), "{news:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(600))]

    /// The cluster checks after each step that no controller has two holders, and that a host trusts its snapshot only
    /// if it ran the controller last.
    #[test]
    fn no_controller_ever_has_two_holders(seed in proptest::prelude::any::<u64>(), nodes in 2usize..5) {
        let mut cluster = Cluster::new(nodes, 4, seed, Chaos::drawn(seed));
        cluster.run(seconds(300));
        cluster.calm_down();
        cluster.run(seconds(120));
        cluster.assert_settled(&(0..nodes).collect::<Vec<_>>());
    }
}
