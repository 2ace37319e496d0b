//! The parts of WASI that a host's owner grants to a controller of the soft tier.

use std::io;
use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// A grant; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasiGrant {
    /// Directories that the controller may use.
    pub directories: Vec<Directory>,
}

/// A directory of the machine with everything below it. Symbolic links cannot leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Path on the machine.
    pub source: PathBuf,
    /// Path that the controller sees.
    pub destination: String,
    /// Whether the controller may create, change and remove files there. The amount is unlimited.
    pub writable: bool,
}

impl WasiGrant {
    /// Checks that all granted directories can be opened now.
    ///
    /// # Errors
    /// Names the first directory that cannot.
    pub fn check(&self) -> io::Result<()> {
        self.directories.iter().try_for_each(|directory| directory.open_in(&mut WasiCtxBuilder::new()))
    }
}

impl Directory {
    pub(super) fn open_in(&self, builder: &mut WasiCtxBuilder) -> io::Result<()> {
        let permissions = if self.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        // Opening a device or a FIFO might block.
        let named = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", self.source.display()));
        if !std::fs::metadata(&self.source).map_err(named)?.is_dir() {
            return Err(named(io::ErrorKind::NotADirectory.into()));
        }
        builder
            .preopened_dir(&self.source, &self.destination, permissions)
            .map(drop)
            .map_err(|error| io::Error::other(format!("`{}`: {error:#}", self.source.display())))
    }
}
