//! Puts written files on disk, off the path of events.
//!
//! One thread, in the order of submission: the new files, then away with what they replace. In a
//! burst, as at shutdown, one `syncfs` takes the place of an fsync for each file. Files are named, not
//! held open: thousands may wait.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::disk::Disk;

/// From this many jobs at once, the whole file system is synced.
const BURST: usize = 8;
/// Of `interval` without a duration.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// When what was written is put on disk. Decides what a crash of the *machine* may lose; a host that
/// is killed loses nothing of what it has written, whichever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After each suspend: the state of the last one is kept.
    #[default]
    Event,
    /// Once in a while, all together: what was written since may be lost, and older state is kept.
    Interval(Duration),
    /// Whenever the kernel does: a controller may lose its memory and start from its base image.
    None,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no durability\nhelp: use event, interval, interval=SECONDS or none")]
pub struct DurabilityError(String);

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Durability, DurabilityError> {
        match text {
            "event" => Ok(Durability::Event),
            "interval" => Ok(Durability::Interval(DEFAULT_INTERVAL)),
            "none" => Ok(Durability::None),
            _ => text
                .strip_prefix("interval=")
                .and_then(|s| s.strip_suffix('s').unwrap_or(s).parse::<f64>().ok())
                .filter(|seconds| (0.001..=86_400.0).contains(seconds))
                .map(|seconds| Durability::Interval(Duration::from_secs_f64(seconds)))
                .ok_or_else(|| DurabilityError(text.into())),
        }
    }
}

/// What one save has written.
pub struct Job {
    pub files: Vec<PathBuf>,
    /// Where a file is new: its directory entry is to last as well.
    pub dir: Option<PathBuf>,
    /// Removed once the rest is durable.
    pub obsolete: Vec<PathBuf>,
    pub done: Box<dyn FnOnce(io::Result<()>) + Send>,
}

enum Message {
    Job(Job),
    Barrier(mpsc::Sender<()>),
}

#[derive(Clone)]
pub struct Syncer(mpsc::Sender<Message>);

impl Syncer {
    pub fn start(disk: Disk, durability: Durability) -> io::Result<Syncer> {
        let (tx, rx) = mpsc::channel();
        thread::Builder::new().name("wasmop-sync".into()).spawn(move || {
            while let Ok(first) = rx.recv() {
                let mut burst = vec![first];
                if let Durability::Interval(interval) = durability {
                    collect(&rx, interval, &mut burst);
                }
                burst.extend(rx.try_iter());
                put_on_disk(&disk, durability, burst);
            }
        })?;
        Ok(Syncer(tx))
    }

    pub fn submit(&self, job: Job) {
        if let Err(mpsc::SendError(Message::Job(job))) = self.0.send(Message::Job(job)) {
            (job.done)(Err(io::Error::other("the sync thread has ended")));
        }
    }

    /// Waits until everything submitted so far is durable, as far as it is ever to be.
    pub fn flush(&self) {
        let (tx, rx) = mpsc::channel();
        if self.0.send(Message::Barrier(tx)).is_ok() {
            let _ = rx.recv();
        }
    }
}

/// Takes what comes in within `interval`, or until somebody waits.
fn collect(rx: &mpsc::Receiver<Message>, interval: Duration, burst: &mut Vec<Message>) {
    let until = Instant::now() + interval;
    while !matches!(burst.last(), Some(Message::Barrier(_))) {
        match rx.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(message) => burst.push(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn put_on_disk(disk: &Disk, durability: Durability, burst: Vec<Message>) {
    let jobs = || {
        burst.iter().filter_map(|message| match message {
            Message::Job(job) => Some(job),
            Message::Barrier(_) => None,
        })
    };
    let all = match durability {
        Durability::None => Some(Ok(())),
        Durability::Event | Durability::Interval(_) => {
            let any = jobs().find_map(|job| job.files.first());
            any.filter(|_| jobs().count() >= BURST).map(|any| {
                let files: Vec<&Path> = jobs().flat_map(|job| &job.files).map(PathBuf::as_path).collect();
                disk.sync_file_system(any, &files)
            })
        }
    };
    for message in burst {
        match message {
            Message::Job(job) => {
                let synced = match &all {
                    None => job.sync(disk),
                    Some(Ok(())) => Ok(()),
                    Some(Err(e)) => Err(io::Error::new(e.kind(), e.to_string())),
                };
                job.finish(disk, synced);
            }
            Message::Barrier(reached) => {
                let _ = reached.send(());
            }
        }
    }
}

impl Job {
    /// Does all of it now.
    pub fn run(self, disk: &Disk) {
        let synced = self.sync(disk);
        self.finish(disk, synced);
    }

    fn sync(&self, disk: &Disk) -> io::Result<()> {
        self.files.iter().chain(&self.dir).try_for_each(|path| disk.sync(path))
    }

    fn finish(self, disk: &Disk, synced: io::Result<()>) {
        let result = synced.and_then(|()| self.obsolete.iter().try_for_each(|path| disk.remove(path)));
        (self.done)(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_read_from_text_or_refused_with_what_is_possible() {
        for (text, expected) in [
            ("event", Durability::Event),
            ("none", Durability::None),
            ("interval", Durability::Interval(Duration::from_secs(30))),
            ("interval=5", Durability::Interval(Duration::from_secs(5))),
            ("interval=0.5s", Durability::Interval(Duration::from_millis(500))),
        ] {
            assert_eq!(text.parse::<Durability>().unwrap(), expected);
        }
        for text in ["", "always", "interval=", "interval=0", "interval=-1", "interval=inf", "interval=5m"] {
            let error = text.parse::<Durability>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("help:"), "{error}");
        }
    }
}
