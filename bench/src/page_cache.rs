//! Files out of the page cache, so that what is read next comes from the disk.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{Advice, fadvise};
use rustix::param::page_size;

const ATTEMPTS: usize = 100;

/// All files of a state directory that are ever read again. An error if one is still there: on a file system in memory, or mapped.
pub fn drop_dir(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_dir(&entry.path())?;
        } else if entry.metadata()?.len() > 0 && entry.file_name() != "lock" {
            drop_file(&entry.path())?;
        }
    }
    Ok(())
}

fn drop_file(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    // The kernel drops only what it need not write.
    file.sync_all()?;
    // And not what another core has not put on its lists yet.
    for _ in 0..ATTEMPTS {
        fadvise(&file, 0, None, Advice::DontNeed)?;
        if !is_cached(&file)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("{} stays in memory", path.display())
}

/// Whether any page of it is; to read one would have the kernel read more.
fn is_cached(file: &File) -> io::Result<bool> {
    let len = file.metadata()?.len() as usize;
    let mut pages = vec![0u8; len.div_ceil(page_size())];
    // SAFETY: a new mapping, which is never read and ends here; `pages` has a byte for each of its pages.
    let found = unsafe {
        let at = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let found = libc::mincore(at, len, pages.as_mut_ptr());
        libc::munmap(at, len);
        found
    };
    if found != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.iter().any(|page| page & 1 != 0))
}

/// How long it takes to read so many bytes of a file on this disk that are in a row and not in memory.
pub fn sequential_read(dir: &Path, bytes: u64) -> Result<Duration> {
    let path = dir.join("sequential");
    let mut content = vec![0x5a; bytes as usize];
    if fs::metadata(&path).map_or(0, |found| found.len()) != bytes {
        File::create(&path)?.write_all(&content)?;
    }
    drop_file(&path)?;
    let started = Instant::now();
    File::open(&path)?.read_exact(&mut content)?;
    Ok(started.elapsed())
}
