//! The election as one host sees it, as a state machine: time and answers in, requests and news out.
//!
//! ```text
//! each round    list controllers' Leases, if needed ─► list hosts' Leases ─► renew the own one ─► decide
//! a controller  Free ─ acquire ─► Held ─ assigned elsewhere, or the term is over ─► Stopping ─► (release) ─► Free
//! ```
//!
//! No two hosts ever hold a controller at once:
//!
//! * A host acts until `renew_deadline` after it *sent* the last renewal that was answered in time, by its own clock
//!   ([`Term`]). After that it holds nothing and has to acquire again, whatever it learns later.
//! * To acquire is to write the controller's Lease, which fails if anyone has written it in between.
//! * Other hosts consider a holder dead after they saw its Lease unchanged for `lease_duration`, which is longer. They
//!   measure by their own clocks: from the answer that first showed it to the request for the last list. They overwrite
//!   only a controller's Lease that was read *before* that list. A holder that came back has either written that Lease
//!   since, and they fail, or has renewed its own Lease before, and they see that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::fence::{Fence, Term};
use super::peers::Hosts;
use super::record::{Answer, Failure, Record, Request, Role, Tenure};
use super::timing::Timing;

/// News for the host.
#[derive(Debug)]
pub enum News {
    /// The host may run the controller.
    Gained {
        /// Slot of the controller.
        slot: u32,
        /// Holds as long as the host may act.
        fence: Arc<Fence>,
        /// The tenure before, if any.
        before: Option<Tenure>,
        /// The new tenure.
        tenure: Tenure,
    },
    /// The host has to give the controller up, then call [`Elector::given_up`].
    GiveUp {
        /// Slot of the controller.
        slot: u32,
    },
    /// The host no longer holds the controller. It calls [`Elector::given_up`] once it has stopped it.
    Lost {
        /// Slot of the controller.
        slot: u32,
    },
    /// Why the host does not hold its own Lease; `None` if it does.
    Trouble(Option<Trouble>),
}

/// Why a host does not hold its own Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another process renews the Lease with this host's name.
    Usurped,
    /// A request failed: why.
    Failed(String),
}

/// The election as one host sees it.
pub struct Elector {
    timing: Timing,
    /// This host's name.
    me: Arc<str>,
    /// Distinguishes this process from others with the same name. Microseconds.
    started_us: i64,
    runs: Arc<BTreeSet<Arc<str>>>,
    /// By slot.
    controllers: Vec<(Arc<str>, Stage)>,
    /// Set while the own Lease is held. A term that is over is replaced by a new one.
    term: Option<Arc<Term>>,
    /// Whether this process has written its own Lease.
    has_written: bool,
    hosts: Hosts,
    /// Controllers' Leases as last read.
    known: BTreeMap<String, Record>,
    /// When the list in `known` was requested, and when it was answered.
    listed: Option<(Duration, Duration)>,
    wants_list: bool,
    round: Round,
    rounds: u64,
    begun: Duration,
    /// What failed in this round.
    failed: Option<String>,
    /// The last trouble reported.
    reported: Option<Option<Trouble>>,
    /// Progress of the shutdown.
    ending: Ending,
    out: Vec<Request>,
    news: Vec<News>,
}

#[derive(Debug)]
enum Stage {
    Free,
    /// The write is in flight. It counts only if answered within the same term: later, another host may have
    /// overwritten it.
    Acquiring {
        term: Arc<Term>,
        before: Option<Tenure>,
    },
    Held {
        fence: Arc<Fence>,
        record: Record,
        since: Duration,
    },
    /// The host stops the controller; `None`: there is nothing to release.
    Stopping(Option<Record>),
    /// The write is in flight.
    Releasing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Begins at this time.
    Waiting(Duration),
    Due(Part),
    Sent(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Controllers,
    Hosts,
    Renew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    Releasing,
    Removing,
    Over,
}

impl Elector {
    /// `started_us` differs for each process. `controllers`: by slot, each once.
    pub fn new(timing: Timing, me: Arc<str>, started_us: i64, controllers: Vec<Arc<str>>, now: Duration) -> Elector {
        Elector {
            hosts: Hosts::new(me.clone(), timing),
            timing,
            me,
            started_us,
            runs: Arc::new(controllers.iter().cloned().collect()),
            controllers: controllers.into_iter().map(|name| (name, Stage::Free)).collect(),
            term: None,
            has_written: false,
            known: BTreeMap::new(),
            listed: None,
            wants_list: true,
            round: Round::Waiting(now),
            rounds: 0,
            begun: now,
            failed: None,
            reported: None,
            ending: Ending::No,
            out: Vec::new(),
            news: Vec::new(),
        }
    }

    /// Returns requests to send. Each may be answered with [`Elector::answer`], at any time or never.
    pub fn poll(&mut self, now: Duration) -> Vec<Request> {
        self.expire(now);
        if self.ending == Ending::No {
            match self.round {
                Round::Waiting(at) if at <= now => {
                    self.begun = now;
                    self.rounds += 1;
                    let stale = self.listed.is_none_or(|(sent, _)| sent + self.timing.lease_duration <= now);
                    let wants_list = std::mem::take(&mut self.wants_list) || stale;
                    self.send(if wants_list { Part::Controllers } else { Part::Hosts }, now);
                }
                Round::Due(part) => self.send(part, now),
                Round::Waiting(_) | Round::Sent(_) => {}
            }
        }
        std::mem::take(&mut self.out)
    }

    /// When to poll again, unless an answer comes first.
    pub fn next_at(&self) -> Option<Duration> {
        let round = match self.round {
            Round::Waiting(at) if self.ending == Ending::No => Some(at),
            _ => None,
        };
        round.into_iter().chain(self.term.as_ref().map(|term| term.until())).min()
    }

    /// Returns news since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Takes in the answer to a request that was sent at `sent`.
    pub fn answer(&mut self, request: &Request, sent: Duration, answer: Result<Answer, Failure>, now: Duration) {
        self.expire(now);
        match (request, answer) {
            (Request::List(Role::Controller), answer) => {
                if let Some(Answer::Listed(records)) = self.success(answer) {
                    self.on_controllers(records, sent, now);
                }
                self.then(Part::Controllers, Round::Due(Part::Hosts));
            }
            (Request::List(Role::Host), answer) => {
                if let Some(Answer::Listed(records)) = self.success(answer) {
                    let holders = self.known.values().map(|record| &*record.holder);
                    self.hosts.observe(records, holders, sent, now);
                }
                self.then(Part::Hosts, Round::Due(Part::Renew));
            }
            (Request::Write(write), answer) if write.role == Role::Host => {
                self.on_renewed(sent, answer, now);
                self.decide(now);
                self.end_round(now);
            }
            (Request::Write(write), answer) => self.on_written(write, answer, now),
            (Request::Delete { host, .. }, _) if **host == *self.me => self.ending = Ending::Over,
            (Request::Delete { .. }, _) => {}
        }
    }

    fn send(&mut self, part: Part, now: Duration) {
        let request = match part {
            Part::Controllers => Request::List(Role::Controller),
            Part::Hosts => Request::List(Role::Host),
            Part::Renew => match self.renewal(now) {
                Some(write) => Request::Write(write),
                None => return self.end_round(now),
            },
        };
        self.out.push(request);
        self.round = Round::Sent(part);
    }

    /// Continues the round, unless the answer belongs to an earlier round.
    fn then(&mut self, answered: Part, next: Round) {
        if self.round == Round::Sent(answered) {
            self.round = next;
        }
    }

    fn end_round(&mut self, now: Duration) {
        if self.reported != Some(Some(Trouble::Usurped)) || self.term.is_some() {
            let failed = self.failed.take().map(Trouble::Failed);
            // Without a failure the Lease is only not held yet.
            if failed.is_some() || self.term.is_some() {
                self.report(failed);
            }
        }
        // Jitter of 10 %, so that hosts started together drift apart.
        let draw = xxh3_64(&[self.me.as_bytes(), &self.rounds.to_le_bytes()].concat()) % 201;
        let period = self.timing.retry_period * (900 + draw as u32) / 1000;
        self.round = Round::Waiting((self.begun + period).max(now));
    }

    /// Returns a successful answer. Failures are reported at the end of the round; the next list shows the outcome of a
    /// conflict.
    fn success(&mut self, answer: Result<Answer, Failure>) -> Option<Answer> {
        match answer {
            Ok(answer) => Some(answer),
            Err(Failure::Conflict) => None,
            Err(Failure::Other(why)) => {
                self.failed.get_or_insert(why);
                None
            }
        }
    }

    /// Reports each kind of trouble once, and its end.
    fn report(&mut self, trouble: Option<Trouble>) {
        let kind = |trouble: &Option<Trouble>| trouble.as_ref().map(std::mem::discriminant);
        if self.reported.as_ref().is_none_or(|reported| kind(reported) != kind(&trouble)) {
            self.reported = Some(trouble.clone());
            self.news.push(News::Trouble(trouble));
        }
    }
}

mod assignment;
mod renewal;
mod shutdown;
#[cfg(test)]
mod tests;
