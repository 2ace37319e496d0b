//! A host whose wall clock can be set, while the machine's stays as it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What makes it so, compiled when it is needed: `cc` is there wherever Rust links.
const PRELOADED: &str = include_str!("wall_clock.c");

/// The wall clock of those that are started with its environment.
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
    file: File,
}

impl WallClock {
    /// One that is right. `dir`: for its files.
    pub fn new(dir: &Path) -> Result<WallClock> {
        let (source, library) = (dir.join("wall_clock.c"), dir.join("wall_clock.so"));
        std::fs::write(&source, PRELOADED)?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        let output = cc.output().context("cannot run cc\nhelp: install a C compiler")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        let offset = dir.join("wall_clock.offset");
        let clock = WallClock { library, file: File::create(&offset)?, offset };
        clock.step_to(0)?;
        Ok(clock)
    }

    /// What a process has to be started with.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![("LD_PRELOAD".into(), self.library.clone()), ("WASMOP_TEST_CLOCK".into(), self.offset.clone())]
    }

    /// From now on it is off by so many seconds.
    pub fn step_to(&self, seconds: i64) -> Result<()> {
        Ok(self.file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0)?)
    }
}
