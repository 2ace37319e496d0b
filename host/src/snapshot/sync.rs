//! Makes written files durable and gives them their names, off the path of events.
//!
//! One thread, in the order of submission: fsync each new file, rename it, fsync the directory,
//! remove what it replaces. Until then the previous snapshot keeps its name, so losing power at any
//! point leaves either the old or the new one, whole.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

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
            for message in rx {
                match message {
                    Message::Job(Job { files, obsolete, done }) => done(commit(&files, &obsolete)),
                    Message::Barrier(reached) => {
                        let _ = reached.send(());
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

fn commit(files: &[NewFile], obsolete: &[PathBuf]) -> io::Result<()> {
    for NewFile { file, written_as, name } in files {
        file.sync_data()?;
        fs::rename(written_as, name)?;
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
