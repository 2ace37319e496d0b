//! Drops files from the page cache, so that the next read comes from the disk.

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

/// Drops all files of a state directory but its lock. Fails if one stays cached: it is mapped, or on a file system in memory.
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
    // The kernel drops only clean pages.
    file.sync_all()?;
    // It also keeps pages that another core has not put on a list yet, so this retries.
    for _ in 0..ATTEMPTS {
        fadvise(&file, 0, None, Advice::DontNeed)?;
        if !is_cached(&file)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("{} stays in memory", path.display())
}

/// Whether any page of the file is cached. This reads none, because a read would prefetch others.
fn is_cached(file: &File) -> io::Result<bool> {
    let len = file.metadata()?.len() as usize;
    let mut pages = vec![0u8; len.div_ceil(page_size())];
    // SAFETY: the mapping is new, never accessed, and unmapped here; `pages` has a byte for each of its pages.
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

/// The time of one sequential read of `bytes` bytes from a file on this disk that is not cached.
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
