//! The files of a state directory. Everything that is read or written there goes through here, so
//! that a bad disk can be put in place of a good one.

use std::fs::{self, File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is about to be done to a file.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Created if it isn't there.
    Open {
        path: &'a Path,
        create: bool,
    },
    Read {
        path: &'a Path,
    },
    Write {
        path: &'a Path,
        file: &'a File,
        offset: u64,
        len: u64,
    },
    SetLen {
        path: &'a Path,
        file: &'a File,
        len: u64,
    },
    /// File or directory.
    Sync {
        path: &'a Path,
    },
    Remove {
        path: &'a Path,
    },
}

/// A disk that fails; what is on disk is its own affair. See `faults::BadDisk` for one.
pub trait Faults: Send + Sync {
    /// Called before each operation; an error takes its place.
    fn before(&self, operation: Operation<'_>) -> io::Result<()>;
}

/// Opens files. Cheap to clone.
#[derive(Clone, Default)]
pub struct Disk {
    faults: Option<Arc<dyn Faults>>,
}

/// An open file and how it was reached.
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

/// Bytes that are read ahead for one request at least: of a longer one Linux reads no more than its window
/// (`force_page_cache_ra`), 128 KiB by default.
const READ_AHEAD_BYTES: u64 = 128 << 10;
/// More slices than the kernel takes at once (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Refuses a file or directory that another user has made: it may hold anything.
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
    pub fn with_faults(faults: Arc<dyn Faults>) -> Disk {
        Disk { faults: Some(faults) }
    }

    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        match &self.faults {
            None => Ok(()),
            Some(faults) => faults.before(operation),
        }
    }

    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Operation::Open { path, create: false })?;
        let file = File::open(path)?;
        check_owner(path, &file.metadata()?)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// For reading and writing; made if need be. Only its owner may read it: guest memory may hold
    /// secrets.
    pub fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Operation::Open { path, create: true })?;
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        check_owner(path, &file.metadata()?)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// A new, empty file in place of any there is.
    pub fn create(&self, path: &Path) -> io::Result<DiskFile> {
        let file = self.open_or_create(path)?;
        file.set_len(0)?;
        Ok(file)
    }

    /// It is no error if there is none.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::Remove { path })?;
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Puts the content of a file, or the entries of a directory, on disk.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::Sync { path })?;
        if self.faults.is_some() {
            return Ok(());
        }
        let file = File::open(path)?;
        if file.metadata()?.is_dir() { file.sync_all() } else { file.sync_data() }
    }

    /// Puts all that was written to the file system of `path` on disk; `files` are what matters of it.
    pub fn sync_file_system(&self, path: &Path, files: &[&Path]) -> io::Result<()> {
        for path in files {
            self.before(Operation::Sync { path })?;
        }
        if self.faults.is_some() {
            return Ok(());
        }
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Bytes it takes on disk, holes not counted.
    pub fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// The file itself: to map it, or to read it into a guest's memory.
    pub fn for_reading(&self) -> io::Result<&File> {
        self.disk.before(Operation::Read { path: &self.path })?;
        Ok(&self.file)
    }

    /// As many bytes as there are from `offset`, at most `buffer`'s length.
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

    /// Whether the page at `offset` is in the page cache; `false` too if the file system can't tell.
    pub fn is_cached(&self, offset: u64) -> bool {
        let mut byte = [0];
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], offset, flags).is_ok()
    }

    /// Has the kernel read what is not in the page cache, and waits for none of it.
    pub fn read_ahead(&self, ranges: &[Range<u64>]) {
        read_ahead(&self.file, ranges);
    }

    /// Where data begins at or after `offset`, or `None` if only a hole follows.
    pub fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(self.for_reading()?, rustix::fs::SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.for_reading()?.read_exact_at(buffer, offset)
    }

    pub fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(data)], offset)
    }

    /// Writes the slices one after the other.
    pub fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let len = slices.iter().map(|s| s.len() as u64).sum();
        self.disk.before(Operation::Write { path: &self.path, file: &self.file, offset, len })?;
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

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.before(Operation::SetLen { path: &self.path, file: &self.file, len })?;
        self.file.set_len(len)
    }
}

/// Has the kernel read what is not in the page cache, and waits for none of it: advice, so an error costs
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
