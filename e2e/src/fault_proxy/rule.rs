//! Rules: which requests fail, and how. Also the counts of requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

/// How long a test waits for requests to arrive.
const TIMEOUT: Duration = Duration::from_secs(45);

/// A fault of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is forwarded after this time.
    Delay(Duration),
    /// The request is forwarded when the rule is released or dropped.
    Hold,
    /// The response has this status; the request is not forwarded.
    Status { code: u16, retry_after_seconds: Option<u32> },
    /// The request is forwarded, and the connection breaks after this many bytes of the response body.
    Cut { after_bytes: usize },
    /// The request is forwarded, and the response body arrives in pieces of `bytes` with a pause before each.
    Slow { bytes: usize, pause: Duration },
    /// The response is 302 with this location.
    Redirect(String),
    /// The response has a JSON content type and is not JSON.
    Garbage,
    /// The response is a successful HTML page, as from a proxy that requires a login.
    Html,
}

/// Which requests fail, and how. The first matching rule applies.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Empty for any.
    pub method: String,
    /// A part of path and query; empty for any.
    pub path: String,
    pub fault: Fault,
    /// The number of requests it applies to; `None` for all.
    pub times: Option<u64>,
}

impl Rule {
    pub fn new(method: &str, path: &str, fault: Fault) -> Self {
        Rule { method: method.into(), path: path.into(), fault, times: None }
    }

    /// Limits the rule to the next `times` requests.
    pub fn times(self, times: u64) -> Self {
        Rule { times: Some(times), ..self }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        (self.method.is_empty() || self.method == method) && path.contains(&self.path)
    }
}

/// A rule in force. Dropping it removes the rule and releases held requests.
pub struct ActiveRule {
    id: u64,
    hits: watch::Receiver<u64>,
    state: Arc<State>,
}

impl ActiveRule {
    /// Requests that the rule has applied to.
    pub fn hits(&self) -> u64 {
        *self.hits.borrow()
    }

    /// Waits until the rule has applied to this many requests, with a deadline.
    pub async fn until_waiting(&self, requests: u64) -> Result<()> {
        let mut hits = self.hits.clone();
        let enough = hits.wait_for(|now| *now >= requests);
        match tokio::time::timeout(TIMEOUT, enough).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("the fault proxy waited for {requests} requests, but only {} came", self.hits()),
        }
    }

    /// Ends the rule: held requests are forwarded, and it applies to no more requests.
    pub fn release(&self) {
        self.state.lock().rules.retain(|rule| rule.id != self.id);
    }
}

impl Drop for ActiveRule {
    fn drop(&mut self) {
        self.release();
    }
}

/// A rule inside the proxy. Dropping it closes `hits`, which releases held requests.
struct Held {
    id: u64,
    rule: Rule,
    hits: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct Inner {
    rules: Vec<Held>,
    next_id: u64,
    /// Requests by method and path without query.
    pub counts: BTreeMap<(String, String), u64>,
    /// Requests that start a list, by path, including those that start a watch. Every `GET` that is no watch counts.
    pub lists: BTreeMap<String, u64>,
    /// The header `traceparent` of all requests that have it.
    pub traceparents: Vec<String>,
}

pub(super) struct State {
    pub upstream: kube::Client,
    inner: Mutex<Inner>,
}

impl State {
    pub fn new(upstream: kube::Client) -> State {
        State { upstream, inner: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a rule in force.
    pub fn add(self: &Arc<State>, rule: Rule) -> ActiveRule {
        let mut inner = self.lock();
        let (sender, hits) = watch::channel(0);
        let id = inner.next_id;
        inner.next_id += 1;
        inner.rules.push(Held { id, rule, hits: sender });
        ActiveRule { id, hits, state: self.clone() }
    }

    /// Counts the request, and finds its fault.
    pub fn apply_rule(&self, method: &str, path: &str) -> Option<(Fault, watch::Receiver<u64>)> {
        let mut inner = self.lock();
        let without_query = path.split('?').next().unwrap_or_default();
        *inner.counts.entry((method.into(), without_query.into())).or_default() += 1;
        let is_watch = path.contains("watch=true") || path.contains("watch=1");
        if method == "GET" && (!is_watch || path.contains("sendInitialEvents=true")) {
            *inner.lists.entry(without_query.into()).or_default() += 1;
        }
        let applies = |held: &&Held| {
            held.rule.matches(method, path) && held.rule.times.is_none_or(|times| *held.hits.borrow() < times)
        };
        let held = inner.rules.iter().find(applies)?;
        held.hits.send_modify(|hits| *hits += 1);
        Some((held.rule.fault.clone(), held.hits.subscribe()))
    }
}
