//! A wall clock that a test sets for a process. The clock of the machine stays unchanged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The preloaded library, compiled on demand. Wherever Rust links there is a `cc`.
const PRELOADED: &str = include_str!("wall_clock.c");

/// The wall clock of all processes with its environment.
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
    file: File,
}

impl WallClock {
    /// A clock with the right time. `dir`: the directory for its files.
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

    /// The environment that a process needs.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![("LD_PRELOAD".into(), self.library.clone()), ("WASMOP_TEST_CLOCK".into(), self.offset.clone())]
    }

    /// Sets the offset from the real time, in seconds.
    pub fn step_to(&self, seconds: i64) -> Result<()> {
        Ok(self.file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0)?)
    }
}
