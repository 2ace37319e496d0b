//! The JSON log of a running host: lines become records, and a test polls for a record until a deadline.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const POLL: Duration = Duration::from_millis(10);

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Record(pub Value);

impl Record {
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// The text of a field; empty if the field is missing.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn number(&self, field: &str) -> Option<f64> {
        self.0.get(field).and_then(Value::as_f64)
    }

    /// Whether the record is the message `message` about `controller`.
    pub fn is(&self, message: &str, controller: &str) -> bool {
        self.message() == message && self.text("controller") == controller
    }
}

/// A log file that another process writes.
pub struct Log {
    path: PathBuf,
    reader: BufReader<File>,
    unfinished: String,
    records: Vec<Record>,
}

impl Log {
    pub fn open(path: &Path) -> Result<Log> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Log { path: path.to_owned(), reader: BufReader::new(file), unfinished: String::new(), records: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All records so far.
    pub fn records(&mut self) -> Result<&[Record]> {
        loop {
            if self.reader.read_line(&mut self.unfinished)? == 0 {
                return Ok(&self.records);
            }
            if self.unfinished.ends_with('\n') {
                // A line without JSON, such as a panic message, becomes a record with only a message.
                let line = self.unfinished.trim_end();
                let value = serde_json::from_str(line)
                    .unwrap_or_else(|_| serde_json::json!({ "message": line, "level": "RAW" }));
                self.records.push(Record(value));
                self.unfinished.clear();
            }
        }
    }

    /// The number of records, which is a position for `wait_for`.
    pub fn position(&mut self) -> Result<usize> {
        Ok(self.records()?.len())
    }

    /// Waits for the first record at or after `position` that `wanted` accepts.
    ///
    /// # Errors
    /// Names `what` if there is no such record within `timeout`.
    pub fn wait_for(
        &mut self,
        position: usize,
        timeout: Duration,
        what: &str,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Record> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(record) = self.records()?.iter().skip(position).find(|record| wanted(record)) {
                return Ok(record.clone());
            }
            if Instant::now() > deadline {
                bail!("no {what} in {} within {timeout:?}", self.path.display());
            }
            thread::sleep(POLL);
        }
    }

    /// The last lines, for an error message.
    pub fn tail(&mut self, lines: usize) -> String {
        let records = self.records().unwrap_or_default();
        records[records.len().saturating_sub(lines)..].iter().map(|record| format!("  {}\n", record.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_complete_line_is_a_record() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = Log::open(file.path()).unwrap();
        file.write_all(b"{\"message\":\"suspended\",\"controller\":\"a\",\"ram_bytes\":10}\n{\"message\":\"resu")
            .unwrap();
        assert_eq!(log.position().unwrap(), 1);
        file.write_all(b"med\",\"controller\":\"a\"}\nnot json\n").unwrap();
        let records = log.records().unwrap();
        assert!(records[0].is("suspended", "a") && records[0].number("ram_bytes") == Some(10.0));
        assert!(records[1].is("resumed", "a"));
        assert_eq!(records[2].message(), "not json");
    }

    #[test]
    fn a_timeout_names_the_missing_record() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error =
            Log::open(file.path()).unwrap().wait_for(0, Duration::ZERO, "suspended line", |_| false).unwrap_err();
        assert!(error.to_string().starts_with("no suspended line in "), "{error}");
    }
}
