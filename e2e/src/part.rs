//! A part of the test suite as a program: rows run, their results become a table, counts and an exit code.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use wasmop_e2e::part::{self, Part};
//!
//! fn main() -> ExitCode {
//!     part::main("example", &["rust"], run)
//! }
//!
//! async fn run(part: &Part) -> anyhow::Result<()> {
//!     part.row("a Probe is reconciled", "rust", async { Ok(()) }).await;
//!     Ok(())
//! }
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;

use crate::table::{Cell, Counts, Table, detail};

/// The results so far. Rows may run at the same time.
pub struct Part {
    name: &'static str,
    /// Words of the command line; only rows whose name contains one of them are wanted. Empty: all rows.
    words: Vec<String>,
    table: Mutex<Table>,
    kept: Mutex<Option<PathBuf>>,
}

/// Runs a part to its exit code, with the rows that the command line asks for.
///
/// An error of `run` is a failure of the whole part: it could not be set up, or could not go on.
pub fn main(name: &'static str, columns: &[&'static str], run: impl AsyncFnOnce(&Part) -> Result<()>) -> ExitCode {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let part = Part::new(name, columns, words);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let result = runtime.block_on(run(&part));
    part.finish(result)
}

impl Part {
    fn new(name: &'static str, columns: &[&'static str], words: Vec<String>) -> Part {
        Part { name, words, table: Mutex::new(Table::new(columns)), kept: Mutex::default() }
    }

    /// Whether the command line asks for this row.
    pub fn wants(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word.as_str()))
    }

    /// Lists a row ahead of its results: it fails as "not run" in every column that gets none.
    pub fn list(&self, row: &str) {
        if self.wants(row) {
            self.table().add_row(row);
        }
    }

    /// Runs a row for one column if it is wanted, and prints the result at once.
    ///
    /// A row that builds on the rows before it needs [`Part::step`].
    pub async fn row(&self, row: &str, column: &str, check: impl Future<Output = Result<()>>) {
        if self.wants(row) {
            self.step(row, column, check).await;
        }
    }

    /// Like [`Part::row`], for a row on which later rows build. It always runs; its result is recorded if the row is
    /// wanted or fails.
    pub async fn step(&self, row: &str, column: &str, check: impl Future<Output = Result<()>>) {
        let begun = Instant::now();
        let cell = Cell::from(check.await);
        self.print(row, column, &cell, &format!(" ({:.1} s)", begun.elapsed().as_secs_f64()));
        self.set(row, column, cell);
    }

    /// Records a result that was found together with others, and prints it.
    pub fn record(&self, row: &str, column: &str, result: Result<()>) {
        let cell = Cell::from(result);
        self.print(row, column, &cell, "");
        self.set(row, column, cell);
    }

    /// Records that a row cannot run for one column.
    pub fn skip(&self, row: &str, column: &str, reason: &str) {
        self.set(row, column, Cell::Skipped(reason.to_owned()));
    }

    /// Whether a result so far is a failure.
    pub fn has_failures(&self) -> bool {
        self.table().counts().failed > 0
    }

    /// Names the directory that keeps the files of a failed run.
    pub fn keep(&self, files: PathBuf) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, row: &str, column: &str, cell: &Cell, time: &str) {
        let reason = match cell {
            Cell::Passed => String::new(),
            Cell::Failed(reason) => format!(": FAILED: {reason}"),
            Cell::Skipped(reason) => format!(": skipped: {reason}"),
        };
        println!("{} {column:<6}  {row}{time}{reason}", cell.mark());
    }

    fn set(&self, row: &str, column: &str, cell: Cell) {
        if self.wants(row) || matches!(cell, Cell::Failed(_)) {
            self.table().set(row, column, cell);
        }
    }

    /// Prints the table, the reasons and the counts.
    fn finish(self, result: Result<()>) -> ExitCode {
        let table = self.table();
        println!("\n{}\n{}", table.marks(), table.details().trim_end());
        let mut counts = table.counts();
        if let Err(error) = result {
            println!("{}", detail("failed", &format!("{}: {error:#}", self.name)));
            counts.failed += 1;
        }
        if counts == Counts::default() {
            println!("{}", detail("failed", &format!("{}: no row matches {:?}", self.name, self.words)));
            counts.failed += 1;
        }
        println!("{}", counts.line(self.name));
        if let Some(files) = &*self.kept.lock().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("logs and state are in {}", files.display());
        }
        if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn part(words: &[&str]) -> Part {
        Part::new("example", &["rust"], words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[tokio::test]
    async fn only_rows_that_contain_a_word_run() {
        let part = part(&["delete"]);
        part.row("create", "rust", async { panic!("it is not wanted") }).await;
        part.row("delete with finalizer", "rust", async { Ok(()) }).await;
        part.list("update");
        assert_eq!(part.table().counts(), Counts { passed: 1, ..Counts::default() });
    }

    #[tokio::test]
    async fn a_step_always_runs_and_its_failure_is_never_hidden() {
        let part = part(&["delete"]);
        part.step("create", "rust", async { Err(anyhow!("broken")) }).await;
        part.step("update", "rust", async { Ok(()) }).await;
        assert!(part.has_failures());
        assert_eq!(part.table().counts(), Counts { failed: 1, ..Counts::default() });
    }

    #[test]
    fn a_listed_row_without_a_result_is_a_failure() {
        let part = part(&[]);
        part.list("create");
        assert_eq!(part.table().counts(), Counts { failed: 1, ..Counts::default() });
    }
}
