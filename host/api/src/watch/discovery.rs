//! Turns (group, version, kind) into the resource that the API server serves for it.
//!
//! Watches share answers: a thousand watches that wait for the same CRD send one request a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use wasmop_core::watch::{Resolved, WaitReason, WatchRequest, may_be_built_in};

use super::definition::{self, Definition, Reason};
use super::failure::{Failure, FailureCause};
use crate::timeouts::TRANSFER_TIMEOUT;

/// Most answers kept, since a guest can ask for any number of groups.
const MAX_ANSWERS: usize = 256;

#[derive(Deserialize)]
struct ResourceList {
    /// Go writes an empty list as `null`.
    #[serde(default)]
    resources: Option<Vec<Resource>>,
}

#[derive(Clone, Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
}

/// A group version's resources at some time; `None` if it is not served.
type Answer = (Instant, Option<Vec<Resource>>);

/// Why a resource was missing at some time.
type Explanation = (Instant, Option<Reason>);

/// An answer that concurrent callers wait for together.
type SharedAnswer<T> = Arc<tokio::sync::Mutex<Option<T>>>;

/// Caches what the API server serves.
pub(super) struct Discovery {
    client: kube::Client,
    /// How long an answer without the resource stays valid.
    missing_for: Duration,
    /// By path. The inner lock makes concurrent callers wait for one answer.
    answers: Mutex<HashMap<String, SharedAnswer<Answer>>>,
    /// By the name of the CustomResourceDefinition and the version.
    explanations: Mutex<HashMap<(String, String), SharedAnswer<Explanation>>>,
    /// The host's identity has no permission to read CustomResourceDefinitions.
    definitions_denied: AtomicBool,
}

impl Discovery {
    pub fn new(client: kube::Client, missing_for: Duration) -> Self {
        let (answers, explanations) = (Mutex::default(), Mutex::default());
        Discovery { client, missing_for, answers, explanations, definitions_denied: AtomicBool::new(false) }
    }

    /// Finds the resource. Answers older than `not_before` are not used.
    pub async fn resolve(&self, request: &WatchRequest, not_before: Option<Instant>) -> Result<Resolved, Failure> {
        let version = request.api_version();
        let path = if request.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
        let answer = {
            let mut answers = self.answers.lock();
            shared(&mut answers, path.clone())
        };
        let mut answer = answer.lock().await;
        if let Some((at, resources)) = &*answer {
            match find(resources.as_deref(), request) {
                Some(resolved) if not_before.is_none_or(|oldest| *at >= oldest) => return Ok(resolved),
                None if at.elapsed() < self.missing_for => return Err(missing(request)),
                _ => {}
            }
        }
        let resources = match self.fetch::<ResourceList>(&path).await {
            Ok(list) => Some(list.resources.unwrap_or_default()),
            Err(failure) if failure.cause == FailureCause::Because(WaitReason::Missing) => None,
            Err(failure) => return Err(failure),
        };
        let found = find(resources.as_deref(), request).ok_or_else(|| missing(request));
        *answer = Some((Instant::now(), resources));
        found
    }

    /// Why a resource is missing, if its CustomResourceDefinition explains it.
    pub async fn reason(&self, request: &WatchRequest) -> Option<Reason> {
        if request.group.is_empty() || request.plural.is_empty() {
            return None;
        }
        let unreadable = || (!may_be_built_in(&request.group)).then(definition::unreadable);
        if self.definitions_denied.load(Ordering::Relaxed) {
            return unreadable();
        }
        let name = format!("{}.{}", request.plural, request.group);
        let explanation = {
            let mut explanations = self.explanations.lock();
            shared(&mut explanations, (name.clone(), request.version.clone()))
        };
        let mut explanation = explanation.lock().await;
        if let Some((at, reason)) = &*explanation
            && at.elapsed() < self.missing_for
        {
            return reason.clone();
        }
        let reason = match self.fetch::<Definition>(&format!("{}/{name}", definition::PATH)).await {
            Ok(definition) => Some(definition.reason(&request.version)),
            Err(failure) => {
                let is_denied = failure.cause == FailureCause::Because(WaitReason::Forbidden);
                self.definitions_denied.fetch_or(is_denied, Ordering::Relaxed);
                if is_denied { unreadable() } else { None }
            }
        };
        *explanation = Some((Instant::now(), reason.clone()));
        reason
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| Failure::new(WaitReason::Invalid, error.to_string()))?;
        let answer = tokio::time::timeout(TRANSFER_TIMEOUT, self.client.request::<T>(request));
        Ok(answer.await.map_err(|_| Failure::timed_out("answer discovery"))??)
    }
}

/// The answer for a key. Beyond the limit, answers that nobody waits for are evicted.
fn shared<K: Eq + Hash, T>(all: &mut HashMap<K, SharedAnswer<T>>, key: K) -> SharedAnswer<T> {
    if all.len() >= MAX_ANSWERS && !all.contains_key(&key) {
        all.retain(|_, value| Arc::strong_count(value) > 1);
    }
    all.entry(key).or_default().clone()
}

fn find(resources: Option<&[Resource]>, request: &WatchRequest) -> Option<Resolved> {
    let wanted = |resource: &&Resource| {
        !resource.name.contains('/')
            && if request.plural.is_empty() { resource.kind == request.kind } else { resource.name == request.plural }
    };
    let found = resources?.iter().find(wanted)?;
    Some(Resolved { plural: found.name.clone(), namespaced: found.namespaced })
}

pub(super) fn missing(request: &WatchRequest) -> Failure {
    let what = if request.plural.is_empty() { &request.kind } else { &request.plural };
    Failure::new(WaitReason::Missing, format!("the API server does not serve {what} in {}", request.api_version()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_answers_are_evicted_beyond_the_limit() {
        let mut all: HashMap<usize, SharedAnswer<Answer>> = HashMap::new();
        let waited_for = shared(&mut all, 0);
        for n in 1..10 * MAX_ANSWERS {
            shared(&mut all, n);
            assert!(all.len() <= MAX_ANSWERS, "{}", all.len());
        }
        assert!(Arc::ptr_eq(&waited_for, &shared(&mut all, 0)));
    }
}
