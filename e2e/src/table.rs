//! Behaviours x guests, as marks.

use std::fmt::Write;

/// What became of a behaviour with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Passed,
    Failed(String),
    Skipped(String),
}

impl From<anyhow::Result<()>> for Cell {
    fn from(result: anyhow::Result<()>) -> Cell {
        result.map_or_else(|error| Cell::Failed(format!("{error:#}")), |()| Cell::Passed)
    }
}

impl Cell {
    fn mark(&self) -> char {
        match self {
            Cell::Passed => '✓',
            Cell::Failed(_) => '✗',
            Cell::Skipped(_) => '–',
        }
    }
}

/// Rows in the order in which they were first set.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<Option<Cell>>)>,
}

impl Table {
    pub fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row without marks, if there is none of this name.
    pub fn row(&mut self, name: &'static str) {
        if !self.rows.iter().any(|(row, _)| *row == name) {
            self.rows.push((name, vec![None; self.columns.len()]));
        }
    }

    pub fn set(&mut self, row: &'static str, column: &str, cell: Cell) {
        self.row(row);
        let column = self.columns.iter().position(|name| *name == column);
        let cells = self.rows.iter_mut().find(|(name, _)| *name == row);
        if let (Some(column), Some((_, cells))) = (column, cells) {
            cells[column] = Some(cell);
        }
    }

    /// Of a behaviour that can't be skipped; prints it at once.
    pub fn tell(&mut self, row: &'static str, column: &str, result: anyhow::Result<()>) {
        let cell = Cell::from(result);
        println!("{row}: {cell:?}");
        self.set(row, column, cell);
    }

    /// The table, then skipped and failed cells with their reasons, then the counts.
    pub fn render(&self, name: &str) -> String {
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
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        let mut reasons = String::new();
        for (row, column, cell) in self.cells() {
            match cell {
                Some(Cell::Passed) => passed += 1,
                Some(Cell::Skipped(reason)) => {
                    skipped += 1;
                    let _ = writeln!(reasons, "skipped: {row}, {column}: {reason}");
                }
                Some(Cell::Failed(reason)) => {
                    failed += 1;
                    let _ = writeln!(reasons, "failed: {row}, {column}: {}", reason.trim_end().replace('\n', "\n    "));
                }
                None => {
                    failed += 1;
                    let _ = writeln!(reasons, "failed: {row}, {column}: not run");
                }
            }
        }
        let _ = writeln!(text, "\n{reasons}{name}: {passed} passed, {failed} failed, {skipped} skipped");
        text
    }

    /// Whether no cell failed, and none was forgotten.
    pub fn is_good(&self) -> bool {
        self.cells().all(|(_, _, cell)| matches!(cell, Some(Cell::Passed | Cell::Skipped(_))))
    }

    fn cells(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<&Cell>)> {
        self.rows.iter().flat_map(|(row, cells)| {
            self.columns.iter().zip(cells).map(|(column, cell)| (*row, *column, cell.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_a_mark_and_what_is_not_passed_has_a_reason() {
        let mut table = Table::new(&["rust", "go"]);
        table.set("create", "rust", Cell::Passed);
        table.set("create", "go", Cell::Skipped("no Go".into()));
        table.set("panic", "rust", Cell::Failed("it did\nnot".into()));
        let text = table.render("conformance");
        assert!(text.contains("create    ✓       –   \n"), "{text}");
        assert!(text.contains("panic     ✗       ?   \n"), "{text}");
        assert!(text.contains("\nskipped: create, go: no Go\n"), "{text}");
        assert!(text.contains("\nfailed: panic, rust: it did\n    not\n"), "{text}");
        assert!(text.ends_with("\nfailed: panic, go: not run\nconformance: 1 passed, 2 failed, 1 skipped\n"), "{text}");
        assert!(!table.is_good());
    }
}
