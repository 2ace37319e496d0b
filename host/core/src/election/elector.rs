//! A host's part in the election, as a state machine: time and answers in, requests and news out.
//!
//! ```text
//!  each round    list controllers' Leases, if any is needed ─► list hosts' Leases ─► renew the own one ─► decide
//!  a controller  Free ─ acquire ─► Held ─ another host is to have it, or the term is over ─► Stopping ─► (release) ─► Free
//! ```
//!
//! Why no two hosts ever hold a controller:
//!
//! * A host acts until `renew_deadline` after it *sent* the last renewal of its own Lease that was answered in time, by its own
//!   clock ([`Term`]). After that it holds nothing, whatever it hears later, and acquires anew.
//! * To acquire is to write the controller's Lease, which fails if anybody has written it meanwhile.
//! * Others take a holder for dead after they have seen its Lease without a change for `lease_duration`, which is longer,
//!   by their own clocks: from when the answer came that first showed it to when the list was asked for that last did. What they
//!   write over is a controller's Lease that was read *before* that list, so that a holder that came back has written it
//!   in between, and they fail, or has renewed its own before, and they see that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::fence::{Fence, Term};
use super::peers::Hosts;
use super::record::{Answer, Failure, Record, Request, Role, Tenure, Write};
use super::rendezvous::assigned;
use super::timing::Timing;

/// A dead host's Lease is removed when it has not changed for so many times its duration.
const FORGET_AFTER: u32 = 4;

/// What the host has to know.
#[derive(Debug)]
pub enum News {
    /// It may run the controller. `before`: the tenure that its own follows.
    Gained { slot: u32, fence: Arc<Fence>, before: Option<Tenure>, tenure: Tenure },
    /// It is to give the controller up, and to say so with [`Elector::given_up`].
    GiveUp { slot: u32 },
    /// It no longer holds the controller, and is to say with [`Elector::given_up`] when nothing is left of it.
    Lost { slot: u32 },
    /// Its own Lease is held (`None`), or why not.
    Trouble(Option<Trouble>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another process renews the Lease of this host's name.
    Usurped,
    Failed(String),
}

pub struct Elector {
    timing: Timing,
    /// This host's name.
    me: Arc<str>,
    /// Tells this process from others of the name.
    started_us: i64,
    runs: Arc<BTreeSet<Arc<str>>>,
    /// By slot.
    controllers: Vec<(Arc<str>, Stage)>,
    /// While the own Lease is held; replaced by another one once it is over.
    term: Option<Arc<Term>>,
    /// This process has written the own Lease.
    has_written: bool,
    hosts: Hosts,
    /// Controllers' Leases as they were read last.
    known: BTreeMap<String, Record>,
    /// When the list in `known` was asked for, and when that was answered.
    listed: Option<(Duration, Duration)>,
    wants_list: bool,
    round: Round,
    rounds: u64,
    begun: Duration,
    /// What failed in this round, in words.
    failed: Option<String>,
    told: Option<Option<Trouble>>,
    /// Leases are given back, and then it is over.
    ending: Ending,
    out: Vec<Request>,
    news: Vec<News>,
}

#[derive(Debug)]
enum Stage {
    Free,
    /// The write is under way. It counts if it is answered within the term that it was made in: after that another host
    /// may have written over it.
    Acquiring {
        term: Arc<Term>,
        before: Option<Tenure>,
    },
    Held {
        fence: Arc<Fence>,
        record: Record,
        since: Duration,
    },
    /// The host ends what it does; `None`: there is nothing to give back.
    Stopping(Option<Record>),
    /// The write is under way.
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
    /// `started_us`: another one in each process. `controllers`: by slot, each once.
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
            told: None,
            ending: Ending::No,
            out: Vec::new(),
            news: Vec::new(),
        }
    }

    /// What is to be sent now; each is answered with [`Elector::answer`], sooner or later or never.
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

    /// When to poll again if nothing comes before.
    pub fn next_at(&self) -> Option<Duration> {
        let round = match self.round {
            Round::Waiting(at) if self.ending == Ending::No => Some(at),
            _ => None,
        };
        round.into_iter().chain(self.term.as_ref().map(|term| term.until())).min()
    }

    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether all that was held has been given back, after [`Elector::end`].
    pub fn is_over(&self) -> bool {
        self.ending == Ending::Over
    }

    /// What came of a request that was sent at `sent`.
    pub fn answer(&mut self, request: &Request, sent: Duration, answer: Result<Answer, Failure>, now: Duration) {
        self.expire(now);
        match (request, answer) {
            (Request::List(Role::Controller), answer) => {
                if let Some(Answer::Listed(records)) = self.well(answer) {
                    self.on_controllers(records, sent, now);
                }
                self.then(Part::Controllers, Round::Due(Part::Hosts));
            }
            (Request::List(Role::Host), answer) => {
                if let Some(Answer::Listed(records)) = self.well(answer) {
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

    /// Nothing is left of a controller here that was to be given up or was lost.
    pub fn given_up(&mut self, slot: u32, now: Duration) {
        self.expire(now);
        let Some((_, stage)) = self.controllers.get_mut(slot as usize) else { return };
        match std::mem::replace(stage, Stage::Free) {
            Stage::Stopping(Some(record)) => self.release(slot, &record),
            Stage::Stopping(None) | Stage::Free => {}
            other => *stage = other,
        }
        self.wants_list = true;
    }

    /// The host has stopped all its controllers: gives back what it holds.
    pub fn end(&mut self, now: Duration) {
        self.expire(now);
        if self.ending != Ending::No {
            return;
        }
        self.ending = Ending::Releasing;
        for slot in 0..self.controllers.len() as u32 {
            self.release_at_end(slot);
        }
        self.remove_at_end();
    }

    fn release_at_end(&mut self, slot: u32) {
        let stage = &mut self.controllers[slot as usize].1;
        match std::mem::replace(stage, Stage::Free) {
            Stage::Held { record, fence, .. } => {
                fence.end();
                self.release(slot, &record);
            }
            Stage::Stopping(Some(record)) => self.release(slot, &record),
            Stage::Stopping(None) | Stage::Free => {}
            other => *stage = other,
        }
    }

    /// The own Lease goes last: until then the others don't look whether this host is alive.
    fn remove_at_end(&mut self) {
        let under_way = |stage: &Stage| matches!(stage, Stage::Acquiring { .. } | Stage::Releasing);
        if self.ending != Ending::Releasing || self.controllers.iter().any(|(_, stage)| under_way(stage)) {
            return;
        }
        match self.hosts.own().filter(|own| self.has_written && own.acquired_us == self.started_us) {
            Some(own) => {
                self.out.push(Request::Delete { host: self.me.to_string(), version: own.version.clone() });
                self.ending = Ending::Removing;
            }
            None => self.ending = Ending::Over,
        }
    }

    /// Everything is lost once the term is over.
    fn expire(&mut self, now: Duration) {
        if self.term.take_if(|term| term.is_over(now)).is_none() {
            return;
        }
        for (slot, (_, stage)) in (0..).zip(&mut self.controllers) {
            match stage {
                Stage::Held { fence, .. } => {
                    fence.end();
                    *stage = Stage::Stopping(None);
                    self.news.push(News::Lost { slot });
                }
                Stage::Stopping(record @ Some(_)) => {
                    *record = None;
                    self.news.push(News::Lost { slot });
                }
                Stage::Free | Stage::Acquiring { .. } | Stage::Stopping(None) | Stage::Releasing => {}
            }
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

    /// Goes on, unless the answer is one to an earlier round's request.
    fn then(&mut self, answered: Part, next: Round) {
        if self.round == Round::Sent(answered) {
            self.round = next;
        }
    }

    fn end_round(&mut self, now: Duration) {
        if self.told != Some(Some(Trouble::Usurped)) || self.term.is_some() {
            let failed = self.failed.take().map(Trouble::Failed);
            // Without a failure it is only not yet held.
            if failed.is_some() || self.term.is_some() {
                self.tell(failed);
            }
        }
        // Up to a tenth sooner or later, so that hosts that were started together don't stay so.
        let draw = xxh3_64(&[self.me.as_bytes(), &self.rounds.to_le_bytes()].concat()) % 201;
        let period = self.timing.retry_period * (900 + draw as u32) / 1000;
        self.round = Round::Waiting((self.begun + period).max(now));
    }

    /// `None`: the Lease of this name is another process'.
    fn renewal(&mut self, now: Duration) -> Option<Write> {
        let own = self.hosts.own();
        let is_foreign = self.has_written && own.is_some_and(|own| own.acquired_us != self.started_us);
        if is_foreign && !self.hosts.is_own_dead() {
            self.term.iter().for_each(|term| term.end());
            self.expire(now);
            self.tell(Some(Trouble::Usurped));
            return None;
        }
        Some(Write {
            role: Role::Host,
            name: self.me.clone(),
            replaces: own.map(|own| own.version.clone()),
            holder: self.me.to_string(),
            transitions: own.map_or(0, |own| own.transitions + i32::from(own.acquired_us != self.started_us)),
            acquired_us: self.started_us,
            duration: Some(self.timing.lease_duration),
            runs: self.runs.clone(),
        })
    }

    fn on_renewed(&mut self, sent: Duration, answer: Result<Answer, Failure>, now: Duration) {
        let Some(Answer::Written(record)) = self.well(answer) else { return };
        self.hosts.set_own(record, now);
        self.has_written = true;
        let until = sent + self.timing.renew_deadline;
        match &self.term {
            Some(term) => term.extend(until),
            None if now < until => self.term = Some(Arc::new(Term::new(until))),
            None => {}
        }
    }

    /// An answer that is one. What it was instead of it is told at the end of the round; the next list tells what
    /// became of a conflict.
    fn well(&mut self, answer: Result<Answer, Failure>) -> Option<Answer> {
        match answer {
            Ok(answer) => Some(answer),
            Err(Failure::Conflict) => None,
            Err(Failure::Other(why)) => {
                self.failed.get_or_insert(why);
                None
            }
        }
    }

    /// Each kind of trouble once, and when it is over.
    fn tell(&mut self, trouble: Option<Trouble>) {
        let kind = |trouble: &Option<Trouble>| trouble.as_ref().map(std::mem::discriminant);
        if self.told.as_ref().is_none_or(|told| kind(told) != kind(&trouble)) {
            self.told = Some(trouble.clone());
            self.news.push(News::Trouble(trouble));
        }
    }

    fn on_controllers(&mut self, records: Vec<(String, Record)>, sent: Duration, now: Duration) {
        self.known = records.into_iter().collect();
        self.listed = Some((sent, now));
        for (slot, (name, stage)) in (0..).zip(&mut self.controllers) {
            let Stage::Held { fence, since, .. } = stage else { continue };
            let is_foreign = self.known.get(&**name).is_none_or(|record| record.holder != *self.me);
            // Somebody has edited or deleted it: better none than two.
            if is_foreign && *since <= sent {
                fence.end();
                *stage = Stage::Stopping(None);
                self.news.push(News::Lost { slot });
            }
        }
    }

    fn on_written(&mut self, write: &Write, answer: Result<Answer, Failure>, now: Duration) {
        let Some(slot) = self.controllers.iter().position(|(name, _)| *name == write.name) else { return };
        let acquiring = match std::mem::replace(&mut self.controllers[slot].1, Stage::Free) {
            Stage::Acquiring { term, before } => Some((term, before)),
            Stage::Releasing => None,
            // It was answered before.
            other => {
                self.controllers[slot].1 = other;
                return;
            }
        };
        match self.well(answer) {
            Some(Answer::Written(record)) => {
                self.known.insert(write.name.to_string(), record.clone());
                if let Some((term, before)) = acquiring.filter(|(term, _)| !term.is_over(now)) {
                    let fence = Arc::new(Fence::new(term));
                    let tenure = record.tenure();
                    self.controllers[slot].1 = Stage::Held { fence: fence.clone(), record, since: now };
                    match self.ending {
                        Ending::No => self.news.push(News::Gained { slot: slot as u32, fence, before, tenure }),
                        _ => self.release_at_end(slot as u32),
                    }
                }
            }
            Some(_) | None => self.wants_list = true,
        }
        self.remove_at_end();
    }

    /// What each controller's Lease asks of this host, as far as it is known.
    fn decide(&mut self, now: Duration) {
        let Some(term) = self.term.clone().filter(|_| self.ending == Ending::No) else { return };
        let hosts_asked = self.hosts.asked();
        // Only what was read before the hosts were may be written over.
        let is_listed = self.listed.zip(hosts_asked).is_some_and(|((_, answered), asked)| answered <= asked)
            && self.listed.is_some_and(|(sent, _)| sent >= self.begun);
        for slot in 0..self.controllers.len() {
            let (name, stage) = &self.controllers[slot];
            let chosen = assigned(name, self.hosts.candidates(name, now));
            let is_mine = chosen == Some(&*self.me);
            let goes_away = !is_mine && chosen.is_some_and(|host| self.hosts.is_proven(host));
            match stage {
                Stage::Held { record, .. } if goes_away => {
                    let record = record.clone();
                    self.controllers[slot].1 = Stage::Stopping(Some(record));
                    self.news.push(News::GiveUp { slot: slot as u32 });
                }
                Stage::Free => {
                    let record = self.known.get(&**name);
                    let holder = record.map_or("", |record| &record.holder);
                    // From an earlier term or an earlier process on the same directory.
                    let was_mine = holder == &*self.me;
                    if !is_mine && !was_mine {
                        continue;
                    }
                    self.wants_list |= !is_listed;
                    if !is_listed {
                        continue;
                    }
                    if was_mine && goes_away {
                        let record = record.cloned().unwrap_or_default();
                        self.release(slot as u32, &record);
                    } else if was_mine || holder.is_empty() || self.hosts.is_dead(holder) {
                        self.acquire(slot, &term);
                    } else {
                        // Until its holder has given it up.
                        self.wants_list = true;
                    }
                }
                Stage::Held { .. } | Stage::Acquiring { .. } | Stage::Stopping(_) | Stage::Releasing => {}
            }
        }
        self.forget_dead(now);
    }

    fn acquire(&mut self, slot: usize, term: &Arc<Term>) {
        let (name, stage) = &mut self.controllers[slot];
        let record = self.known.get(&**name);
        let transitions = record.map_or(0, |record| record.transitions + i32::from(record.holder != *self.me));
        self.out.push(Request::Write(Write {
            role: Role::Controller,
            name: name.clone(),
            replaces: record.map(|record| record.version.clone()),
            holder: self.me.to_string(),
            transitions,
            acquired_us: self.started_us,
            duration: None,
            runs: Arc::default(),
        }));
        *stage = Stage::Acquiring { term: term.clone(), before: record.map(Record::tenure) };
    }

    /// Gives it back, so that the next holder need not wait.
    fn release(&mut self, slot: u32, record: &Record) {
        let (name, stage) = &mut self.controllers[slot as usize];
        self.out.push(Request::Write(Write {
            role: Role::Controller,
            name: name.clone(),
            replaces: Some(record.version.clone()),
            holder: String::new(),
            transitions: record.transitions,
            acquired_us: self.started_us,
            duration: None,
            runs: Arc::default(),
        }));
        *stage = Stage::Releasing;
    }

    /// Removes Leases of hosts that are gone for long and hold nothing; the first of the live ones does.
    fn forget_dead(&mut self, now: Duration) {
        if !self.hosts.is_first(now) {
            return;
        }
        let after = self.timing.lease_duration * FORGET_AFTER;
        for (host, version) in self.hosts.unchanged_for(after, now) {
            if !self.known.values().any(|record| record.holder == host) {
                self.out.push(Request::Delete { host, version });
            }
        }
    }
}

#[cfg(test)]
mod tests;
