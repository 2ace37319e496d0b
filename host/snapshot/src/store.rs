//! Where a controller keeps its state: what an earlier host has left there, and opening a snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::{fs, io};

use wasmop_core::limits::disk_quota::OverQuota;

use crate::disk::{Disk, DiskFile};
use crate::encryption::Sealer;
use crate::format::{
    AREA_LEN, AREAS, Fold, FormatError, Kind, PREFIX_LEN, Prefix, SavedPage, Seal, StateHeader, area_offset, offset_of,
    page_sum,
};
use crate::image::{BaseImage, ImageError};
use crate::open_snapshot::OpenSnapshot;
use crate::page::PAGE;
use crate::snapshot_ref::SnapshotRef;
use crate::sources::Previous;

/// Where one controller keeps its state.
pub struct ControllerStore {
    pub(super) dir: PathBuf,
    pub(super) disk: Disk,
    /// Most bytes that a snapshot may have.
    pub(super) quota: u64,
    /// Tells it from others of this process.
    id: u64,
    /// Encrypts what is written.
    pub(super) sealer: Option<Box<Sealer>>,
    /// The highest that any header of the file has: the next save's is higher, whatever the clock says.
    pub(super) last_seq: AtomicU64,
    /// `seq` and room of the newest snapshot that is surely on disk; 0 if there is none.
    pub(super) durable_seq: AtomicU64,
    pub(super) durable_area: AtomicU8,
    /// `seq` of the last save that has written into the base image, or made it.
    pub(super) base_written: AtomicU64,
    /// The disk has refused to say that pages lie on it: all are to be written again.
    pub(super) doubtful: AtomicBool,
}

impl ControllerStore {
    pub(super) fn new(dir: PathBuf, disk: Disk, sealer: Option<Box<Sealer>>) -> ControllerStore {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (last_seq, durable_seq, durable_area, base_written, doubtful) = Default::default();
        ControllerStore {
            dir,
            disk,
            quota: u64::MAX,
            id,
            sealer,
            last_seq,
            durable_seq,
            durable_area,
            base_written,
            doubtful,
        }
    }

    /// Snapshots of more bytes are refused with [`OverQuota`].
    pub fn with_quota(self, bytes: u64) -> ControllerStore {
        ControllerStore { quota: bytes, ..self }
    }

    /// # Errors
    /// [`OverQuota`]: a snapshot may not have so many bytes.
    pub fn check_quota(&self, needs: u64) -> io::Result<()> {
        match needs > self.quota {
            true => Err(io::Error::new(io::ErrorKind::QuotaExceeded, OverQuota { needs, quota: self.quota })),
            false => Ok(()),
        }
    }

    /// Tells it from others of this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn base_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("base.{generation}"))
    }

    /// The newest whole snapshot of an earlier host, all of it checked, or `None` if there is none. What
    /// belongs to no snapshot is removed.
    pub fn recover(
        &self,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, StateHeader)>, ImageError> {
        let found = self.newest_whole(digest, package_image)?;
        let keep = found.as_ref().map_or(0, |(snapshot, _)| snapshot.base_generation);
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name != "state" && (keep == 0 || name != format!("base.{keep}")) {
                let _ = self.disk.remove(&entry.path());
            }
        }
        if let Some((snapshot, _)) = &found {
            self.settled(snapshot);
        }
        Ok(found)
    }

    fn newest_whole(
        &self,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<Option<(SnapshotRef, StateHeader)>, ImageError> {
        let file = match self.disk.open(&self.state_path()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut refused = None;
        let mut candidates = Vec::new();
        for area in 0..AREAS {
            match self.read_header(&file, area) {
                Ok(Some(found)) => candidates.push((found, area)),
                Ok(None) => {}
                // Not damaged: refusing must not cost the controller its state.
                Err(error @ ImageError::Format(FormatError::NoKey | FormatError::OtherKey)) => return Err(error),
                Err(error) => refused = Some(error),
            }
        }
        for ((prefix, _), _) in &candidates {
            self.last_seq.fetch_max(prefix.seq, Ordering::AcqRel);
        }
        candidates.sort_by_key(|((prefix, _), _)| std::cmp::Reverse(prefix.seq));
        for ((prefix, header), area) in candidates {
            match self.check(&file, &header, digest, package_image) {
                Ok(disk_bytes) => {
                    if let Some(reason) = refused {
                        let dir = self.dir.display();
                        tracing::info!(%dir, %reason, "a snapshot that was not wholly written is passed over");
                    }
                    let snapshot = SnapshotRef {
                        seq: prefix.seq,
                        area,
                        base_generation: header.base_generation,
                        disk_bytes,
                        copied: 0,
                    };
                    return Ok(Some((snapshot, header)));
                }
                // The newest one's reason is the one worth telling.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Checks all that a header names; returns the bytes on disk.
    fn check(
        &self,
        file: &DiskFile,
        header: &StateHeader,
        digest: &[u8; 32],
        package_image: &Arc<BaseImage>,
    ) -> Result<u64, ImageError> {
        header.check_digest(digest)?;
        let base = self.base(header, package_image)?;
        let pages = header.pages();
        if base.generation != 0 {
            base.check_pages(header.base_sum, &pages)?;
        }
        self.read_pages(file, &pages, !header.seals.is_empty(), |_, _| Ok(()))?;
        Ok(file.allocated()? + base.own_bytes()?)
    }

    /// A file without a name: it is gone with the last that has it open or mapped.
    pub fn unnamed_file(&self) -> io::Result<DiskFile> {
        let path = self.dir.join("unnamed.tmp");
        let file = self.disk.create(&path)?;
        self.disk.remove(&path)?;
        Ok(file)
    }

    /// Forgets the snapshot: a later [`ControllerStore::recover`] finds none.
    pub fn discard(&self) -> io::Result<()> {
        fs::read_dir(&self.dir)?.try_for_each(|entry| self.disk.remove(&entry?.path()))
    }

    /// Opens a snapshot of this process, or one that [`ControllerStore::recover`] has checked.
    pub fn open(&self, snapshot: &SnapshotRef) -> Result<OpenSnapshot, ImageError> {
        let file = self.disk.open(&self.state_path())?;
        let is_cold = !file.is_cached(area_offset(snapshot.area));
        let (prefix, header) = self
            .read_header(&file, snapshot.area)?
            .ok_or(FormatError::Truncated { have: 0, need: PREFIX_LEN as u64 })?;
        if prefix.seq != snapshot.seq {
            return Err(FormatError::Header("another snapshot is in its place").into());
        }
        let header_slots = header_slots(&prefix);
        let (pages, sealed) = (header.pages(), prefix.sealed);
        let base_sum = Fold(header.base_sum);
        let previous = Previous { snapshot: Some(*snapshot), pages, base_sum, sealed, header_slots };
        Ok(OpenSnapshot { file, header, previous, is_cold })
    }

    /// The header in one of a state file's rooms; `None` if the room was never used.
    fn read_header(&self, file: &DiskFile, area: u8) -> Result<Option<(Prefix, StateHeader)>, ImageError> {
        let mut room = [0; AREA_LEN];
        let have = file.read_up_to(&mut room, area_offset(area))?;
        let room = &room[..have];
        if room.iter().take(PREFIX_LEN).all(|b| *b == 0) {
            return Ok(None);
        }
        let found = Prefix::read(Kind::State, room)?;
        let mut elsewhere = Vec::new();
        let body = match found.header_slot {
            0 => room[PREFIX_LEN..].get(..found.header_len),
            slot => {
                elsewhere.resize(found.header_len, 0);
                let have = file.read_up_to(&mut elsewhere, offset_of(slot))?;
                elsewhere.get(..found.header_len).filter(|_| have == found.header_len)
            }
        };
        let body = body.ok_or(FormatError::Truncated { have: have as u64, need: found.header_len as u64 })?;
        found.check(room, body)?;
        if !found.sealed {
            return Ok(Some((found, StateHeader::decode(body)?)));
        }
        let sealer = self.sealer.as_ref().ok_or(FormatError::NoKey)?;
        if sealer.id() != found.key_id {
            return Err(FormatError::OtherKey.into());
        }
        let (text, tag) = body.split_last_chunk().ok_or(FormatError::Header("too short"))?;
        let mut text = text.to_vec();
        sealer.open(&mut text, &Seal { nonce: found.nonce, tag: *tag })?;
        Ok(Some((found, StateHeader::decode(&text)?)))
    }

    /// Reads pages one by one, decrypts them, and checks that they are what was saved.
    pub(super) fn read_pages(
        &self,
        file: &DiskFile,
        pages: &[SavedPage],
        sealed: bool,
        mut put: impl FnMut(u32, &[u8]) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let mut page = vec![0; PAGE];
        for saved in pages.iter().filter(|p| p.slot != 0) {
            let have = file.read_up_to(&mut page, offset_of(saved.slot))?;
            if have == PAGE && sealed {
                self.sealer.as_ref().ok_or(FormatError::NoKey)?.open(&mut page, &saved.seal)?;
            }
            if have < PAGE || page_sum(&page) != saved.sum {
                return Err(FormatError::DataChecksum.into());
            }
            put(saved.page, &page)?;
        }
        Ok(())
    }

    /// The base image of a snapshot; the pages of one of its own are taken to be whole.
    pub fn base(&self, header: &StateHeader, package_image: &Arc<BaseImage>) -> Result<Arc<BaseImage>, ImageError> {
        let base = match header.base_generation {
            0 => package_image.clone(),
            own => Arc::new(BaseImage::open_unchecked(&self.disk, &self.base_path(own), own)?),
        };
        let is_other = match base.generation {
            0 => base.header.data_sum != header.base_sum,
            _ => base.header.digest != header.digest,
        };
        // One of its own may have grown since an older snapshot.
        if is_other || base.header.memory_size > header.memory_size {
            return Err(FormatError::Header("its base image is another one").into());
        }
        Ok(base)
    }

    /// All that `snapshot` needs is on disk.
    pub(super) fn settled(&self, snapshot: &SnapshotRef) {
        self.durable_area.store(snapshot.area, Ordering::Release);
        self.durable_seq.store(snapshot.seq, Ordering::Release);
    }
}

/// First slot and number of those that hold the header.
fn header_slots(prefix: &Prefix) -> (u32, u32) {
    match prefix.header_slot {
        0 => (0, 0),
        first => (first, prefix.header_len.div_ceil(PAGE) as u32),
    }
}
