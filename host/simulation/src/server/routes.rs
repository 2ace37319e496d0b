//! A request to what it asks for, and that to an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};

use super::selection::Selection;
use super::watch_stream::Watch;
use super::{Server, lock};
use crate::cluster::{Kind, Object, Refusal, join};

/// What the server says.
pub(super) enum Answer {
    /// Status and body.
    Text(u16, String),
    Refused(Refusal),
    Watch(Box<Watch>),
}

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// Which resources a group version has.
    Discovery {
        group: String,
        version: String,
    },
    Collection {
        kind: Kind,
        namespace: Option<String>,
    },
    Object {
        kind: Kind,
        key: Arc<str>,
    },
    Unknown,
}

fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => ("", version, rest),
        ["apis", group, version, ref rest @ ..] => (group, version, rest),
        _ => return Target::Unknown,
    };
    let kind_of = |plural: &str| {
        Kind::ALL.into_iter().find(|kind| {
            let (of_group, of_version, of_plural, _) = kind.names();
            (of_group, of_version, of_plural) == (group, version, plural)
        })
    };
    let (namespace, rest) = match *rest {
        [] => return Target::Discovery { group: group.into(), version: version.into() },
        ["namespaces", namespace, ref rest @ ..] if !rest.is_empty() => (Some(namespace), rest),
        ref rest => (None, rest),
    };
    match *rest {
        [plural] => kind_of(plural)
            .map_or(Target::Unknown, |kind| Target::Collection { kind, namespace: namespace.map(str::to_owned) }),
        [plural, name] | [plural, name, "status"] => {
            kind_of(plural).map_or(Target::Unknown, |kind| Target::Object { kind, key: join(namespace, name) })
        }
        _ => Target::Unknown,
    }
}

/// The parameters of a request.
fn query(parts: &Parts) -> BTreeMap<String, String> {
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

fn not_found() -> Answer {
    Answer::Refused(Refusal::new(404, "NotFound"))
}

fn refused<T>(result: Result<T, Refusal>, answer: impl FnOnce(T) -> Answer) -> Answer {
    result.map_or_else(Answer::Refused, answer)
}

/// Which controller makes a request, by its user agent; empty for anybody else.
fn actor(parts: &Parts) -> Arc<str> {
    let agent = parts.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let name = agent.split_once("controller/").map_or("", |(_, rest)| rest);
    name.split([';', ')']).next().unwrap_or_default().into()
}

impl Server {
    pub(super) fn carry_out(&self, host: usize, parts: &Parts, body: &[u8]) -> Answer {
        let (now, actor) = (self.now(), actor(parts));
        let target = target(parts.uri.path());
        let lacks = |kind: Kind| self.faults().lacks(kind, now);
        let answer = match (&target, &parts.method) {
            (Target::Unknown, _) => not_found(),
            (Target::Discovery { group, version }, _) => self.discovery(group, version, now),
            (Target::Collection { kind, .. } | Target::Object { kind, .. }, _) if lacks(*kind) => {
                Answer::Text(404, "404 page not found\n".into())
            }
            (Target::Collection { kind, namespace }, &Method::GET) => self.read(host, *kind, namespace.clone(), parts),
            (Target::Collection { kind, namespace }, &Method::POST) => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("unnamed");
                let key = join(namespace.as_deref(), name);
                refused(self.change(|cluster, now| cluster.create(*kind, key, body, &actor, now)), |object| {
                    Answer::Text(201, object.text.to_string())
                })
            }
            (Target::Object { kind, key }, &Method::GET) => match self.cluster().get(*kind, key) {
                Some(object) => Answer::Text(200, object.text.to_string()),
                None => not_found(),
            },
            (Target::Object { kind: Kind::ConfigMap, .. }, &Method::PUT) if self.drops_writes && self.percent(30) => {
                Answer::Text(200, String::from_utf8_lossy(body).into())
            }
            (Target::Object { kind, key }, &Method::PUT | &Method::PATCH) => {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let merges = parts.method == Method::PATCH;
                let written = self.change(|cluster, now| cluster.update(*kind, key, body, merges, &actor, now));
                refused(written, |object| Answer::Text(200, object.text.to_string()))
            }
            (Target::Object { kind, key }, &Method::DELETE) => {
                let options: Value = serde_json::from_slice(body).unwrap_or_default();
                let version = options.pointer("/preconditions/resourceVersion").and_then(Value::as_str);
                let deleted = self.change(|cluster, now| cluster.delete(*kind, key, version, &actor, now));
                refused(deleted, |object| Answer::Text(200, object.text.to_string()))
            }
            _ => Answer::Refused(Refusal::new(405, "MethodNotAllowed")),
        };
        let status = match &answer {
            Answer::Text(status, _) => *status,
            Answer::Refused(refusal) => refusal.code,
            Answer::Watch(_) => 0,
        };
        self.observer.on_request(host, &actor, parts.method.as_str(), parts.uri.path(), status);
        answer
    }

    fn discovery(&self, group: &str, version: &str, now: Duration) -> Answer {
        let faults = self.faults();
        let served = Kind::ALL.into_iter().filter(|kind| {
            let (of_group, of_version, ..) = kind.names();
            (of_group, of_version) == (group, version)
        });
        let served: Vec<Kind> = served.filter(|kind| !faults.lacks(*kind, now)).collect();
        if served.is_empty() {
            return not_found();
        }
        let resource = |kind: Kind| {
            let (_, _, plural, name) = kind.names();
            json!({"name": plural, "kind": name, "namespaced": kind.namespaced(), "verbs": ["list", "watch"]})
        };
        let resources: Vec<Value> = served.into_iter().map(resource).collect();
        Answer::Text(200, json!({"kind": "APIResourceList", "resources": resources}).to_string())
    }

    /// A list or a watch.
    fn read(&self, host: usize, kind: Kind, namespace: Option<String>, parts: &Parts) -> Answer {
        let query = query(parts);
        let selection = Selection::new(namespace, &query);
        let accept = parts.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_partial = accept.is_some_and(|accept| accept.contains("PartialObjectMetadata"));
        // What a guest lists says nothing of what its host has seen.
        let reader = actor(parts).is_empty().then_some(host);
        match query.get("watch").map(String::as_str) {
            Some("1" | "true") => self.watch((host, kind), selection, is_partial, &query),
            _ => self.list((reader, kind), &selection, is_partial, &query),
        }
    }

    fn list(
        &self,
        (reader, kind): (Option<usize>, Kind),
        selection: &Selection,
        is_partial: bool,
        query: &BTreeMap<String, String>,
    ) -> Answer {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
        let limit = limit.map_or(usize::MAX, |limit: usize| limit.min(self.traits.page));
        let mut cluster = self.cluster();
        let mut pages = lock(&self.pages);
        let (revision, mut rest) = match query.get("continue").filter(|token| !token.is_empty()) {
            None => (cluster.revision, cluster.of(kind).filter(|object| selection.has(object)).cloned().collect()),
            Some(token) => match pages.remove(token) {
                Some((revision, rest)) if revision >= cluster.compacted => (revision, rest),
                _ => return Answer::Refused(Refusal::new(410, "Expired")),
            },
        };
        let left = rest.split_off(rest.len().min(limit));
        let text = |object: &Arc<Object>| if is_partial { object.partial.clone() } else { object.text.clone() };
        let items: Vec<Arc<str>> = rest.iter().map(text).collect();
        if let Some(host) = reader {
            lock(&self.told).tell(host, kind, revision, cluster.epoch);
            cluster.show(rest.iter().map(|object| object.uid));
        }
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if !left.is_empty() {
            let token = format!("{revision}-{}", lock(&self.random).number());
            meta["continue"] = token.clone().into();
            pages.insert(token, (revision, left));
        }
        let (list, api_version) = match is_partial {
            true => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            false => (format!("{}List", kind.names().3), kind.api_version()),
        };
        let items = items.join(",");
        Answer::Text(
            200,
            format!(r#"{{"kind":"{list}","apiVersion":"{api_version}","metadata":{meta},"items":[{items}]}}"#),
        )
    }

    fn watch(
        &self,
        (host, kind): (usize, Kind),
        selection: Selection,
        is_partial: bool,
        query: &BTreeMap<String, String>,
    ) -> Answer {
        let has = |name: &str| query.get(name).is_some_and(|value| value == "true");
        let initial = has("sendInitialEvents");
        if initial && !self.traits.streams_lists {
            return Answer::Refused(Refusal::new(422, "Invalid"));
        }
        let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        let mut cluster = self.cluster();
        if from > cluster.revision {
            return Answer::Refused(Refusal::new(504, "Timeout"));
        }
        if let Some(epoch) = lock(&self.told).epoch(host, kind, from).filter(|_| !initial) {
            cluster.note_watch(kind, from, epoch);
        }
        let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(1800);
        let lasts = Duration::from_secs(seconds);
        Answer::Watch(Box::new(Watch {
            kind,
            selection,
            is_partial,
            from,
            initial,
            bookmarks: has("allowWatchBookmarks"),
            lasts,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let collection =
            |kind, namespace: Option<&str>| Target::Collection { kind, namespace: namespace.map(Into::into) };
        let object = |kind, key: &str| Target::Object { kind, key: key.into() };
        for (path, expected) in [
            ("/api/v1", Target::Discovery { group: String::new(), version: "v1".into() }),
            ("/apis/demo.wasmop.dev/v1", Target::Discovery { group: "demo.wasmop.dev".into(), version: "v1".into() }),
            ("/api/v1/configmaps", collection(Kind::ConfigMap, None)),
            ("/api/v1/namespaces/a/secrets", collection(Kind::Secret, Some("a"))),
            ("/apis/demo.wasmop.dev/v1/zones/z", object(Kind::Zone, "z")),
            ("/apis/demo.wasmop.dev/v1/namespaces/a/websites/x/status", object(Kind::Website, "a/x")),
            ("/apis/demo.wasmop.dev/v2/zones", Target::Unknown),
            ("/version", Target::Unknown),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(decode("app%3Dx%2Ctier+a%zz"), "app=x,tier a%zz");
    }
}
