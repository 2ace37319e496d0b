//! The files of one controller: recovers the snapshot of an earlier host, and opens snapshots.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::{fs, io};

use wasmop_core::limits::disk_quota::OverQuota;

use crate::disk::{Disk, DiskFile};
use crate::encryption::Cipher;
use crate::format::{
    AREA_LEN, AREAS, AeadTag, FileKind, FormatError, PREFIX_LEN, Prefix, SavedPage, StateHeader, area_offset, offset_of,
};
use crate::image::{BaseImage, ImageError};
use crate::memory_sources::PreviousSave;
use crate::open_snapshot::OpenSnapshot;
use crate::page::PAGE;
use crate::page_sum::{PageSetSum, page_sum};
use crate::snapshot_ref::SnapshotRef;

/// The files of one controller: its state file and its own base images.
///
/// Invariant: `last_seq` is at least `durable_seq` and `base_written`.
pub struct ControllerStore {
    pub(super) dir: PathBuf,
    pub(super) disk: Disk,
    /// Most bytes of a snapshot.
    pub(super) quota: u64,
    /// Unique in this process.
    id: u64,
    /// Encrypts pages and headers; `None`: they are plain.
    pub(super) cipher: Option<Box<Cipher>>,
    /// Highest sequence number of any header in the file. The next save takes a higher one.
    pub(super) last_seq: AtomicU64,
    /// Sequence number of the newest durable snapshot; 0 if there is none.
    pub(super) durable_seq: AtomicU64,
    /// Header area of that snapshot.
    pub(super) durable_area: AtomicU8,
    /// Sequence number of the last save that wrote into the controller's own base image or created it.
    pub(super) base_written: AtomicU64,
    /// A sync failed, so the disk may have lost pages: the next save writes all of them again.
    pub(super) must_rewrite: AtomicBool,
}

impl ControllerStore {
    pub(super) fn new(dir: PathBuf, disk: Disk, cipher: Option<Box<Cipher>>) -> ControllerStore {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (last_seq, durable_seq, durable_area, base_written, must_rewrite) = Default::default();
        ControllerStore {
            dir,
            disk,
            quota: u64::MAX,
            id,
            cipher,
            last_seq,
            durable_seq,
            durable_area,
            base_written,
            must_rewrite,
        }
    }

    /// Limits snapshots to `bytes`. A larger one fails with [`OverQuota`].
    pub fn with_quota(self, bytes: u64) -> ControllerStore {
        ControllerStore { quota: bytes, ..self }
    }

    /// Checks that a snapshot may have `needs` bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] with [`OverQuota`] if not.
    pub fn check_quota(&self, needs: u64) -> io::Result<()> {
        match needs > self.quota {
            true => Err(io::Error::new(io::ErrorKind::QuotaExceeded, OverQuota { needs, quota: self.quota })),
            false => Ok(()),
        }
    }

    /// Identifies the store in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn base_path(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("base.{generation}"))
    }

    /// Finds the newest whole snapshot of an earlier host and checks all of it. `None` if there is no snapshot. Removes
    /// files that belong to no snapshot.
    ///
    /// # Errors
    /// If no snapshot is whole, or the newest cannot be decrypted; the error says why the newest was refused.
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
            self.mark_durable(snapshot);
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
                // The snapshot is not damaged, so do not fall back to an older one or to none.
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
                        tracing::info!(%dir, %reason, "skipping an incomplete snapshot");
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
                // Report the reason of the newest.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// Checks everything that a header names. Returns the bytes on disk.
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
        self.read_pages(file, &pages, !header.aead_tags.is_empty(), |_, _| Ok(()))?;
        Ok(file.allocated()? + base.own_bytes()?)
    }

    /// Creates a file without a name. It ends when nothing has it open or mapped any more.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn unnamed_file(&self) -> io::Result<DiskFile> {
        let path = self.dir.join("unnamed.tmp");
        let file = self.disk.create(&path)?;
        self.disk.remove(&path)?;
        Ok(file)
    }

    /// Removes all files, so that [`ControllerStore::recover`] finds no snapshot.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn discard(&self) -> io::Result<()> {
        fs::read_dir(&self.dir)?.try_for_each(|entry| self.disk.remove(&entry?.path()))
    }

    /// Opens a snapshot that this process has written, or that [`ControllerStore::recover`] has checked.
    ///
    /// # Errors
    /// If its header cannot be read, or a later save has overwritten it.
    pub fn open(&self, snapshot: &SnapshotRef) -> Result<OpenSnapshot, ImageError> {
        let file = self.disk.open(&self.state_path())?;
        let is_cold = !file.is_cached(area_offset(snapshot.area));
        let (prefix, header) = self
            .read_header(&file, snapshot.area)?
            .ok_or(FormatError::Truncated { have: 0, need: PREFIX_LEN as u64 })?;
        if prefix.seq != snapshot.seq {
            return Err(FormatError::Header("overwritten by another snapshot").into());
        }
        let header_slots = header_slots(&prefix);
        let (pages, encrypted) = (header.pages(), prefix.encrypted);
        let base_sum = PageSetSum(header.base_sum);
        let previous = PreviousSave { snapshot: Some(*snapshot), pages, base_sum, encrypted, header_slots };
        Ok(OpenSnapshot { file, header, previous, is_cold })
    }

    /// Reads the header in an area of the state file. `None` if the area was never used.
    fn read_header(&self, file: &DiskFile, area: u8) -> Result<Option<(Prefix, StateHeader)>, ImageError> {
        let mut bytes = [0; AREA_LEN];
        let have = file.read_up_to(&mut bytes, area_offset(area))?;
        let bytes = &bytes[..have];
        if bytes.iter().take(PREFIX_LEN).all(|b| *b == 0) {
            return Ok(None);
        }
        let found = Prefix::read(FileKind::State, bytes)?;
        let mut elsewhere = Vec::new();
        let body = match found.header_slot {
            0 => bytes[PREFIX_LEN..].get(..found.header_len),
            slot => {
                elsewhere.resize(found.header_len, 0);
                let have = file.read_up_to(&mut elsewhere, offset_of(slot))?;
                elsewhere.get(..found.header_len).filter(|_| have == found.header_len)
            }
        };
        let body = body.ok_or(FormatError::Truncated { have: have as u64, need: found.header_len as u64 })?;
        found.check(bytes, body)?;
        if !found.encrypted {
            return Ok(Some((found, StateHeader::decode(body)?)));
        }
        let cipher = self.cipher.as_ref().ok_or(FormatError::NoKey)?;
        if cipher.id() != found.key_id {
            return Err(FormatError::OtherKey.into());
        }
        let (text, tag) = body.split_last_chunk().ok_or(FormatError::Header("too short"))?;
        let mut text = text.to_vec();
        cipher.decrypt(&mut text, &AeadTag { nonce: found.nonce, tag: *tag })?;
        Ok(Some((found, StateHeader::decode(&text)?)))
    }

    /// Reads pages one by one, decrypts them, and checks their checksums.
    pub(super) fn read_pages(
        &self,
        file: &DiskFile,
        pages: &[SavedPage],
        encrypted: bool,
        mut put: impl FnMut(u32, &[u8]) -> io::Result<()>,
    ) -> Result<(), ImageError> {
        let mut page = vec![0; PAGE];
        for saved in pages.iter().filter(|p| p.slot != 0) {
            let have = file.read_up_to(&mut page, offset_of(saved.slot))?;
            if have == PAGE && encrypted {
                self.cipher.as_ref().ok_or(FormatError::NoKey)?.decrypt(&mut page, &saved.aead)?;
            }
            if have < PAGE || page_sum(&page) != saved.sum {
                return Err(FormatError::DataChecksum.into());
            }
            put(saved.page, &page)?;
        }
        Ok(())
    }

    /// Opens the base image of a snapshot. The pages of a controller's own image are not checked.
    ///
    /// # Errors
    /// If it cannot be read, or is not the image that the snapshot was made from.
    pub fn base(&self, header: &StateHeader, package_image: &Arc<BaseImage>) -> Result<Arc<BaseImage>, ImageError> {
        let base = match header.base_generation {
            0 => package_image.clone(),
            own => Arc::new(BaseImage::open_unchecked(&self.disk, &self.base_path(own), own)?),
        };
        let is_other = match base.generation {
            0 => base.header.data_sum != header.base_sum,
            _ => base.header.digest != header.digest,
        };
        // A controller's own image may have grown since an older snapshot.
        if is_other || base.header.memory_size > header.memory_size {
            return Err(FormatError::Header("made from another base image").into());
        }
        Ok(base)
    }

    /// Everything that `snapshot` needs is durable.
    pub(super) fn mark_durable(&self, snapshot: &SnapshotRef) {
        self.durable_area.store(snapshot.area, Ordering::Release);
        self.durable_seq.store(snapshot.seq, Ordering::Release);
    }
}

/// First slot and number of slots of a header that did not fit into its area; else zeros.
fn header_slots(prefix: &Prefix) -> (u32, u32) {
    match prefix.header_slot {
        0 => (0, 0),
        first => (first, prefix.header_len.div_ceil(PAGE) as u32),
    }
}
