//! The table as text, for scripts and logs, aligned like kubectl's.

use std::fmt::Write;

use wasmop_host::status::Overview;

use super::rows::{COLUMNS, SortBy, rows, sort};
use crate::escape::escape;

/// All controllers, one per line.
pub fn table(now: &Overview, by: SortBy, headers: bool) -> String {
    let mut rows = rows(now, None);
    sort(&mut rows, by);
    // Errors contain text of controllers, which must neither add lines nor control the terminal.
    let cell = |text: String| escape(&text).replace('\n', " ");
    let cells = rows.iter().map(|row| COLUMNS.map(|column| cell((column.cell)(row, now.host.timestamp_seconds))));
    let titles = headers.then(|| COLUMNS.map(|column| column.title.to_owned()));
    let lines: Vec<_> = titles.into_iter().chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(out, "{cell:width$}   ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rows::tests::overview;

    #[test]
    fn columns_are_aligned_and_titles_are_optional() {
        let expected = "\
NAME      STATE       RESIDENT   DISK     QUEUE   RECONCILES   ERRORS   RESUMES   WRITTEN   RESTARTS   LAST ERROR
backup    busy        3.0MiB     192KiB   0+2     5            1        3         256KiB    0
certs     suspended   1.0MiB     192KiB   0       5            1        3         256KiB    0          SnapshotFailing=DiskFull 2m ago default/home: the snapshot could not be written
website   suspended   0B         192KiB   0       5            1        3         256KiB    0
";
        let now = overview(1000.0);
        assert_eq!(table(&now, SortBy::Name, true), expected);
        let mut forged = overview(1000.0);
        if let Some(error) = &mut forged.controllers[2].last_error {
            error.message = "bad\u{1b}[2J\r\nbackup    busy".into();
        }
        let text = table(&forged, SortBy::Name, false);
        assert!(text.contains("default/home: bad\\u001b[2J\\u000d backup"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        let without = table(&now, SortBy::Name, false);
        assert_eq!(without.lines().count(), 3);
        assert!(without.starts_with("backup "), "{without}");
    }
}
