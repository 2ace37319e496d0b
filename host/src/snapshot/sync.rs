//! Makes written files durable and gives them their names, off the path of events.
//!
//! One thread, in the order of submission: the new files to disk, then their names, then away with
//! what they replace. Until then the previous snapshot keeps its name, so losing power at any point
//! leaves either the old or the new one, whole. In a burst, as at shutdown, one `syncfs` takes the
//! place of an fsync for each file.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

/// From this many jobs at once, the whole file system is synced.
const BURST: usize = 8;

/// Files that become visible together, in order: what the last one refers to comes before it.
pub struct Job {
    pub files: Vec<NewFile>,
    /// Removed once `files` are durable.
    pub obsolete: Vec<PathBuf>,
    pub done: Box<dyn FnOnce(io::Result<()>) + Send>,
}

pub struct NewFile {
    pub file: Arc<File>,
    pub written_as: PathBuf,
    pub name: PathBuf,
}

enum Message {
    Job(Job),
    Barrier(mpsc::Sender<()>),
}

#[derive(Clone)]
pub struct Syncer(mpsc::Sender<Message>);

impl Syncer {
    pub fn start() -> io::Result<Syncer> {
        let (tx, rx) = mpsc::channel();
        thread::Builder::new().name("wasmop-sync".into()).spawn(move || {
            while let Ok(first) = rx.recv() {
                let burst: Vec<Message> = std::iter::once(first).chain(rx.try_iter()).collect();
                let synced = burst.len() >= BURST && sync_file_system(&burst);
                for message in burst {
                    match message {
                        Message::Job(Job { files, obsolete, done }) => done(commit(&files, &obsolete, synced)),
                        Message::Barrier(reached) => {
                            let _ = reached.send(());
                        }
                    }
                }
            }
        })?;
        Ok(Syncer(tx))
    }

    pub fn submit(&self, job: Job) {
        if let Err(mpsc::SendError(Message::Job(job))) = self.0.send(Message::Job(job)) {
            (job.done)(Err(io::Error::other("the sync thread has ended")));
        }
    }

    /// Waits until everything submitted so far is durable.
    pub fn flush(&self) {
        let (tx, rx) = mpsc::channel();
        if self.0.send(Message::Barrier(tx)).is_ok() {
            let _ = rx.recv();
        }
    }
}

/// Puts all that is written so far on disk; `false` if that could not be done.
fn sync_file_system(burst: &[Message]) -> bool {
    let file = burst.iter().find_map(|message| match message {
        Message::Job(job) => job.files.first(),
        Message::Barrier(_) => None,
    });
    file.is_some_and(|f| rustix::fs::syncfs(&*f.file).is_ok())
}

/// `synced`: the files' content is on disk already.
fn commit(files: &[NewFile], obsolete: &[PathBuf], synced: bool) -> io::Result<()> {
    for NewFile { file, written_as, name } in files {
        if !synced {
            file.sync_data()?;
        }
        fs::rename(written_as, name)?;
    }
    if obsolete.is_empty() {
        // Either name is that of a whole snapshot, so it does not matter when the rename lasts.
        return Ok(());
    }
    if let Some(dir) = files.last().and_then(|f| f.name.parent()) {
        File::open(dir)?.sync_all()?;
    }
    for path in obsolete {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
