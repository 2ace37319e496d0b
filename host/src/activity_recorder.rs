//! Records the idle gaps of controllers as an activity trace for `wasmop policy simulate`.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmop_policy::{Trigger, activity};

use crate::options::HostError;

/// Writes a line at the end of each idle gap.
pub(crate) struct ActivityRecorder {
    path: PathBuf,
    /// `None` once writing has failed.
    file: Option<LineWriter<File>>,
}

impl ActivityRecorder {
    pub fn create(path: &Path) -> Result<ActivityRecorder, HostError> {
        let failed = |source| HostError::Trace { path: path.into(), source };
        let mut file = LineWriter::new(File::create(path).map_err(failed)?);
        writeln!(file, "{}", activity::HEADER).map_err(failed)?;
        Ok(ActivityRecorder { path: path.into(), file: Some(file) })
    }

    pub fn record(&mut self, at: Duration, controller: &str, trigger: Trigger) {
        let Some(file) = &mut self.file else { return };
        let line = activity::line(at, controller, trigger == Trigger::Scheduled);
        if let Err(error) = writeln!(file, "{}", line.trim_end()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the activity trace: recording stops");
            self.file = None;
        }
    }
}
