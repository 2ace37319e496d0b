//! The state directory: who may own it, and what is where in it.
//!
//! | directory | owner | |
//! |---|---|---|
//! | given with `--state-dir` | this user | made private (mode 0700) |
//! | | root, as of a Pod's volume | used as it is, with a warning if every user may write there |
//! | | another user | refused |
//! | its subdirectories | this user | made private |
//! | | another user | refused |
//!
//! The host uses a file only if it belongs to this user ([`Disk`]). So other users who can write to the given directory
//! can rename and remove its entries, but cannot plant files.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::code_key::CodeKey;
use crate::disk::Disk;
use crate::encryption::{Cipher, EncryptionKey};
use crate::store::ControllerStore;

/// A state directory, locked for this process.
pub struct StateDir {
    path: PathBuf,
    disk: Disk,
    key: Option<EncryptionKey>,
    code_key: CodeKey,
    _lock: File,
}

/// Why a host cannot use a state directory.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum StateDirError {
    #[error(
        "cannot write to the state directory {path}: {source}\nhelp: choose another with --state-dir, or make it writable for user {user}: `chown -R {user} {path}`; in a Pod, set `fsGroup` in its securityContext",
        user = user()
    )]
    NotWritable { path: PathBuf, source: io::Error },
    #[error(
        "the state directory {path} is in use by another host{owner}\nhelp: stop that host, or give this one a directory of its own with --state-dir"
    )]
    InUse { path: PathBuf, owner: String },
    #[error(
        "the state directory {path} belongs to user {uid}, and this host runs as user {user}: snapshots hold the memory of controllers, secrets included\nhelp: give the host a directory of its own with --state-dir, for example {path}/wasmop, or `chown -R {user} {path}`",
        user = user()
    )]
    Foreign { path: PathBuf, uid: u32 },
    #[error(
        "{path} in the state directory belongs to user {uid}, and this host runs as user {user}\nhelp: `chown -R {user}` it, or remove it: controllers then start from their base images. Where the file system gives all files one owner, mount it with `uid={user}`",
        user = user()
    )]
    ForeignPart { path: PathBuf, uid: u32 },
}

/// The user that this host runs as.
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl StateDir {
    /// Creates the directory (mode 0700) if it does not exist, and locks it.
    ///
    /// # Errors
    /// If the directory cannot be written, another host uses it, or another user owns it or a part of it.
    pub fn open(path: &Path) -> Result<StateDir, StateDirError> {
        StateDir::open_on(Disk::default(), path, None)
    }

    /// Like [`StateDir::open`], on `disk`. With a `key`, snapshots and journals are encrypted.
    ///
    /// # Errors
    /// Those of [`StateDir::open`].
    pub fn open_on(disk: Disk, path: &Path, key: Option<EncryptionKey>) -> Result<StateDir, StateDirError> {
        let not_writable = |source| StateDirError::NotWritable { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(not_writable)?;
        let owner = fs::metadata(path).map_err(not_writable)?.uid();
        match dir_owner(owner, user()) {
            DirOwner::Own => make_private(path).map_err(not_writable)?,
            DirOwner::Volume => {}
            DirOwner::Foreign => return Err(StateDirError::Foreign { path: path.to_owned(), uid: owner }),
        }
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path.join("lock"))
            .map_err(not_writable)?;
        check_part(&path.join("lock"), &lock.metadata().map_err(not_writable)?)?;
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
            let sub = path.join(sub);
            builder.create(&sub).map_err(not_writable)?;
            check_part(&sub, &fs::symlink_metadata(&sub).map_err(not_writable)?)?;
            check_part(&sub, &fs::metadata(&sub).map_err(not_writable)?)?;
            // Kubernetes makes everything in a volume writable for the volume's group.
            make_private(&sub).map_err(not_writable)?;
        }
        warn_of_mount(path, &lock);
        let code_key = CodeKey::open(&path.join("code"), key.as_ref()).map_err(not_writable)?;
        // From here on, everything that an earlier host wrote counts as durable.
        disk.sync_file_system(path, &[]).map_err(not_writable)?;
        Ok(StateDir { path: path.to_owned(), disk, key, code_key, _lock: lock })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that the directory is on.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Directory of compiled code and packages.
    pub fn code_dir(&self) -> PathBuf {
        self.path.join("code")
    }

    /// The key that authenticates compiled code.
    pub fn code_key(&self) -> &CodeKey {
        &self.code_key
    }

    /// Path of a package's base image. `digest_hex`: SHA-256 of the package.
    pub fn image_path(&self, digest_hex: &str) -> PathBuf {
        self.path.join("images").join(format!("{digest_hex}.base"))
    }

    /// The files of the controller `name`, a DNS label.
    ///
    /// # Errors
    /// If its directory cannot be created, or no key can be derived.
    pub fn controller(&self, name: &str) -> io::Result<ControllerStore> {
        let dir = self.path.join("controllers").join(name);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        // In a box: suspended controllers should be small, and few are encrypted.
        let cipher = self.cipher(name)?.map(Box::new);
        Ok(ControllerStore::new(dir, self.disk.clone(), cipher))
    }

    /// Directory of the journals of watches.
    pub fn watches_dir(&self) -> PathBuf {
        self.path.join("watches")
    }

    /// The cipher for the data of `name`; `None` if the host does not encrypt.
    ///
    /// # Errors
    /// If no key can be derived.
    pub fn cipher(&self, name: &str) -> io::Result<Option<Cipher>> {
        let cipher = |key| Cipher::new(key, name).ok_or_else(|| io::Error::other("no key can be derived"));
        self.key.as_ref().map(cipher).transpose()
    }
}

/// Who owns a directory, from the host's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DirOwner {
    /// The host's user.
    Own,
    /// Root, while the host runs as another user.
    Volume,
    /// Any other user.
    Foreign,
}

fn dir_owner(owner: u32, user: u32) -> DirOwner {
    match owner {
        _ if owner == user => DirOwner::Own,
        0 => DirOwner::Volume,
        _ => DirOwner::Foreign,
    }
}

/// Checks that a part of the directory belongs to this user.
fn check_part(path: &Path, meta: &fs::Metadata) -> Result<(), StateDirError> {
    match meta.uid() {
        uid if uid == user() => Ok(()),
        uid => Err(StateDirError::ForeignPart { path: path.to_owned(), uid }),
    }
}

/// Removes the rights of the group and of others. A file system without modes keeps its own.
fn make_private(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    let others = fs::Permissions::from_mode(0o077).mode();
    if mode & others == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(0o700)) {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOTSUP)) => Err(e),
        _ => Ok(()),
    }
}

/// Warns of properties of the directory that the host can work with, but should not have.
fn warn_of_mount(path: &Path, lock: &File) {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let mode = fs::metadata(path).map_or(0, |meta| meta.mode());
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        tracing::warn!(
            path = %path.display(),
            "every user of this machine may rename and remove what is in the state directory; help: in a Pod, set \
             `fsGroup` in its securityContext; elsewhere, use a directory of this user's, for example {}/wasmop",
            path.display()
        );
    }
    if rustix::fs::fstatvfs(lock).is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC)) {
        tracing::warn!(
            path = %path.display(),
            "the state directory is mounted noexec: compiled code is copied into memory, up to some MiB for each \
             package; help: mount it with exec, or choose another with --state-dir"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_owns_volumes_and_other_users_are_foreign() {
        for (owner, user, expected) in [
            (1000, 1000, DirOwner::Own),
            (0, 0, DirOwner::Own),
            (0, 1000, DirOwner::Volume),
            (1001, 1000, DirOwner::Foreign),
            (1000, 0, DirOwner::Foreign),
        ] {
            assert_eq!(dir_owner(owner, user), expected, "{owner} {user}");
        }
    }

    #[test]
    fn directories_opened_to_a_group_are_made_private_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path()).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let parts = ["", "code", "images", "controllers", "watches"].map(|part| dir.path().join(part));
        for part in &parts {
            fs::set_permissions(part, fs::Permissions::from_mode(0o2770)).unwrap();
        }
        drop(StateDir::open(dir.path()).unwrap());
        for part in &parts {
            assert_eq!(mode(part) & 0o777, 0o700, "{}", part.display());
        }
    }

    #[test]
    fn parts_of_another_user_and_a_linked_lock_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path()).unwrap());
        if user() == 0 {
            for part in ["code", "controllers", "lock"] {
                let part = dir.path().join(part);
                std::os::unix::fs::lchown(&part, Some(65_534), None).unwrap();
                let error = StateDir::open(dir.path()).err().expect("is refused").to_string();
                assert!(error.contains(part.to_str().unwrap()) && error.contains("help:"), "{error}");
                std::os::unix::fs::lchown(&part, Some(0), None).unwrap();
            }
        }
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("lock")).unwrap();
        assert!(StateDir::open(dir.path()).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
