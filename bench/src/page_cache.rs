//! Files out of the page cache, so that what is read next comes from the disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::fs::{Advice, fadvise};
use wasmop_host::snapshot::disk::Disk;

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
        if !Disk::default().open(path)?.is_cached(0) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("{} stays in memory", path.display())
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
