//! The lock file of a project's workspace, which a build does not change.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

use crate::atomic_file;
use crate::error::HelpExt;
use crate::interrupt::Cleanup;

/// The lock file of the project's workspace.
///
/// Invariant: while a build with patches runs on a cargo that writes to the lock file, the original is in `saved`. A
/// build that finds a `saved` file restores it first.
pub struct LockFile {
    path: PathBuf,
    saved: PathBuf,
}

impl LockFile {
    pub fn of(metadata: &Metadata) -> LockFile {
        let root = metadata.workspace_root.as_std_path();
        LockFile { path: root.join("Cargo.lock"), saved: root.join("target").join("wasmop").join("Cargo.lock.saved") }
    }

    /// Restores the original after a build that was killed.
    pub fn restore(&self) -> Result<()> {
        restore_from(&self.saved, &self.path).or_help(
            format!("cannot restore {} after an interrupted build", self.path.display()),
            format!("its original is {}", self.saved.display()),
        )
    }

    /// Saves the original. It is restored when the returned value is dropped or the program is interrupted.
    pub fn save(&self) -> Result<Cleanup> {
        atomic_file::copy(&self.path, &self.saved)
            .with_context(|| format!("cannot keep a copy of {}", self.path.display()))?;
        let (saved, path) = (self.saved.clone(), self.path.clone());
        Ok(Cleanup::new(move || {
            // After a failure the saved file remains, and the next build tries again.
            let _ = restore_from(&saved, &path);
        }))
    }

    /// Copies the lock file into a directory.
    pub fn copy_to(&self, dir: &Path) -> Result<PathBuf> {
        let copy = dir.join("Cargo.lock");
        fs::create_dir_all(dir)
            .and_then(|()| fs::copy(&self.path, &copy))
            .with_context(|| format!("cannot copy {} to {}", self.path.display(), copy.display()))?;
        Ok(copy)
    }
}

fn restore_from(saved: &Path, path: &Path) -> std::io::Result<()> {
    match fs::rename(saved, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_file(dir: &Path) -> LockFile {
        let lock = LockFile { path: dir.join("Cargo.lock"), saved: dir.join("target/wasmop/Cargo.lock.saved") };
        fs::write(&lock.path, "original").expect("written");
        lock
    }

    fn content(lock: &LockFile) -> String {
        fs::read_to_string(&lock.path).expect("read")
    }

    #[test]
    fn the_lock_file_is_restored_after_a_build_that_changed_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = lock_file(dir.path());
        let kept = lock.save().expect("saved");
        fs::write(&lock.path, "patched").expect("written");
        drop(kept);
        assert_eq!(content(&lock), "original");
        assert!(!lock.saved.exists());
    }

    #[test]
    fn the_lock_file_is_restored_by_the_next_build_after_a_kill() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = lock_file(dir.path());
        std::mem::forget(lock.save().expect("saved"));
        fs::write(&lock.path, "patched").expect("written");
        lock.restore().expect("restored");
        assert_eq!(content(&lock), "original");
        lock.restore().expect("nothing to do");
        assert_eq!(content(&lock), "original");
    }
}
