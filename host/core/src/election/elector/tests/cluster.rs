//! Simulates hosts with different clocks, an API server, and a network that delays, loses and reorders. Driven by a
//! seed.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::election::fence::Fence;

const STEP: Duration = Duration::from_millis(50);

/// Rates of faults, each as one in so many; 0: none.
#[derive(Clone, Copy)]
pub struct Chaos {
    /// Steps in which a host is paused, cut off, killed or ended.
    hosts: u32,
    /// Slow transmissions of requests and answers.
    slow: u32,
    /// Requests with much too long a timeout: safety must not depend on it.
    patient: u32,
}

impl Chaos {
    pub const NONE: Chaos = Chaos { hosts: 0, slow: 0, patient: 0 };

    /// Rates drawn from the seed.
    pub fn drawn(seed: u64) -> Chaos {
        let mut random = StdRng::seed_from_u64(!seed);
        let mut one_of = |some: [u32; 4]| some[random.random_range(0..some.len())];
        Chaos { hosts: one_of([20, 60, 200, 0]), slow: one_of([4, 12, 40, 0]), patient: one_of([1, 4, 20, 0]) }
    }
}

fn happens(random: &mut StdRng, one_in: u32) -> bool {
    one_in > 0 && random.random_ratio(1, one_in)
}

pub fn name(node: usize) -> Arc<str> {
    format!("host-{node}").into()
}

pub fn controller(number: usize) -> String {
    format!("controller-{number}")
}

#[derive(Default)]
struct Server {
    leases: BTreeMap<(Role, String), Record>,
    writes: u64,
    requests: usize,
}

impl Server {
    fn execute(&mut self, request: &Request) -> Result<Answer, Failure> {
        self.requests += 1;
        self.writes += 1;
        match request {
            Request::List(role) => {
                let of_role = self.leases.iter().filter(|((other, _), _)| other == role);
                Ok(Answer::Listed(of_role.map(|((_, name), record)| (name.clone(), record.clone())).collect()))
            }
            Request::Write(write) => {
                let key = (write.role, write.name.to_string());
                let old = self.leases.get(&key);
                if old.map(|record| &record.version) != write.replaces.as_ref() {
                    return Err(Failure::Conflict);
                }
                let record = Record {
                    uid: old.map_or_else(|| format!("uid-{}", self.writes), |old| old.uid.clone()),
                    version: self.writes.to_string(),
                    holder: write.holder.clone(),
                    transitions: write.transitions,
                    acquired_us: write.acquired_us,
                    duration: write.duration.unwrap_or_default(),
                    runs: write.runs.clone(),
                };
                self.leases.insert(key, record.clone());
                Ok(Answer::Written(record))
            }
            Request::Delete { host, version } => {
                let key = (Role::Host, host.clone());
                if self.leases.get(&key).is_none_or(|record| record.version != *version) {
                    return Err(Failure::Conflict);
                }
                self.leases.remove(&key);
                Ok(Answer::Deleted)
            }
        }
    }
}

/// A request in flight. Times are on the cluster's clock, except `sent`.
struct Flight {
    /// The process that sent it.
    process: u64,
    request: Request,
    sent: Duration,
    arrives: Duration,
    answer: Option<Result<Answer, Failure>>,
    answered: Duration,
    given_up: Duration,
}

struct Node {
    elector: Option<Elector>,
    process: u64,
    /// Its clock is ahead by this much, and runs at this many thousandths of the cluster's rate.
    ahead: Duration,
    rate: u32,
    paused_until: Duration,
    cut_off_until: Duration,
    starts_at: Option<Duration>,
    can_run: usize,
    fences: BTreeMap<u32, Arc<Fence>>,
    /// When a stopping controller has stopped.
    stopping: BTreeMap<u32, Duration>,
    /// Tenures of the snapshots on its disk.
    kept: BTreeMap<u32, Tenure>,
    flights: Vec<Flight>,
}

impl Node {
    fn clock(&self, now: Duration) -> Duration {
        self.ahead + now * self.rate / 1000
    }
}

pub struct Cluster {
    now: Duration,
    random: StdRng,
    chaos: Chaos,
    server: Server,
    nodes: Vec<Node>,
    controllers: usize,
    processes: u64,
    /// The host that last gained each controller.
    last: BTreeMap<u32, usize>,
}

impl Cluster {
    pub fn new(nodes: usize, controllers: usize, seed: u64, chaos: Chaos) -> Cluster {
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = (0..nodes).map(|_| Node {
            elector: None,
            process: 0,
            ahead: Duration::from_secs(random.random_range(0..1_000_000)),
            // A third less tolerance than the durations allow.
            rate: if chaos.slow > 0 { random.random_range(900..=1100) } else { 1000 },
            paused_until: Duration::ZERO,
            cut_off_until: Duration::ZERO,
            starts_at: Some(Duration::ZERO),
            can_run: controllers,
            fences: BTreeMap::new(),
            stopping: BTreeMap::new(),
            kept: BTreeMap::new(),
            flights: Vec::new(),
        });
        let nodes = nodes.collect();
        let (server, last) = Default::default();
        Cluster { now: Duration::ZERO, random, chaos, server, nodes, controllers, processes: 0, last }
    }

    /// Limits the node to the first `can_run` controllers.
    pub fn limit(&mut self, node: usize, can_run: usize) {
        self.nodes[node].can_run = can_run;
    }

    pub fn start(&mut self, node: usize) {
        self.processes += 1;
        let node_name = name(node);
        let node = &mut self.nodes[node];
        let controllers = (0..node.can_run).map(|n| controller(n).into()).collect();
        let clock = node.clock(self.now);
        node.process = self.processes;
        node.starts_at = None;
        node.elector = Some(Elector::new(timing(), node_name, self.processes as i64, controllers, clock));
    }

    /// Requests in flight still arrive.
    pub fn crash(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        (node.elector, node.starts_at) = (None, None);
        (node.fences, node.stopping) = Default::default();
    }

    pub fn end(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        (node.fences, node.stopping) = Default::default();
        let clock = node.clock(self.now);
        node.elector.iter_mut().for_each(|elector| elector.end(clock));
    }

    pub fn pause(&mut self, node: usize, time: Duration) {
        self.nodes[node].paused_until = self.now + time;
    }

    pub fn cut_off(&mut self, node: usize, time: Duration) {
        self.nodes[node].cut_off_until = self.now + time;
    }

    /// Ends all faults and starts all hosts.
    pub fn calm_down(&mut self) {
        self.chaos = Chaos::NONE;
        for node in &mut self.nodes {
            (node.paused_until, node.cut_off_until) = (self.now, self.now);
            if node.elector.is_none() {
                node.starts_at = Some(self.now);
            }
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            if happens(&mut self.random, self.chaos.hosts) {
                self.go_wrong();
            }
            for node in 0..self.nodes.len() {
                self.step(node);
                self.assert_one_holder();
            }
        }
    }

    fn go_wrong(&mut self) {
        let node = self.random.random_range(0..self.nodes.len());
        let time = Duration::from_millis(self.random.random_range(100..40_000));
        match self.random.random_range(0..11) {
            0..4 => self.pause(node, time),
            4..7 => self.cut_off(node, time),
            7..9 => {
                self.crash(node);
                self.nodes[node].starts_at = Some(self.now + time);
            }
            _ => {
                self.end(node);
                self.nodes[node].starts_at = Some(self.now + time);
            }
        }
    }

    fn step(&mut self, index: usize) {
        let now = self.now;
        self.arrive(index);
        let node = &mut self.nodes[index];
        if node.paused_until > now {
            return;
        }
        if node.starts_at.is_some_and(|at| at <= now) {
            self.crash(index);
            self.start(index);
        }
        let clock = self.nodes[index].clock(now);
        self.hear(index, clock);
        let node = &mut self.nodes[index];
        let gone: Vec<u32> = node.stopping.iter().filter(|(_, at)| **at <= now).map(|(slot, _)| *slot).collect();
        for slot in gone {
            node.stopping.remove(&slot);
            if let Some(fence) = node.fences.remove(&slot) {
                fence.end();
            }
            node.elector.iter_mut().for_each(|elector| elector.given_up(slot, clock));
        }
        let Some(elector) = &mut node.elector else { return };
        let requests = elector.poll(clock);
        let news = elector.take_news();
        if elector.is_over() {
            node.elector = None;
        }
        for request in requests {
            let flight = self.flight(index, request, clock);
            self.nodes[index].flights.push(flight);
        }
        for news in news {
            self.take(index, news);
        }
    }

    /// Requests reach the server even if their sender is gone.
    fn arrive(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        for flight in &mut node.flights {
            if flight.answer.is_none() && flight.arrives <= now && node.cut_off_until <= now {
                flight.answer = Some(self.server.execute(&flight.request));
            }
        }
    }

    fn hear(&mut self, index: usize, clock: Duration) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let (mut waiting, mut heard) = (Vec::new(), Vec::new());
        for mut flight in std::mem::take(&mut node.flights) {
            let is_mine = flight.process == node.process && node.elector.is_some();
            let arrived = flight.answered <= now && node.cut_off_until <= now;
            if !is_mine {
                if flight.answer.is_none() {
                    waiting.push(flight);
                }
            } else if let Some(answer) = flight.answer.take_if(|_| arrived) {
                heard.push((flight.request, flight.sent, answer));
            } else if flight.given_up <= now {
                heard.push((flight.request.clone(), flight.sent, Err(Failure::Other("no answer".into()))));
                // It may be executed much later.
                if flight.answer.is_none() {
                    waiting.push(Flight { process: 0, ..flight });
                }
            } else {
                waiting.push(flight);
            }
        }
        node.flights = waiting;
        // In any order.
        heard.shuffle(&mut self.random);
        let Some(elector) = &mut node.elector else { return };
        for (request, sent, answer) in heard {
            elector.answer(&request, sent, answer, clock);
        }
    }

    fn flight(&mut self, index: usize, request: Request, sent: Duration) -> Flight {
        let mut delay = || match happens(&mut self.random, self.chaos.slow) {
            true => MS * self.random.random_range(0..25_000),
            false => MS * self.random.random_range(0..100),
        };
        let arrives = self.now + delay();
        let answered = arrives + delay();
        let patience = match happens(&mut self.random, self.chaos.patient) {
            true => MS * self.random.random_range(1000..40_000),
            false => timing().request_timeout(),
        };
        let given_up = self.now + patience;
        Flight { process: self.nodes[index].process, request, sent, arrives, answer: None, answered, given_up }
    }

    fn take(&mut self, index: usize, news: News) {
        let takes = if self.chaos.hosts > 0 { MS * self.random.random_range(0..5000) } else { MS * 100 };
        let node = &mut self.nodes[index];
        match news {
            News::Gained { slot, fence, before, tenure } => {
                assert!(!node.fences.contains_key(&slot), "gained twice");
                if before.is_some() && before == node.kept.get(&slot).cloned() {
                    assert_eq!(self.last.get(&slot), Some(&index), "another host has run controller {slot} since");
                }
                node.kept.insert(slot, tenure);
                node.fences.insert(slot, fence);
                self.last.insert(slot, index);
            }
            News::GiveUp { slot } => {
                node.stopping.entry(slot).or_insert(self.now + takes);
            }
            News::Lost { slot } => {
                let fence = node.fences.get(&slot);
                assert!(fence.is_none_or(|fence| !fence.holds(node.clock(self.now))), "lost and still held");
                node.stopping.insert(slot, self.now + takes / 4);
            }
            News::Trouble(_) => {}
        }
    }

    pub fn holder(&self, controller: usize) -> Option<usize> {
        let slot = controller as u32;
        let holds = |node: &Node| node.fences.get(&slot).is_some_and(|fence| fence.holds(node.clock(self.now)));
        let mut holders = (0..self.nodes.len()).filter(|node| holds(&self.nodes[*node]));
        let holder = holders.next();
        assert_eq!(holders.next(), None, "controller {controller} at {:?} is held by {holder:?}, too", self.now);
        holder
    }

    fn assert_one_holder(&self) {
        for controller in 0..self.controllers {
            self.holder(controller);
        }
    }

    /// Each controller runs on the host that rendezvous hashing among `nodes` selects.
    pub fn assert_settled(&self, nodes: &[usize]) {
        for number in 0..self.controllers {
            let expected = expected(&controller(number), nodes);
            assert_eq!(self.holder(number), Some(expected), "controller {number} at {:?}", self.now);
        }
    }

    pub fn tenures(&self) -> Vec<BTreeMap<u32, Tenure>> {
        self.nodes.iter().map(|node| node.kept.clone()).collect()
    }

    /// Hosts with a Lease.
    pub fn hosts(&self) -> Vec<String> {
        self.server.leases.keys().filter(|(role, _)| *role == Role::Host).map(|(_, name)| name.clone()).collect()
    }

    pub fn requests(&self) -> usize {
        self.server.requests
    }
}
