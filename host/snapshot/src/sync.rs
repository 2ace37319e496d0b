//! Makes written files durable, off the path of events.
//!
//! One thread takes jobs in order of submission. It syncs the new files of a job, then removes the files that they
//! replace. In a burst, as at shutdown, one `syncfs` replaces the fsync of each file. Jobs name files and hold none
//! open, because thousands may wait.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::disk::Disk;

/// Jobs in a burst from which one sync of the whole file system is cheaper.
const BURST: usize = 8;
/// The interval of `interval` without a duration.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// When written snapshots are synced. It decides what a crash of the *machine* may lose. A killed host loses nothing
/// that it has written, with any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After each save. A crash loses no snapshot.
    #[default]
    Event,
    /// All snapshots together, once in this interval. A crash may lose those written since and keeps older ones.
    Interval(Duration),
    /// Whenever the kernel does. After a crash a controller may have to start from its base image.
    None,
}

/// A text that names no [`Durability`].
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

/// The files that one save has written.
pub struct SyncJob {
    /// Files to sync.
    pub files: Vec<PathBuf>,
    /// The directory to sync, if one of the files is new in it.
    pub dir: Option<PathBuf>,
    /// Files to remove once the others are durable.
    pub obsolete: Vec<PathBuf>,
    /// Called at the end with the result, on the thread that ran the job.
    pub done: Box<dyn FnOnce(io::Result<()>) + Send>,
}

enum SyncMessage {
    SyncJob(SyncJob),
    Barrier(mpsc::Sender<()>),
}

/// The thread that syncs. It ends when the last clone is dropped and all jobs are done.
#[derive(Clone)]
pub struct Syncer(mpsc::Sender<SyncMessage>);

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses another thread.
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

    /// Queues a job. Never blocks.
    pub fn submit(&self, job: SyncJob) {
        if let Err(mpsc::SendError(SyncMessage::SyncJob(job))) = self.0.send(SyncMessage::SyncJob(job)) {
            (job.done)(Err(io::Error::other("the sync thread has ended")));
        }
    }

    /// Waits until all jobs submitted so far are done.
    pub fn flush(&self) {
        let (tx, rx) = mpsc::channel();
        if self.0.send(SyncMessage::Barrier(tx)).is_ok() {
            let _ = rx.recv();
        }
    }
}

/// Collects messages for `interval`, or until somebody waits in [`Syncer::flush`].
fn collect(rx: &mpsc::Receiver<SyncMessage>, interval: Duration, burst: &mut Vec<SyncMessage>) {
    let until = Instant::now() + interval;
    while !matches!(burst.last(), Some(SyncMessage::Barrier(_))) {
        match rx.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(message) => burst.push(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn put_on_disk(disk: &Disk, durability: Durability, burst: Vec<SyncMessage>) {
    let jobs = || {
        burst.iter().filter_map(|message| match message {
            SyncMessage::SyncJob(job) => Some(job),
            SyncMessage::Barrier(_) => None,
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
            SyncMessage::SyncJob(job) => {
                let synced = match &all {
                    None => job.sync(disk),
                    Some(Ok(())) => Ok(()),
                    Some(Err(e)) => Err(io::Error::new(e.kind(), e.to_string())),
                };
                job.finish(disk, synced);
            }
            SyncMessage::Barrier(reached) => {
                let _ = reached.send(());
            }
        }
    }
}

impl SyncJob {
    /// Runs the job on this thread.
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
    fn durability_parses_from_text_or_the_error_lists_the_choices() {
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
