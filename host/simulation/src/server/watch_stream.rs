//! One watch as the API server serves it: a line an event, bookmarks, and every way in which it can end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::selection::Selection;
use super::{ResponseBody, Server, status_json};
use crate::cluster::{Kind, LogEntry, Object, Refusal};
use crate::faults::Fault;

/// A dead HTTP/2 connection is noticed after a PING and its time-out.
const PINGS_UNANSWERED: Duration = Duration::from_secs(30);

/// What a watch was asked for.
pub(super) struct Watch {
    pub kind: Kind,
    pub selection: Selection,
    pub is_partial: bool,
    /// Changes after this resource version; 0 with `initial`: all there is, then what changes.
    pub from: u64,
    pub initial: bool,
    pub bookmarks: bool,
    pub lasts: Duration,
}

struct Stream {
    server: Arc<Server>,
    host: usize,
    watch: Watch,
    position: u64,
    epoch: u64,
    cuts: u64,
    ends: Instant,
    next_bookmark: Instant,
    /// Each with the UID of its object.
    lines: VecDeque<(Bytes, Option<u64>)>,
    /// Nothing comes after `lines`.
    is_over: bool,
}

/// The body of a watch's response.
pub(super) fn body(server: Arc<Server>, host: usize, watch: Watch) -> ResponseBody {
    let now = Instant::now();
    let (epoch, cuts) = (server.cluster().epoch, server.faults().cuts);
    let (ends, next_bookmark) = (now + watch.lasts, now + server.traits.bookmarks);
    let position = watch.from;
    let (lines, is_over) = Default::default();
    let mut stream = Stream { server, host, watch, position, epoch, cuts, ends, next_bookmark, lines, is_over };
    if stream.watch.initial {
        stream.list();
    }
    let frames = futures::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk.map(Frame::data), stream))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "simulated: the watch was cut")
}

impl Stream {
    fn list(&mut self) {
        let cluster = self.server.cluster();
        let objects: Vec<_> = cluster.of(self.watch.kind).filter(|it| self.watch.selection.has(it)).cloned().collect();
        self.position = cluster.revision;
        drop(cluster);
        for object in objects {
            self.push("ADDED", &object);
        }
        self.bookmark(true);
    }

    fn push(&mut self, kind: &str, object: &Object) {
        let text = if self.watch.is_partial { &object.partial } else { &object.text };
        self.lines.push_back((format!("{{\"type\":\"{kind}\",\"object\":{text}}}\n").into(), Some(object.uid)));
    }

    /// The host may continue from this version.
    fn tell(&self, revision: u64) {
        super::lock(&self.server.told).tell(self.host, self.watch.kind, revision, self.epoch);
    }

    fn bookmark(&mut self, ends_list: bool) {
        self.tell(self.position);
        let mut meta = json!({"resourceVersion": self.position.to_string()});
        if ends_list {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = (self.watch.kind.names().3, self.watch.kind.api_version());
        let object = json!({"kind": kind, "apiVersion": version, "metadata": meta});
        self.lines.push_back((format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").into(), None));
    }

    /// How the watch sees a change: type and object.
    fn seen(&self, entry: &LogEntry) -> Option<&'static str> {
        let selection = &self.watch.selection;
        let had = entry.old.as_ref().is_some_and(|old| selection.has(old));
        let has = !entry.gone && selection.has(&entry.object);
        match (had, has) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    /// Takes in what has changed.
    fn read_log(&mut self) {
        let server = self.server.clone();
        let cluster = server.cluster();
        if self.position < cluster.compacted {
            let status = status_json(&Refusal::new(410, "Expired"));
            self.lines.push_back((format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into(), None));
            self.is_over = true;
            return;
        }
        let first = cluster.log.partition_point(|entry| entry.revision <= self.position);
        let news: Vec<LogEntry> =
            cluster.log.range(first..).filter(|entry| entry.object.kind == self.watch.kind).cloned().collect();
        self.position = cluster.revision;
        drop(cluster);
        for entry in news {
            let Some(kind) = self.seen(&entry) else { continue };
            self.tell(entry.revision);
            self.push(kind, &entry.object);
            if server.has(Fault::Duplicates) && server.percent(30) {
                self.push(kind, &entry.object);
            }
        }
    }

    /// The next line arrives.
    fn deliver(&mut self) -> Option<io::Result<Bytes>> {
        let (line, uid) = self.lines.pop_front()?;
        self.server.cluster().show(uid);
        Some(Ok(line))
    }

    /// How a watch ends that the network cuts: at once, or in the middle of a line.
    fn break_off(&mut self) -> Option<io::Result<Bytes>> {
        self.is_over = true;
        let line = self.lines.pop_front();
        self.lines.clear();
        match line {
            Some((line, _)) if self.server.percent(50) => Some(Ok(line.slice(..line.len() / 2))),
            _ if self.server.percent(50) => None,
            _ => Some(Err(cut())),
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let server = self.server.clone();
            let changed = server.changed.notified();
            server.go_on(self.host).await;
            let (now, world) = (Instant::now(), server.now());
            let (is_cut, frozen_until, cut_off_until) = {
                let faults = server.faults();
                let is_cut = faults.cuts != self.cuts || faults.has(Fault::Down, world);
                (is_cut, faults.until(Fault::FrozenWatches), faults.cut_off_until(self.host))
            };
            let is_other = server.cluster().epoch != self.epoch || server.faults().lacks(self.watch.kind, world);
            if self.is_over {
                return self.deliver();
            }
            if is_cut || is_other {
                self.read_ahead(is_other);
                return self.break_off();
            }
            if cut_off_until > world {
                let left = cut_off_until - world;
                if left >= PINGS_UNANSWERED && server.traits.is_http2 {
                    tokio::time::sleep(PINGS_UNANSWERED).await;
                    self.is_over = true;
                    self.lines.clear();
                    return Some(Err(cut()));
                }
                tokio::time::sleep(left).await;
                continue;
            }
            if frozen_until > world {
                tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep(frozen_until - world) => {}
                }
                continue;
            }
            if let Some(line) = self.deliver() {
                return Some(line);
            }
            self.read_log();
            if !self.lines.is_empty() {
                // The way to the host.
                let latency = server.draw(Duration::from_millis(1), server.traits.latency);
                tokio::time::sleep(latency).await;
                continue;
            }
            if now >= self.ends {
                return None;
            }
            if self.watch.bookmarks && now >= self.next_bookmark {
                self.next_bookmark = now + server.traits.bookmarks;
                self.bookmark(false);
                continue;
            }
            let until = if self.watch.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// What was on its way when the watch was cut.
    fn read_ahead(&mut self, is_other: bool) {
        if !is_other {
            self.read_log();
        }
    }
}
