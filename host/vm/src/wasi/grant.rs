//! What the owner of a host grants a controller of the soft tier of WASI.

use std::io;
use std::path::PathBuf;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasiGrant {
    pub directories: Vec<Directory>,
}

/// A directory of the machine, and what is below it. Symbolic links lead nowhere outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// On the machine.
    pub source: PathBuf,
    /// As what the controller finds it.
    pub destination: String,
    /// Whether it may create, change and remove there. How much is written has no limit.
    pub writable: bool,
}

impl WasiGrant {
    /// Whether all of its directories can be opened now; the error names the first that can't.
    pub fn check(&self) -> io::Result<()> {
        self.directories.iter().try_for_each(|directory| directory.open_in(&mut WasiCtxBuilder::new()))
    }
}

impl Directory {
    pub(super) fn open_in(&self, builder: &mut WasiCtxBuilder) -> io::Result<()> {
        let permissions = if self.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        // Without this it would open a device or wait for a FIFO's other end.
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
