//! Other hosts, as one host sees them through their Leases. It uses its own clock alone and never compares clocks of
//! two machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::timing::Timing;

/// Renewals that a live host may miss before it gets no more controllers.
const MISSED_RENEWALS: u32 = 3;

pub(super) struct Hosts {
    me: Arc<str>,
    timing: Timing,
    seen: BTreeMap<String, Seen>,
    /// Holders without a host Lease, and since when that has been seen.
    missing: BTreeMap<String, Duration>,
    /// When the last answered list was requested.
    asked: Option<Duration>,
}

struct Seen {
    record: Record,
    /// When this version was first seen.
    first: Duration,
    /// It was seen to change, so a process renews it.
    proven: bool,
}

impl Hosts {
    /// Knows no other hosts yet.
    pub fn new(me: Arc<str>, timing: Timing) -> Hosts {
        Hosts { me, timing, seen: BTreeMap::new(), missing: BTreeMap::new(), asked: None }
    }

    /// Takes in a list of all host Leases, requested at `sent` and answered at `now`. `holders`: of controllers'
    /// Leases.
    pub fn observe<'h>(
        &mut self,
        records: Vec<(String, Record)>,
        holders: impl Iterator<Item = &'h str>,
        sent: Duration,
        now: Duration,
    ) {
        let mut before = std::mem::take(&mut self.seen);
        for (host, record) in records {
            let seen = match before.remove(&host) {
                Some(seen) if seen.record.uid == record.uid && seen.record.version == record.version => seen,
                old => Seen { record, first: now, proven: old.is_some() },
            };
            self.seen.insert(host, seen);
        }
        let mut missed = std::mem::take(&mut self.missing);
        for holder in holders.filter(|holder| !holder.is_empty() && !self.seen.contains_key(*holder)) {
            let since = missed.remove(holder).unwrap_or(now);
            self.missing.entry(holder.to_owned()).or_insert(since);
        }
        self.asked = Some(sent);
    }

    /// When the last answered list was requested.
    pub fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// The own Lease, as last seen or written.
    pub fn own(&self) -> Option<&Record> {
        self.seen.get(&*self.me).map(|seen| &seen.record)
    }

    /// Takes in the own Lease as just written.
    pub fn set_own(&mut self, record: Record, now: Duration) {
        self.seen.insert(self.me.to_string(), Seen { record, first: now, proven: true });
    }

    /// Whether another process owns the Lease of this host's name and no longer renews it.
    pub fn is_own_dead(&self) -> bool {
        self.is_unchanged(&self.me)
    }

    /// Whether another host has missed the deadline to renew its Lease.
    pub fn is_dead(&self, host: &str) -> bool {
        host != &*self.me && self.is_unchanged(host)
    }

    fn is_unchanged(&self, host: &str) -> bool {
        let (since, duration) = match (self.seen.get(host), self.missing.get(host)) {
            (Some(seen), _) => (seen.first, self.timing.lease_duration.max(seen.record.duration)),
            (None, Some(since)) => (*since, self.timing.lease_duration),
            (None, None) => return false,
        };
        self.asked.is_some_and(|asked| since + duration <= asked)
    }

    /// Hosts that a controller may be assigned to, including this one.
    pub fn candidates<'h>(&'h self, controller: &'h str, now: Duration) -> impl Iterator<Item = &'h str> {
        let others = self.alive(now).filter(move |(_, seen)| seen.record.runs.contains(controller));
        others.map(|(host, _)| host).chain(std::iter::once(&*self.me))
    }

    /// Other hosts that seem alive.
    fn alive(&self, now: Duration) -> impl Iterator<Item = (&str, &Seen)> {
        let most = self.timing.retry_period * MISSED_RENEWALS;
        let others = self.seen.iter().filter(|(host, _)| **host != *self.me).map(|(host, seen)| (&**host, seen));
        others.filter(move |(_, seen)| now < seen.first + most)
    }

    /// Whether a host was seen to renew its Lease.
    pub fn is_proven(&self, host: &str) -> bool {
        self.seen.get(host).is_some_and(|seen| seen.proven)
    }

    /// Whether this host has the smallest name of all live hosts.
    pub fn is_first(&self, now: Duration) -> bool {
        self.alive(now).all(|(host, _)| *self.me < *host)
    }

    /// Other hosts whose Leases have not changed for `time`, with the versions of their Leases.
    pub fn unchanged_for(&self, time: Duration, now: Duration) -> Vec<(String, String)> {
        let old = self.seen.iter().filter(|(host, seen)| **host != *self.me && seen.first + time <= now);
        old.map(|(host, seen)| (host.clone(), seen.record.version.clone())).collect()
    }
}
