//! Results in, a table of marks and one line of counts out.

use std::fmt::{self, Display, Write};

/// The result of one row in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Passed,
    Failed(String),
    Skipped(String),
}

/// The error of a check that cannot run on this machine; its row is skipped instead of failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip(pub String);

impl Skip {
    /// The error to return from a check, with the reason that is printed.
    pub fn because(reason: impl Into<String>) -> anyhow::Error {
        Skip(reason.into()).into()
    }
}

impl Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

impl From<anyhow::Result<()>> for Cell {
    fn from(result: anyhow::Result<()>) -> Cell {
        match result {
            Ok(()) => Cell::Passed,
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => Cell::Skipped(reason.clone()),
                None => Cell::Failed(format!("{error:#}")),
            },
        }
    }
}

impl Cell {
    /// The mark in the table.
    pub fn mark(&self) -> char {
        match self {
            Cell::Passed => '✓',
            Cell::Failed(_) => '✗',
            Cell::Skipped(_) => '–',
        }
    }
}

/// The last line of a part, which `cargo xtask test` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Counts {
    pub fn line(&self, part: &str) -> String {
        format!("{part}: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A line that names a failure or a skip (`label`), which `cargo xtask test` reads. Further lines are indented.
pub fn detail(label: &str, text: &str) -> String {
    format!("{label}: {}", text.trim_end().replace('\n', "\n    "))
}

/// Rows in the order in which they were first named, each with a cell for every column.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<(String, Vec<Option<Cell>>)>,
}

impl Table {
    pub fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row without results, unless the table has it.
    pub fn add_row(&mut self, name: &str) {
        if !self.rows.iter().any(|(row, _)| row == name) {
            self.rows.push((name.to_owned(), vec![None; self.columns.len()]));
        }
    }

    /// Sets a result; adds the row if the table lacks it.
    pub fn set(&mut self, row: &str, column: &str, cell: Cell) {
        self.add_row(row);
        let column = self.columns.iter().position(|name| *name == column);
        let cells = self.rows.iter_mut().find(|(name, _)| name == row);
        if let (Some(column), Some((_, cells))) = (column, cells) {
            cells[column] = Some(cell);
        }
    }

    /// The rows with their marks.
    pub fn marks(&self) -> String {
        let width = self.rows.iter().map(|(row, _)| row.chars().count()).max().unwrap_or_default();
        let mut text = format!("{:width$}", "");
        for column in &self.columns {
            let _ = write!(text, "  {column:^6}");
        }
        text.push('\n');
        for (row, cells) in &self.rows {
            let _ = write!(text, "{row:width$}");
            for cell in cells {
                let _ = write!(text, "  {:^6}", cell.as_ref().map_or('?', Cell::mark));
            }
            text.push('\n');
        }
        text
    }

    /// One line for every result that is not a pass, with its reason. A missing result is a failure.
    pub fn details(&self) -> String {
        let details = self.cells().filter_map(|(row, column, cell)| match cell {
            Some(Cell::Passed) => None,
            Some(Cell::Skipped(reason)) => Some(detail("skipped", &format!("{row}, {column}: {reason}"))),
            Some(Cell::Failed(reason)) => Some(detail("failed", &format!("{row}, {column}: {reason}"))),
            None => Some(detail("failed", &format!("{row}, {column}: not run"))),
        });
        details.map(|line| line + "\n").collect()
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, _, cell) in self.cells() {
            match cell {
                Some(Cell::Passed) => counts.passed += 1,
                Some(Cell::Skipped(_)) => counts.skipped += 1,
                Some(Cell::Failed(_)) | None => counts.failed += 1,
            }
        }
        counts
    }

    fn cells(&self) -> impl Iterator<Item = (&str, &'static str, Option<&Cell>)> {
        self.rows.iter().flat_map(|(row, cells)| {
            self.columns.iter().zip(cells).map(|(column, cell)| (row.as_str(), *column, cell.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn every_cell_has_a_mark_and_every_cell_that_did_not_pass_has_a_reason() {
        let mut table = Table::new(&["rust", "go"]);
        table.set("create", "rust", Cell::Passed);
        table.set("create", "go", Cell::Skipped("no Go".into()));
        table.set("panic", "rust", Cell::Failed("it did\nnot".into()));
        let marks = table.marks();
        assert!(marks.contains("create    ✓       –   \n"), "{marks}");
        assert!(marks.contains("panic     ✗       ?   \n"), "{marks}");
        assert_eq!(
            table.details(),
            "skipped: create, go: no Go\nfailed: panic, rust: it did\n    not\nfailed: panic, go: not run\n"
        );
        assert_eq!(table.counts().line("conformance"), "conformance: 1 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_skip_is_not_a_failure_even_with_context() {
        assert_eq!(Cell::from(Ok(())), Cell::Passed);
        assert_eq!(Cell::from(Err(Skip::because("no Go"))), Cell::Skipped("no Go".into()));
        let with_context = Err(Skip::because("no Go")).context("building");
        assert_eq!(Cell::from(with_context), Cell::Skipped("no Go".into()));
        assert_eq!(Cell::from(Err(anyhow::anyhow!("broken"))), Cell::Failed("broken".into()));
    }
}
