//! Base images: files that hold a whole linear memory and are mapped copy-on-write.
//!
//! A package's image never changes. Saves write pages back into a controller's own image (`save`).

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::format::{
    FileKind, FormatError, ImageHeader, PREFIX_LEN, Prefix, SavedPage, SnapshotMeta, data_offset, prefix, runs,
};
use crate::page::PAGE;
use crate::page_sum::{PageSetSum, is_zero, page_sum};

/// An open base image.
pub struct BaseImage {
    file: DiskFile,
    data_offset: u64,
    /// Bytes of memory that the file has room for: its header's `memory_size`, and what it has grown by since.
    size: u64,
    /// As the image was first written.
    pub header: ImageHeader,
    /// 0 for a package's image. A controller's own image has the sequence number of the save that made it.
    pub generation: u64,
}

/// Why a base image or snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is damaged, foreign, or encrypted with another key.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Pages that a check of a whole image reads at once.
const CHUNK: usize = 16;

impl BaseImage {
    /// Opens a package's image and checks all of it, page data included.
    ///
    /// # Errors
    /// If the file cannot be read, or is no whole image of this format.
    pub fn open(disk: &Disk, path: &Path) -> Result<BaseImage, ImageError> {
        let image = Self::open_unchecked(disk, path, 0)?;
        image.check_pages(image.header.data_sum, &[])?;
        Ok(image)
    }

    /// Opens an image and checks its header only. For images whose page data this process has checked or written.
    ///
    /// # Errors
    /// If the file cannot be read, or its header is not that of an image of this generation.
    pub fn open_unchecked(disk: &Disk, path: &Path, generation: u64) -> Result<BaseImage, ImageError> {
        let file = disk.open(path)?;
        let have = file.size()?;
        let mut head = vec![0; PAGE.min(have as usize)];
        file.read_exact_at(&mut head, 0)?;
        let found = Prefix::read(FileKind::Base, &head)?;
        let header_end = PREFIX_LEN + found.header_len;
        if have < header_end as u64 {
            return Err(FormatError::Truncated { have, need: header_end as u64 }.into());
        }
        if head.len() < header_end {
            head.resize(header_end, 0);
            file.read_exact_at(&mut head, 0)?;
        }
        let body = &head[PREFIX_LEN..header_end];
        found.check(&head, body)?;
        let header = ImageHeader::decode(body)?;
        if found.seq != generation {
            return Err(FormatError::Header("generation").into());
        }
        let data_offset = data_offset(body.len());
        let need = data_offset + header.memory_size;
        if have < need {
            return Err(FormatError::Truncated { have, need }.into());
        }
        // A package's image never grows.
        let size = if generation == 0 { header.memory_size } else { (have - data_offset) / PAGE as u64 * PAGE as u64 };
        Ok(BaseImage { file, data_offset, size, header, generation })
    }

    /// Grows the file for a memory of `size` bytes, more than it has room for. The new pages are zeros.
    ///
    /// # Errors
    /// If the file cannot be extended.
    pub(crate) fn grown(&self, disk: &Disk, size: u64) -> io::Result<BaseImage> {
        let file = self.open_for_writing(disk)?;
        let end = self.data_offset + self.size;
        if file.size()? > end {
            // An earlier save grew the file, left pages there and failed. No memory maps them.
            file.set_len(end)?;
        }
        file.set_len(self.data_offset + size)?;
        let header = self.header.clone();
        Ok(BaseImage { file, data_offset: self.data_offset, size, header, generation: self.generation })
    }

    /// Compares the checksum of all pages except `other` (ascending) with `expected`. Pages that the header has as holes
    /// count too, because they are mapped as well.
    ///
    /// # Errors
    /// [`FormatError::DataChecksum`] if it differs, or an I/O error.
    pub(crate) fn check_pages(&self, expected: u128, other: &[SavedPage]) -> Result<(), ImageError> {
        let mut sum = PageSetSum::default();
        let mut buffer = vec![0; CHUNK * PAGE];
        let mut other = other.iter().map(|p| p.page).peekable();
        let end = self.offset_of(self.pages());
        let mut at = self.data_offset;
        while at < end {
            let Some(data) = self.file.next_data(at)? else { break };
            at = data.max(at) / PAGE as u64 * PAGE as u64;
            if at >= end {
                break;
            }
            let buffer = &mut buffer[..((end - at) as usize).min(CHUNK * PAGE)];
            self.file.read_exact_at(buffer, at)?;
            let first = ((at - self.data_offset) / PAGE as u64) as u32;
            for (n, page) in (first..).zip(buffer.chunks(PAGE)) {
                while other.next_if(|o| *o < n).is_some() {}
                if other.peek() != Some(&n) {
                    sum.toggle_content(n, page);
                }
            }
            at += buffer.len() as u64;
        }
        if sum.0 == expected { Ok(()) } else { Err(FormatError::DataChecksum.into()) }
    }

    /// Opens the file to write pages back. The caller must ensure that nothing needs the content they replace.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) fn open_for_writing(&self, disk: &Disk) -> io::Result<DiskFile> {
        disk.open_or_create(self.path())
    }

    /// Writes an image of a memory of `memory_size` bytes, and does not sync it.
    ///
    /// `read_page` puts a page's content into its argument, or returns `false` for a zero page. It is called twice for
    /// each page. The header is written last, so a partial file is never taken for an image.
    ///
    /// # Errors
    /// If the file cannot be written, or `read_page` fails or changes its mind.
    pub fn write(
        disk: &Disk,
        path: &Path,
        meta: &SnapshotMeta,
        memory_size: u64,
        globals: Vec<u64>,
        generation: u64,
        mut read_page: impl FnMut(u32, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<BaseImage> {
        let pages = (memory_size / PAGE as u64) as u32;
        let mut page = vec![0; PAGE];
        let mut with_data = Vec::new();
        let mut sum = PageSetSum::default();
        // Two passes: the page data begins behind the header, whose length depends on the runs.
        for n in 0..pages {
            if read_page(n, &mut page)? && !is_zero(&page) {
                with_data.push(n);
                sum.toggle(n, page_sum(&page));
            }
        }
        let header = ImageHeader {
            digest: meta.digest,
            memory_size,
            globals,
            monotonic_ns: meta.monotonic_ns,
            runs: runs(with_data),
            data_sum: sum.0,
        };
        let body = header.encode();
        let data_offset = data_offset(body.len());
        let file = disk.create(path)?;
        file.set_len(data_offset + memory_size)?;
        for run in &header.runs {
            for n in run.page..run.page + run.count {
                if !read_page(n, &mut page)? {
                    return Err(io::Error::other("page changed while it was written"));
                }
                file.write_at(&page, data_offset + u64::from(n) * PAGE as u64)?;
            }
        }
        file.write_at(&[&prefix(FileKind::Base, generation, &body, 0, None)[..], &body].concat(), 0)?;
        Ok(BaseImage { file, data_offset, size: memory_size, header, generation })
    }

    /// Offset of a page in the file.
    pub fn offset_of(&self, page: u32) -> u64 {
        self.data_offset + u64::from(page) * PAGE as u64
    }

    /// The file, and the offset of `page` in it.
    ///
    /// # Errors
    /// Only those that a faulty disk injects.
    pub fn place_of(&self, page: u32) -> io::Result<(&std::fs::File, u64)> {
        Ok((self.file.for_reading()?, self.offset_of(page)))
    }

    /// See [`DiskFile::is_cached`].
    pub(crate) fn is_cached(&self, offset: u64) -> bool {
        self.file.is_cached(offset)
    }

    /// See [`DiskFile::read_ahead`].
    pub(crate) fn read_ahead(&self, ranges: &[Range<u64>]) {
        self.file.read_ahead(ranges);
    }

    /// Number of pages, zero pages included.
    pub fn pages(&self) -> u32 {
        (self.size / PAGE as u64) as u32
    }

    /// Reads page `n` of the image. `false` if it lies beyond the end.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read_page(&self, n: u32, page: &mut [u8]) -> io::Result<bool> {
        if n >= self.pages() {
            return Ok(false);
        }
        self.file.read_exact_at(page, self.offset_of(n))?;
        Ok(true)
    }

    /// Bytes on disk that count for the controller: none for a package's image.
    ///
    /// # Errors
    /// If the kernel cannot say.
    pub(crate) fn own_bytes(&self) -> io::Result<u64> {
        if self.generation == 0 { Ok(0) } else { self.file.allocated() }
    }

    /// Bytes of memory that the image has room for.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file's path when it was opened or written.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}
