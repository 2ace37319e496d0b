//! The state directory: who may use it, and saving and opening snapshots in it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{DataChecksum, FormatError, Header, Kind, Moment, Run, RunBuilder, data_offset, is_zero};
use super::image::{BaseImage, ImageError, for_each_chunk, new_file, read_header};
use super::sync::{Job, NewFile};
use crate::guest::Guest;
use crate::memory::PAGE;

/// A snapshot whose data is more than this share of its base image's becomes a base image of its
/// own: mapping pages is cheaper than copying them in on each resume.
const REBASE_SHARE: u64 = 2;
/// ... but below this many pages copying is cheap anyway, and a base of one's own costs disk.
const REBASE_MIN_PAGES: u64 = 64;

/// A state directory, locked for this process.
pub struct StateDir {
    path: PathBuf,
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
        for sub in ["code", "images", "controllers"] {
            builder.create(path.join(sub)).map_err(not_writable)?;
        }
        Ok(StateDir { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
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
        Ok(ControllerStore { dir })
    }
}

/// A snapshot that can be resumed from. Small: one per suspended controller.
#[derive(Clone, Default)]
pub struct SnapshotRef {
    /// Not durable yet, hence without its name: the files themselves.
    pending: Option<Arc<Pending>>,
    /// Generation of the base image it needs; 0: the package's.
    pub base_generation: u64,
    /// Bytes on disk, with a base image of its own.
    pub disk_bytes: u64,
}

struct Pending {
    snapshot: Arc<File>,
    base: Option<Arc<BaseImage>>,
}

impl SnapshotRef {
    /// The files have got their names; holding them open is no longer needed.
    pub fn settled(&mut self) {
        self.pending = None;
    }
}

/// What a save made.
pub struct Saved {
    pub snapshot: SnapshotRef,
    /// Bytes of pages that were dirty.
    pub dirty_bytes: u64,
    /// Bytes written to disk.
    pub written_bytes: u64,
    /// To be submitted to the `Syncer`; `done` is the caller's.
    pub files: Vec<NewFile>,
    pub obsolete: Vec<PathBuf>,
}

impl Saved {
    pub fn job(&mut self, done: Box<dyn FnOnce(io::Result<()>) + Send>) -> Job {
        Job { files: std::mem::take(&mut self.files), obsolete: std::mem::take(&mut self.obsolete), done }
    }
}

/// An opened snapshot: header read and checked, page data not yet.
pub struct OpenSnapshot {
    file: Arc<File>,
    pub header: Header,
    header_len: usize,
    /// The base image to map.
    pub base: Arc<BaseImage>,
}

pub struct ControllerStore {
    dir: PathBuf,
}

impl ControllerStore {
    fn snapshot_path(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    fn base_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("base.{generation}"))
    }

    /// Written, without its name yet; likewise [`ControllerStore::base_tmp`].
    fn snapshot_tmp(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("snapshot.{generation}.tmp"))
    }

    fn base_tmp(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("base.{generation}.tmp"))
    }

    /// The newest snapshot of an earlier host, wholly checked, or `None` if there is none. What belongs
    /// to no snapshot is removed.
    pub fn recover(
        &self,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, Header)>, ImageError> {
        self.adopt_unnamed(digest, package_image)?;
        let result = self.check(&self.snapshot_path(), digest, package_image);
        let keep = match &result {
            Ok(Some((snapshot, _))) => snapshot.base_generation,
            _ => 0,
        };
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let in_use = name == "snapshot" || (keep != 0 && name == format!("base.{keep}"));
            if !in_use {
                let _ = fs::remove_file(entry.path());
            }
        }
        result
    }

    /// A host that was killed may have left a newer snapshot than the one that has the name: written,
    /// but not yet on disk for sure. If it is whole it is as good.
    fn adopt_unnamed(&self, digest: &[u8; 32], package_image: &Arc<BaseImage>) -> io::Result<()> {
        let number = |name: &str| name.strip_prefix("snapshot.")?.strip_suffix(".tmp")?.parse::<u64>().ok();
        let entries = fs::read_dir(&self.dir)?.flatten();
        let mut unnamed: Vec<u64> = entries.filter_map(|e| number(&e.file_name().to_string_lossy())).collect();
        unnamed.sort_unstable();
        let named_at =
            File::open(self.snapshot_path()).ok().and_then(|f| read_header(&f).ok()).map(|(h, ..)| h.wall_ns);
        for generation in unnamed.into_iter().rev() {
            let path = self.snapshot_tmp(generation);
            let Ok((header, ..)) = File::open(&path).map_err(ImageError::from).and_then(|f| read_header(&f)) else {
                continue;
            };
            if named_at.is_some_and(|named| header.wall_ns <= named) {
                return Ok(());
            }
            let base = self.base_tmp(generation);
            if base.exists() {
                File::open(&base)?.sync_data()?;
                fs::rename(&base, self.base_path(generation))?;
            }
            if let Ok(Some(_)) = self.check(&path, digest, package_image) {
                File::open(&path)?.sync_data()?;
                return fs::rename(&path, self.snapshot_path());
            }
        }
        Ok(())
    }

    fn check(
        &self,
        path: &Path,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, Header)>, ImageError> {
        let file = match File::open(path) {
            Ok(file) => Arc::new(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let (header, data_checksum, header_len) = read_header(&file)?;
        header.check_digest(digest)?;
        let Kind::Snapshot { generation, base_checksum } = header.kind else {
            return Err(FormatError::Header("not a snapshot").into());
        };
        let mut disk_bytes = allocated(&file)?;
        let base = if generation == 0 {
            package_image.clone()
        } else {
            let base = BaseImage::open(&self.base_path(generation), generation)?;
            disk_bytes += allocated(base.file())?;
            Arc::new(base)
        };
        if base.checksum != base_checksum || base.size() > header.memory_size {
            return Err(FormatError::Header("its base image is another one").into());
        }
        let mut sum = DataChecksum::default();
        read_runs(&file, &header, header_len, |_, data| {
            sum.update(data);
            Ok(())
        })?;
        if sum.finish() != data_checksum {
            return Err(FormatError::DataChecksum.into());
        }
        Ok(Some((SnapshotRef { pending: None, base_generation: generation, disk_bytes }, header)))
    }

    /// A file without a name: it is gone with the last that has it open or mapped.
    pub fn unnamed_file(&self) -> io::Result<File> {
        let path = self.dir.join("unnamed.tmp");
        let file = new_file(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }

    /// Forgets the snapshot: a later [`ControllerStore::recover`] finds none.
    pub fn discard(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Opens a snapshot of this process or one that [`ControllerStore::recover`] has checked.
    pub fn open(&self, snapshot: &SnapshotRef, package_image: &Arc<BaseImage>) -> Result<OpenSnapshot, ImageError> {
        let (file, pending_base) = match &snapshot.pending {
            Some(pending) => (pending.snapshot.clone(), pending.base.clone()),
            None => (Arc::new(File::open(self.snapshot_path())?), None),
        };
        let (header, _, header_len) = read_header(&file)?;
        let Kind::Snapshot { generation, base_checksum } = header.kind else {
            return Err(FormatError::Header("not a snapshot").into());
        };
        let base = match (pending_base, generation) {
            (_, 0) => package_image.clone(),
            (Some(base), _) => base,
            (None, _) => Arc::new(BaseImage::open_checked_before(&self.base_path(generation), generation)?),
        };
        if base.checksum != base_checksum || base.size() > header.memory_size {
            return Err(FormatError::Header("its base image is another one").into());
        }
        Ok(OpenSnapshot { file, header, header_len, base })
    }

    /// Writes what `guest` has changed since it was mapped from `base`. `overlay`: pages that came
    /// from the snapshot it was resumed from; they differ from the base even if untouched. With
    /// `may_rebase` a large change is written as a new base image; only for a guest that is dropped
    /// afterwards.
    ///
    /// `generation` must be greater than that of any earlier save of this controller.
    pub fn save(
        &self,
        guest: &mut Guest,
        base: &Arc<BaseImage>,
        overlay: &[Run],
        moment: Moment,
        generation: u64,
        may_rebase: bool,
    ) -> io::Result<Saved> {
        let globals = guest.globals().map_err(io::Error::other)?;
        let (memory, store) = guest.memory();
        let dirty = memory.dirty_pages()?;
        let dirty_bytes = (dirty.len() * PAGE) as u64;
        let dirty = with_overlay(dirty, overlay);
        let bytes = memory.bytes(store);
        let page_of = |n: u32| &bytes[n as usize * PAGE..][..PAGE];
        let base_pages = (base.size() / PAGE as u64) as u32;
        let mut header = Header::new(moment, bytes.len() as u64, globals);
        let mut runs = RunBuilder::default();
        let mut data_pages = 0;
        for &n in &dirty {
            let zero = is_zero(page_of(n));
            data_pages += u64::from(!zero);
            if !zero || n < base_pages {
                runs.push(n, zero);
            }
        }
        let runs = join_near(runs.finish());
        let mut files = Vec::new();
        let mut obsolete = Vec::new();
        let mut written_bytes = 0;
        let mut own_base = None;
        let rebase = may_rebase && data_pages > REBASE_MIN_PAGES.max(base.header.data_pages() / REBASE_SHARE);
        if rebase {
            let tmp = self.base_tmp(generation);
            let image_header = Header { host_state: Vec::new(), ..header.clone() };
            let mut is_dirty = vec![false; bytes.len() / PAGE];
            for &n in &dirty {
                is_dirty[n as usize] = true;
            }
            // Clean pages are copied from the file: touching them through the mapping would raise
            // the host's memory just when it is to fall.
            let image = BaseImage::write(&tmp, image_header, generation, |n, page| {
                if is_dirty[n as usize] {
                    page.copy_from_slice(page_of(n));
                    return Ok(true);
                }
                base.read_page(n, page)
            })?;
            written_bytes += image.header.data_pages() * PAGE as u64;
            let file = Arc::new(image.file().try_clone()?);
            files.push(NewFile { file, written_as: tmp, name: self.base_path(generation) });
            header.kind = Kind::Snapshot { generation, base_checksum: image.checksum };
            own_base = Some(Arc::new(image));
        } else {
            header.kind = Kind::Snapshot { generation: base.generation, base_checksum: base.checksum };
            header.runs = runs;
        }
        let mut sum = DataChecksum::default();
        let data_runs = || header.runs.iter().filter(|r| !r.zero);
        let run_bytes = |r: &Run| &bytes[r.page as usize * PAGE..][..r.count as usize * PAGE];
        for run in data_runs() {
            sum.update(run_bytes(run));
        }
        let head = header.encode(sum.finish());
        let tmp = self.snapshot_tmp(generation);
        let file = new_file(&tmp)?;
        file.write_all_at(&head, 0)?;
        let mut at = data_offset(head.len());
        for run in data_runs() {
            file.write_all_at(run_bytes(run), at)?;
            at += (run.count as usize * PAGE) as u64;
        }
        file.set_len(at)?;
        written_bytes += at;
        if rebase && base.generation != 0 {
            obsolete.push(self.base_path(base.generation));
        }
        let file = Arc::new(file);
        let base_generation = own_base.as_ref().map_or(base.generation, |b| b.generation);
        let mut disk_bytes = at.next_multiple_of(PAGE as u64);
        match &own_base {
            Some(image) => disk_bytes += image.header.data_pages() * PAGE as u64,
            None if base.generation != 0 => disk_bytes += base.header.data_pages() * PAGE as u64,
            None => {}
        }
        files.push(NewFile { file: file.clone(), written_as: tmp, name: self.snapshot_path() });
        let pending = Some(Arc::new(Pending { snapshot: file, base: own_base }));
        Ok(Saved {
            snapshot: SnapshotRef { pending, base_generation, disk_bytes },
            dirty_bytes,
            written_bytes,
            files,
            obsolete,
        })
    }
}

impl OpenSnapshot {
    /// Puts pages and globals into an instance that was mapped from [`OpenSnapshot::base`]. Returns
    /// the pages that are now mapped from the snapshot.
    ///
    /// The page data is not checked here: that would mean reading it. `recover` has done so, or this
    /// process has written it.
    pub fn apply(&self, guest: &mut Guest) -> Result<Vec<Run>, ImageError> {
        let (memory, store) = guest.memory();
        let mut at = data_offset(self.header_len);
        let need = at + self.header.data_pages() * PAGE as u64;
        let have = self.file.metadata()?.len();
        if have < need {
            return Err(FormatError::Truncated { have, need }.into());
        }
        static ZEROS: [u8; 16 * PAGE] = [0; 16 * PAGE];
        let mut overlay = Vec::with_capacity(self.header.runs.len());
        for run in &self.header.runs {
            let offset = run.page as usize * PAGE;
            let len = run.count as usize * PAGE;
            if run.zero {
                for_each_chunk(run, |page, pages| memory.write(store, page as usize * PAGE, &ZEROS[..pages * PAGE]))?;
                continue;
            }
            // A single page is copied about as fast as it is mapped, and mappings are limited
            // (vm.max_map_count): when they run out, everything is copied.
            if run.count > 1 && memory.map_from(store, &self.file, at, offset, len).is_ok() {
                overlay.push(*run);
            } else {
                memory.read_from(store, &self.file, at, offset, len)?;
            }
            at += len as u64;
        }
        guest.set_globals(&self.header.globals).map_err(io::Error::other)?;
        Ok(overlay)
    }
}

/// Ascending page numbers with those of some runs added.
fn with_overlay(pages: Vec<u32>, overlay: &[Run]) -> Vec<u32> {
    let carried = overlay.iter().flat_map(|run| run.page..run.page + run.count);
    let mut all: Vec<u32> = pages.into_iter().chain(carried).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Runs of data with only a few pages between them become one, clean pages included: each run is a
/// mapping when it is resumed.
fn join_near(runs: Vec<Run>) -> Vec<Run> {
    const GAP: u32 = 4;
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(last) if !last.zero && !run.zero && run.page - (last.page + last.count) <= GAP => {
                last.count = run.page + run.count - last.page;
            }
            _ => joined.push(run),
        }
    }
    joined
}

/// Hands out the page data of a snapshot, in pieces.
fn read_runs(
    file: &File,
    header: &Header,
    header_len: usize,
    mut f: impl FnMut(u32, &[u8]) -> io::Result<()>,
) -> Result<(), ImageError> {
    let have = file.metadata()?.len();
    let mut at = data_offset(header_len);
    let need = at + header.data_pages() * PAGE as u64;
    if have < need {
        return Err(FormatError::Truncated { have, need }.into());
    }
    let mut buffer = vec![0; 16 * PAGE];
    for run in header.runs.iter().filter(|r| !r.zero) {
        for_each_chunk(run, |page, pages| {
            let buffer = &mut buffer[..pages * PAGE];
            file.read_exact_at(buffer, at)?;
            at += buffer.len() as u64;
            f(page, buffer)
        })?;
    }
    Ok(())
}

/// Bytes a file takes on disk, holes not counted.
fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

#[cfg(test)]
mod tests;
