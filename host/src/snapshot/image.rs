//! Base images: written once as a whole, then only mapped.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::format::{DataChecksum, FormatError, Header, Kind, PREFIX_LEN, Run, RunBuilder, data_offset, is_zero};
use crate::memory::{Mapping, PAGE};

/// A base image, open and checked.
pub struct BaseImage {
    file: Arc<File>,
    data_offset: u64,
    pub header: Header,
    /// Checksum of its page data; names it in snapshots.
    pub checksum: u64,
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

/// Reads and checks the header of an open snapshot or base image; returns it, the checksum of the
/// page data and the header's length.
pub fn read_header(file: &File) -> Result<(Header, u64, usize), ImageError> {
    let file_len = file.metadata()?.len();
    let mut prefix = [0; PREFIX_LEN];
    if file_len < PREFIX_LEN as u64 {
        return Err(FormatError::Truncated { have: file_len, need: PREFIX_LEN as u64 }.into());
    }
    file.read_exact_at(&mut prefix, 0)?;
    let len = Header::len_from_prefix(&prefix)?;
    if file_len < len as u64 {
        return Err(FormatError::Truncated { have: file_len, need: len as u64 }.into());
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    let (header, checksum) = Header::decode(&bytes)?;
    Ok((header, checksum, len))
}

impl BaseImage {
    /// Opens an image and checks all of it, page data included.
    pub fn open(path: &Path, generation: u64) -> Result<BaseImage, ImageError> {
        let image = Self::open_checked_before(path, generation)?;
        image.check_data()?;
        Ok(image)
    }

    /// Opens an image whose page data this process has checked or written itself: checks the
    /// header only, so that opening does not read the whole file.
    pub fn open_checked_before(path: &Path, generation: u64) -> Result<BaseImage, ImageError> {
        let file = File::open(path)?;
        let (header, checksum, header_len) = read_header(&file)?;
        if header.kind != Kind::Base {
            return Err(FormatError::Header("not a base image").into());
        }
        let data_offset = data_offset(header_len);
        let need = data_offset + header.memory_size;
        let have = file.metadata()?.len();
        if have < need {
            return Err(FormatError::Truncated { have, need }.into());
        }
        Ok(BaseImage { file: Arc::new(file), data_offset, header, checksum, generation })
    }

    fn check_data(&self) -> Result<(), ImageError> {
        let mut sum = DataChecksum::default();
        let mut buffer = vec![0; 64 << 10];
        for run in &self.header.runs {
            for_each_chunk(run, |page, pages| {
                let buffer = &mut buffer[..pages * PAGE];
                self.file.read_exact_at(buffer, self.data_offset + u64::from(page) * PAGE as u64)?;
                sum.update(buffer);
                Ok(())
            })?;
        }
        if sum.finish() != self.checksum {
            return Err(FormatError::DataChecksum.into());
        }
        Ok(())
    }

    /// Writes an image of a memory. `page` gives the content of a page, or `None` for one that is
    /// zero. The file is created new; the caller makes it durable and gives it its name.
    ///
    /// `header.runs` and `header.kind` are filled in here.
    pub fn write(
        path: &Path,
        header: Header,
        generation: u64,
        mut read_page: impl FnMut(u32, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<BaseImage> {
        let pages = (header.memory_size / PAGE as u64) as u32;
        let mut page = vec![0; PAGE];
        let mut runs = RunBuilder::default();
        let mut sum = DataChecksum::default();
        // Two passes: the header comes first in the file and its length depends on the runs.
        for n in 0..pages {
            if read_page(n, &mut page)? && !is_zero(&page) {
                runs.push(n, false);
                sum.update(&page);
            }
        }
        let header = Header { kind: Kind::Base, runs: runs.finish(), ..header };
        let checksum = sum.finish();
        let head = header.encode(checksum);
        let data_offset = data_offset(head.len());
        let file = new_file(path)?;
        file.write_all_at(&head, 0)?;
        file.set_len(data_offset + header.memory_size)?;
        for run in &header.runs {
            for n in run.page..run.page + run.count {
                if !read_page(n, &mut page)? {
                    return Err(io::Error::other("page changed while it was written"));
                }
                file.write_all_at(&page, data_offset + u64::from(n) * PAGE as u64)?;
            }
        }
        Ok(BaseImage { file: Arc::new(file), data_offset, header, checksum, generation })
    }

    /// How an instance is started from it. `size`: bytes of memory the instance has, at least this
    /// image's.
    pub fn mapping(&self, size: u64) -> Mapping {
        Mapping {
            file: self.file.clone(),
            offset: self.data_offset,
            len: self.header.memory_size as usize,
            size: size as usize,
        }
    }

    /// Reads page `n` as it is in the image; `false` if it lies beyond it.
    pub fn read_page(&self, n: u32, page: &mut [u8]) -> io::Result<bool> {
        if u64::from(n) * PAGE as u64 >= self.header.memory_size {
            return Ok(false);
        }
        self.file.read_exact_at(page, self.data_offset + u64::from(n) * PAGE as u64)?;
        Ok(true)
    }

    /// Memory size in bytes.
    pub fn size(&self) -> u64 {
        self.header.memory_size
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Splits a run into pieces of at most 16 pages.
pub fn for_each_chunk(run: &Run, mut f: impl FnMut(u32, usize) -> io::Result<()>) -> io::Result<()> {
    let mut page = run.page;
    let mut left = run.count;
    while left > 0 {
        let n = left.min(16);
        f(page, n as usize)?;
        page += n;
        left -= n;
    }
    Ok(())
}

/// A new file only its owner may read: guest memory may hold secrets.
pub fn new_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}
