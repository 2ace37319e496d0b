//! What a host has seen of the others' Leases, by its own clock alone: another machine's is never compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::Record;
use super::timing::Timing;

/// A live host may miss as many renewals and stay one that controllers are given to.
const MISSED_RENEWALS: u32 = 3;

pub(super) struct Hosts {
    me: Arc<str>,
    timing: Timing,
    seen: BTreeMap<String, Seen>,
    /// Holders without a Lease of their own, and since when that has been seen.
    missing: BTreeMap<String, Duration>,
    /// When the last list was asked for that was answered.
    asked: Option<Duration>,
}

struct Seen {
    record: Record,
    /// When the answer came that first had it as it is.
    first: Duration,
    /// It was seen to change: there is a process that renews it.
    proven: bool,
}

impl Hosts {
    pub fn new(me: Arc<str>, timing: Timing) -> Hosts {
        Hosts { me, timing, seen: BTreeMap::new(), missing: BTreeMap::new(), asked: None }
    }

    /// A list of all hosts' Leases, asked for at `sent`, answered at `now`. `holders`: of controllers' Leases.
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

    pub fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// The own Lease, as it was seen or written last.
    pub fn own(&self) -> Option<&Record> {
        self.seen.get(&*self.me).map(|seen| &seen.record)
    }

    pub fn set_own(&mut self, record: Record, now: Duration) {
        self.seen.insert(self.me.to_string(), Seen { record, first: now, proven: true });
    }

    /// The Lease of this host's name is another process' that no longer renews it.
    pub fn is_own_dead(&self) -> bool {
        self.is_unchanged(&self.me)
    }

    /// Whether another host has not renewed its Lease for longer than it may.
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

    /// Hosts that a controller may be given to, this one included.
    pub fn candidates<'h>(&'h self, controller: &'h str, now: Duration) -> impl Iterator<Item = &'h str> {
        let others = self.alive(now).filter(move |(_, seen)| seen.record.runs.contains(controller));
        others.map(|(host, _)| host).chain(std::iter::once(&*self.me))
    }

    /// Others that seem to be alive.
    fn alive(&self, now: Duration) -> impl Iterator<Item = (&str, &Seen)> {
        let most = self.timing.retry_period * MISSED_RENEWALS;
        let others = self.seen.iter().filter(|(host, _)| **host != *self.me).map(|(host, seen)| (&**host, seen));
        others.filter(move |(_, seen)| now < seen.first + most)
    }

    /// Whether a host was seen to renew its Lease.
    pub fn is_proven(&self, host: &str) -> bool {
        self.seen.get(host).is_some_and(|seen| seen.proven)
    }

    /// Whether no other live host has a name before this one's.
    pub fn is_first(&self, now: Duration) -> bool {
        self.alive(now).all(|(host, _)| *self.me < *host)
    }

    /// Other hosts whose Leases have not changed for so long, with the versions of these.
    pub fn unchanged_for(&self, time: Duration, now: Duration) -> Vec<(String, String)> {
        let old = self.seen.iter().filter(|(host, seen)| **host != *self.me && seen.first + time <= now);
        old.map(|(host, seen)| (host.clone(), seen.record.version.clone())).collect()
    }
}
