//! Base images: written as a whole, then mapped. A package's never changes; into one of a controller's
//! own its saves write pages back (`save`).

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::format::{
    Fold, FormatError, ImageHeader, Kind, Moment, PREFIX_LEN, Prefix, SavedPage, data_offset, is_zero, page_sum,
    prefix, runs,
};
use crate::page::PAGE;

/// A base image, open and checked.
pub struct BaseImage {
    file: DiskFile,
    data_offset: u64,
    /// Bytes of memory it has room for: what its header says, and what it has grown by since.
    size: u64,
    pub header: ImageHeader,
    /// 0 for a package's image, else the controller's own.
    pub generation: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Pages read or written at once where all of an image is.
const CHUNK: usize = 16;

impl BaseImage {
    /// Opens a package's image and checks all of it, page data included.
    pub fn open(disk: &Disk, path: &Path) -> Result<BaseImage, ImageError> {
        let image = Self::open_unchecked(disk, path, 0)?;
        image.check_pages(image.header.data_sum, &[])?;
        Ok(image)
    }

    /// Checks the header only: for an image whose page data this process has checked or written itself.
    pub fn open_unchecked(disk: &Disk, path: &Path, generation: u64) -> Result<BaseImage, ImageError> {
        let file = disk.open(path)?;
        let have = file.size()?;
        let mut head = vec![0; PAGE.min(have as usize)];
        file.read_exact_at(&mut head, 0)?;
        let found = Prefix::read(Kind::Base, &head)?;
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
        // A package's is what it was made as.
        let size = if generation == 0 { header.memory_size } else { (have - data_offset) / PAGE as u64 * PAGE as u64 };
        Ok(BaseImage { file, data_offset, size, header, generation })
    }

    /// The same image with room for a memory of `size` bytes, more than it has; the new pages are zeros.
    pub fn grown(&self, disk: &Disk, size: u64) -> io::Result<BaseImage> {
        let file = self.open_for_writing(disk)?;
        let end = self.data_offset + self.size;
        if file.size()? > end {
            // A save that failed has grown it before and left pages there. No memory maps them.
            file.set_len(end)?;
        }
        file.set_len(self.data_offset + size)?;
        let header = self.header.clone();
        Ok(BaseImage { file, data_offset: self.data_offset, size, header, generation: self.generation })
    }

    /// Checks all pages but `other`, ascending, which may be anything. What lies in holes counts too:
    /// it is mapped as well.
    pub fn check_pages(&self, expected: u128, other: &[SavedPage]) -> Result<(), ImageError> {
        let mut fold = Fold::default();
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
                    fold.toggle_content(n, page);
                }
            }
            at += buffer.len() as u64;
        }
        if fold.0 == expected { Ok(()) } else { Err(FormatError::DataChecksum.into()) }
    }

    /// For writing pages back; the caller sees to it that nothing needs what they replace.
    pub fn open_for_writing(&self, disk: &Disk) -> io::Result<DiskFile> {
        disk.open_or_create(self.path())
    }

    /// Writes an image of a memory of `memory_size` bytes. `read_page` puts a page's content into its
    /// argument, or returns `false` for one that is zero; it is asked twice for each. Its name may be
    /// the final one: a part of an image is not taken for one.
    pub fn write(
        disk: &Disk,
        path: &Path,
        moment: &Moment,
        memory_size: u64,
        globals: Vec<u64>,
        generation: u64,
        mut read_page: impl FnMut(u32, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<BaseImage> {
        let pages = (memory_size / PAGE as u64) as u32;
        let mut page = vec![0; PAGE];
        let mut with_data = Vec::new();
        let mut fold = Fold::default();
        // Two passes: the header comes first in the file and its length depends on the runs.
        for n in 0..pages {
            if read_page(n, &mut page)? && !is_zero(&page) {
                with_data.push(n);
                fold.toggle(n, page_sum(&page));
            }
        }
        let header = ImageHeader {
            digest: moment.digest,
            memory_size,
            globals,
            monotonic_ns: moment.monotonic_ns,
            runs: runs(with_data),
            data_sum: fold.0,
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
        file.write_at(&[&prefix(Kind::Base, generation, &body, 0, None)[..], &body].concat(), 0)?;
        Ok(BaseImage { file, data_offset, size: memory_size, header, generation })
    }

    /// Where in its file a page is.
    pub fn offset_of(&self, page: u32) -> u64 {
        self.data_offset + u64::from(page) * PAGE as u64
    }

    /// Its file, and where in it `page` is.
    pub fn place_of(&self, page: u32) -> io::Result<(&std::fs::File, u64)> {
        Ok((self.file.for_reading()?, self.offset_of(page)))
    }

    /// Whether the page at this offset of its file is in the page cache.
    pub fn is_cached(&self, offset: u64) -> bool {
        self.file.is_cached(offset)
    }

    /// See [`DiskFile::read_ahead`].
    pub fn read_ahead(&self, ranges: &[Range<u64>]) {
        self.file.read_ahead(ranges);
    }

    /// Pages it has, zero or not.
    pub fn pages(&self) -> u32 {
        (self.size / PAGE as u64) as u32
    }

    /// Reads page `n` as it is in the image; `false` if it lies beyond it.
    pub fn read_page(&self, n: u32, page: &mut [u8]) -> io::Result<bool> {
        if n >= self.pages() {
            return Ok(false);
        }
        self.file.read_exact_at(page, self.offset_of(n))?;
        Ok(true)
    }

    /// Bytes on disk, if it is a controller's own; a package's is nobody's.
    pub fn own_bytes(&self) -> io::Result<u64> {
        if self.generation == 0 { Ok(0) } else { self.file.allocated() }
    }

    /// Bytes of memory it has room for.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }
}
