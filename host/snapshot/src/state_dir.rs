//! The state directory: who may use it, and what lies where in it.
//!
//! | directory | owner | |
//! |---|---|---|
//! | given with `--state-dir` | this user | made private (0700) |
//! | | root, as volumes of Pods are | taken as it is, with a warning if every user may write there |
//! | | another user | refused |
//! | those within | this user | made private |
//! | | another user | refused |
//!
//! Files are used only if they belong to this user ([`Disk`]). So who can write the given directory may
//! rename and remove what is in it, but not put files of his own there.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::code_key::CodeKey;
use crate::disk::Disk;
use crate::encryption::{SealKey, Sealer};
use crate::store::ControllerStore;

/// A state directory, locked for this process.
pub struct StateDir {
    path: PathBuf,
    disk: Disk,
    key: Option<SealKey>,
    code_key: CodeKey,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
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

/// The user whom this host runs as.
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl StateDir {
    /// Creates the directory if need be (mode 0700) and locks it. See the module for who may own it.
    pub fn open(path: &Path) -> Result<StateDir, StateDirError> {
        StateDir::open_on(Disk::default(), path, None)
    }

    /// The same on a disk that may be a bad one, and with `key` to encrypt snapshots.
    pub fn open_on(disk: Disk, path: &Path, key: Option<SealKey>) -> Result<StateDir, StateDirError> {
        let not_writable = |source| StateDirError::NotWritable { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(path).map_err(not_writable)?;
        let owner = fs::metadata(path).map_err(not_writable)?.uid();
        match access(owner, user()) {
            Access::Own => make_private(path).map_err(not_writable)?,
            Access::Volume => {}
            Access::Foreign => return Err(StateDirError::Foreign { path: path.to_owned(), uid: owner }),
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
            // The group of a volume is set on all that is in it, and given the right to write.
            make_private(&sub).map_err(not_writable)?;
        }
        warn_of_mount(path, &lock);
        let code_key = CodeKey::open(&path.join("code"), key.as_ref()).map_err(not_writable)?;
        // What an earlier host has written counts as durable from here on.
        disk.sync_file_system(path, &[]).map_err(not_writable)?;
        Ok(StateDir { path: path.to_owned(), disk, key, code_key, _lock: lock })
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

    /// What compiled code is authenticated with.
    pub fn code_key(&self) -> &CodeKey {
        &self.code_key
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

/// What a directory is to a host, by who owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Own,
    /// Root's, and the host is another user who may write there.
    Volume,
    Foreign,
}

fn access(owner: u32, user: u32) -> Access {
    match owner {
        _ if owner == user => Access::Own,
        0 => Access::Volume,
        _ => Access::Foreign,
    }
}

/// What lies in the directory must be this user's.
fn check_part(path: &Path, meta: &fs::Metadata) -> Result<(), StateDirError> {
    match meta.uid() {
        uid if uid == user() => Ok(()),
        uid => Err(StateDirError::ForeignPart { path: path.to_owned(), uid }),
    }
}

/// Takes the group's and everybody else's rights away. A file system without modes keeps what it has.
fn make_private(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(0o700)) {
        Err(e) if !matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOTSUP)) => Err(e),
        _ => Ok(()),
    }
}

/// Says what is wrong with the place, as far as the host can live with it.
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
    fn roots_directory_is_a_volume_and_another_users_is_refused() {
        for (owner, user, expected) in [
            (1000, 1000, Access::Own),
            (0, 0, Access::Own),
            (0, 1000, Access::Volume),
            (1001, 1000, Access::Foreign),
            (1000, 0, Access::Foreign),
        ] {
            assert_eq!(access(owner, user), expected, "{owner} {user}");
        }
    }

    #[test]
    fn what_a_volume_has_opened_to_a_group_is_made_private_again() {
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
    fn parts_of_another_user_and_links_in_place_of_the_lock_are_refused() {
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
