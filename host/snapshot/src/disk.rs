//! I/O on the files of a state directory. Saves, resumes and journals use it for every access, so that a test can
//! replace a good disk by a faulty one.

use std::fs::{self, File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An operation that is about to be run on a file.
#[derive(Debug)]
pub enum DiskOperation<'a> {
    /// Open a file.
    Open {
        /// Path of the file.
        path: &'a Path,
        /// Create the file if it does not exist.
        create: bool,
    },
    /// Read from, or map, an open file.
    Read {
        /// Path of the file.
        path: &'a Path,
    },
    /// Write to an open file.
    Write {
        /// Path of the file.
        path: &'a Path,
        /// The open file.
        file: &'a File,
        /// Where in the file, bytes.
        offset: u64,
        /// Bytes to write.
        len: u64,
    },
    /// Truncate or extend an open file.
    SetLen {
        /// Path of the file.
        path: &'a Path,
        /// The open file.
        file: &'a File,
        /// New length, bytes.
        len: u64,
    },
    /// Make the content of a file, or the entries of a directory, durable.
    Sync {
        /// Path of the file or directory.
        path: &'a Path,
    },
    /// Remove a file.
    Remove {
        /// Path of the file.
        path: &'a Path,
    },
}

/// Decides which operations of a [`Disk`] fail. [`crate::faulty_disk::FaultyDisk`] implements it for tests.
pub trait DiskFaults: Send + Sync {
    /// Runs before each operation. An error replaces the operation.
    ///
    /// # Errors
    /// The error that the operation should fail with.
    fn before(&self, operation: DiskOperation<'_>) -> io::Result<()>;
}

/// Opens, syncs and replaces files. Cheap to clone.
#[derive(Clone, Default)]
pub struct Disk {
    faults: Option<Arc<dyn DiskFaults>>,
}

/// An open file of a [`Disk`].
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

/// Bytes of one read-ahead request. Linux cuts longer requests to its window (`force_page_cache_ra`), which is 128 KiB
/// by default.
const READ_AHEAD_BYTES: u64 = 128 << 10;
/// Most slices of one vectored write: Linux takes `IOV_MAX`, which is 1024.
const MAX_SLICES: usize = 1024;

/// Checks that this process's user owns the file or directory at `path`. Anybody else's may hold anything.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if another user owns it.
pub fn check_owner(path: &Path, meta: &Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() == user {
        return Ok(());
    }
    let path = path.display();
    let why = format!("{path} belongs to user {}, not to {user} who runs this host", meta.uid());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

impl Disk {
    /// A disk on which `faults` decides which operations fail.
    pub fn with_faults(faults: Arc<dyn DiskFaults>) -> Disk {
        Disk { faults: Some(faults) }
    }

    fn before(&self, operation: DiskOperation<'_>) -> io::Result<()> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => faults.before(operation),
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// If the file does not exist, cannot be read, or belongs to another user.
    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(DiskOperation::Open { path, create: false })?;
        let file = File::open(path)?;
        check_owner(path, &file.metadata()?)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Opens a file for reading and writing, and creates it if it does not exist. A new file has mode 0600, because
    /// guest memory may hold secrets.
    ///
    /// # Errors
    /// If the file cannot be opened or created, or belongs to another user.
    pub fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(DiskOperation::Open { path, create: true })?;
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        check_owner(path, &file.metadata()?)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Opens a file as [`Disk::open_or_create`] does, and empties it.
    ///
    /// # Errors
    /// Those of [`Disk::open_or_create`], and if the file cannot be truncated.
    pub fn create(&self, path: &Path) -> io::Result<DiskFile> {
        let file = self.open_or_create(path)?;
        file.set_len(0)?;
        Ok(file)
    }

    /// Removes a file. A missing file is not an error.
    ///
    /// # Errors
    /// If the file exists and cannot be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(DiskOperation::Remove { path })?;
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Replaces the file at `path` by one with `content` and mode 0600, atomically: see [`Disk::replace_with`].
    ///
    /// # Errors
    /// Those of [`Disk::replace_with`].
    pub fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.replace_with(path, |unfinished| self.create_new(unfinished)?.write_at(content, 0))
    }

    /// Replaces the file at `path` by one that `write` makes at the path it is given: a temporary name next to `path`,
    /// with the extension `tmp`.
    ///
    /// This is how host crates write a file that must be whole or absent. Whenever the process is killed or the power
    /// fails, `path` names either the earlier file, untouched, or the new one with all of its content:
    ///
    /// 1. remove what a killed writer left under the temporary name;
    /// 2. `write` creates the temporary file and fills it;
    /// 3. sync its content;
    /// 4. rename it to `path`.
    ///
    /// The directory is not synced, so a power failure may bring the earlier file back. Call [`Disk::sync`] on the
    /// directory where that matters. Two writers of one path must not run at the same time.
    ///
    /// # Errors
    /// Those of `write` and of each step. The earlier file is then untouched and the temporary one removed.
    pub fn replace_with<T>(&self, path: &Path, write: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let unfinished = path.with_extension("tmp");
        self.remove(&unfinished)?;
        let replaced = write(&unfinished).and_then(|written| {
            self.sync(&unfinished)?;
            fs::rename(&unfinished, path)?;
            Ok(written)
        });
        if replaced.is_err() {
            let _ = self.remove(&unfinished);
        }
        replaced
    }

    /// A file that did not exist before: never a link that somebody has put there.
    fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(DiskOperation::Open { path, create: true })?;
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Makes the content of a file, or the entries of a directory, durable.
    ///
    /// # Errors
    /// If the disk cannot confirm that.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        self.before(DiskOperation::Sync { path })?;
        if self.faults.is_some() {
            return Ok(());
        }
        let file = File::open(path)?;
        if file.metadata()?.is_dir() { file.sync_all() } else { file.sync_data() }
    }

    /// Makes everything durable that was written to the file system of `path`. `files` names the files that the caller
    /// depends on, for [`DiskFaults`].
    ///
    /// # Errors
    /// If the disk cannot confirm that.
    pub fn sync_file_system(&self, path: &Path, files: &[&Path]) -> io::Result<()> {
        for path in files {
            self.before(DiskOperation::Sync { path })?;
        }
        if self.faults.is_some() {
            return Ok(());
        }
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
}

impl DiskFile {
    /// The path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Bytes that the file takes on disk; holes take none.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// The file itself, to map it or to read it into a guest's memory.
    ///
    /// # Errors
    /// Only those that [`DiskFaults`] injects.
    pub fn for_reading(&self) -> io::Result<&File> {
        self.disk.before(DiskOperation::Read { path: &self.path })?;
        Ok(&self.file)
    }

    /// Fills `buffer` from `offset` as far as the file goes. Returns the number of bytes read.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.for_reading()?;
        let mut have = 0;
        while have < buffer.len() {
            match file.read_at(&mut buffer[have..], offset + have as u64)? {
                0 => break,
                n => have += n,
            }
        }
        Ok(have)
    }

    /// Whether the page at `offset` is in the page cache. `false` if the file system cannot say.
    pub fn is_cached(&self, offset: u64) -> bool {
        let mut byte = [0];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], offset, flags).is_ok()
    }

    /// See [`read_ahead`].
    pub fn read_ahead(&self, ranges: &[Range<u64>]) {
        read_ahead(&self.file, ranges);
    }

    /// The offset of the next data at or after `offset`; `None` if only a hole follows.
    ///
    /// # Errors
    /// If the file system cannot say.
    pub fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(self.for_reading()?, rustix::fs::SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// If reading fails, or the file ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.for_reading()?.read_exact_at(buffer, offset)
    }

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// If not all of it could be written.
    pub fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(data)], offset)
    }

    /// Writes the slices one after the other, the first at `offset`.
    ///
    /// # Errors
    /// If not all of them could be written.
    pub fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let len = slices.iter().map(|s| s.len() as u64).sum();
        self.disk.before(DiskOperation::Write { path: &self.path, file: &self.file, offset, len })?;
        let mut at = offset;
        for chunk in slices.chunks(MAX_SLICES) {
            let written = rustix::io::pwritev(&self.file, chunk, at)?;
            let mut skip = written;
            for slice in chunk {
                let done = skip.min(slice.len());
                skip -= done;
                self.file.write_all_at(&slice[done..], at + done as u64)?;
                at += slice.len() as u64;
            }
        }
        Ok(())
    }

    /// Truncates the file to `len` bytes, or extends it by a hole.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.before(DiskOperation::SetLen { path: &self.path, file: &self.file, len })?;
        self.file.set_len(len)
    }
}

/// Asks the kernel to read `ranges` of `file` into the page cache, and does not wait. This is advice: a failure costs
/// time and nothing else.
pub fn read_ahead(file: &File, ranges: &[Range<u64>]) {
    for range in ranges {
        let mut at = range.start;
        while let Some(len) = NonZeroU64::new(range.end.saturating_sub(at).min(READ_AHEAD_BYTES)) {
            let _ = rustix::fs::fadvise(file, at, Some(len), rustix::fs::Advice::WillNeed);
            at += len.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_the_old_file_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let unfinished = path.with_extension("tmp");
        let disk = Disk::default();
        disk.replace(&path, b"old").unwrap();
        // As a killed writer leaves it: a link, and part of a file.
        std::os::unix::fs::symlink(&path, &unfinished).unwrap();
        let failed: io::Result<()> = disk.replace_with(&path, |unfinished| {
            fs::write(unfinished, "ne")?;
            Err(io::Error::other("no room"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(!unfinished.exists());
        fs::write(&unfinished, "ne").unwrap();
        disk.replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!unfinished.exists());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
