//! The state directory: who may use it, and what lies where in it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::seal::{SealKey, Sealer};
use super::store::ControllerStore;

/// A state directory, locked for this process.
pub struct StateDir {
    path: PathBuf,
    disk: Disk,
    key: Option<SealKey>,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error(
        "cannot write to the state directory {path}: {source}\nhelp: choose another with --state-dir, or make it writable for this user"
    )]
    NotWritable { path: PathBuf, source: io::Error },
    #[error(
        "the state directory {path} is in use by another host{owner}\nhelp: stop that host, or give this one a directory of its own with --state-dir"
    )]
    InUse { path: PathBuf, owner: String },
    #[error(
        "the state directory {path} belongs to user {uid}; snapshots hold the memory of controllers, secrets included\nhelp: choose a directory of your own with --state-dir"
    )]
    Foreign { path: PathBuf, uid: u32 },
}

impl StateDir {
    /// Creates the directory if need be (mode 0700) and locks it.
    pub fn open(path: &Path) -> Result<StateDir, StateDirError> {
        StateDir::open_on(Disk::default(), path, None)
    }

    /// The same on a disk that may be a bad one, and with `key` to encrypt snapshots.
    pub fn open_on(disk: Disk, path: &Path, key: Option<SealKey>) -> Result<StateDir, StateDirError> {
        let not_writable = |source| StateDirError::NotWritable { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(not_writable)?;
        let meta = fs::metadata(path).map_err(not_writable)?;
        let user = rustix::process::geteuid().as_raw();
        if meta.uid() != user {
            return Err(StateDirError::Foreign { path: path.to_owned(), uid: meta.uid() });
        }
        if meta.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(not_writable)?;
        }
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(not_writable)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _ = lock.read_to_string(&mut owner);
            let owner = match owner.trim().parse::<u32>() {
                Ok(pid) => format!(" (process {pid})"),
                Err(_) => String::new(),
            };
            return Err(StateDirError::InUse { path: path.to_owned(), owner });
        }
        let write_pid = |lock: &mut File| -> io::Result<()> {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(not_writable)?;
        for sub in ["code", "images", "controllers", "watches"] {
            builder.create(path.join(sub)).map_err(not_writable)?;
        }
        // What an earlier host has written counts as durable from here on.
        disk.sync_file_system(path, &[]).map_err(not_writable)?;
        Ok(StateDir { path: path.to_owned(), disk, key, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn code_dir(&self) -> PathBuf {
        self.path.join("code")
    }

    pub fn image_path(&self, digest_hex: &str) -> PathBuf {
        self.path.join("images").join(format!("{digest_hex}.base"))
    }

    /// Where the controller `name` (a DNS label) keeps its snapshot.
    pub fn controller(&self, name: &str) -> io::Result<ControllerStore> {
        let dir = self.path.join("controllers").join(name);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        // A controller that is suspended has little room, and few are encrypted.
        let sealer = self.sealer(name)?.map(Box::new);
        Ok(ControllerStore::new(dir, self.disk.clone(), sealer))
    }

    /// Where watches keep what they have seen.
    pub fn watches_dir(&self) -> PathBuf {
        self.path.join("watches")
    }

    /// Encrypts what belongs to `name`, if anything is to be encrypted.
    pub fn sealer(&self, name: &str) -> io::Result<Option<Sealer>> {
        let sealer = |key| Sealer::new(key, name).ok_or_else(|| io::Error::other("no key can be derived"));
        self.key.as_ref().map(sealer).transpose()
    }
}
