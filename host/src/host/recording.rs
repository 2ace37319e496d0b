//! When controllers had something to do, as a trace for `wasmop policy simulate`.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmop_policy::{Cause, trace};

use super::HostError;

/// Writes a line for each idle gap that ends.
pub(super) struct Recorder {
    path: PathBuf,
    /// `None` once writing has failed.
    file: Option<LineWriter<File>>,
}

impl Recorder {
    pub fn create(path: &Path) -> Result<Recorder, HostError> {
        let failed = |source| HostError::Trace { path: path.into(), source };
        let mut file = LineWriter::new(File::create(path).map_err(failed)?);
        writeln!(file, "{}", trace::HEADER).map_err(failed)?;
        Ok(Recorder { path: path.into(), file: Some(file) })
    }

    pub fn event(&mut self, at: Duration, controller: &str, cause: Cause) {
        let Some(file) = &mut self.file else { return };
        let line = trace::line(at, controller, cause == Cause::Known);
        if let Err(error) = writeln!(file, "{}", line.trim_end()) {
            tracing::warn!(path = %self.path.display(), %error, "the trace is written no further");
            self.file = None;
        }
    }
}
