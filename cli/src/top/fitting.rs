//! Chooses the columns that fit the terminal, and their widths.

use super::rows::{COLUMNS, SortBy};

/// Spaces between two columns.
pub const SPACING: u16 = 2;

/// The most important columns first. The sort column comes after the first three.
const IMPORTANCE: [SortBy; COLUMNS.len()] = [
    SortBy::Name,
    SortBy::State,
    SortBy::Resident,
    SortBy::Queue,
    SortBy::LastError,
    SortBy::Reconciles,
    SortBy::Errors,
    SortBy::Disk,
    SortBy::Restarts,
    SortBy::Resumes,
    SortBy::Written,
];
const ALWAYS: usize = 3;

const MAX_NAME: u16 = 32;
const MIN_NAME: u16 = 12;
/// A whole `SnapshotFailing=DiskFull` at 80 columns.
const LAST_ERROR: std::ops::RangeInclusive<u16> = 16..=32;

/// The columns to show, by their positions in [`COLUMNS`], with their widths.
///
/// `natural` has the width of each column's longest cell. `room` is the width of the table.
pub fn fit(natural: &[u16; COLUMNS.len()], room: u16, by: SortBy) -> Vec<(usize, u16)> {
    let wanted = |column: usize| match COLUMNS[column].by {
        // A name shrinks before columns disappear, but not below a quarter of the table.
        SortBy::Name => natural[column].min(MAX_NAME).min((room / 4).max(MIN_NAME)),
        SortBy::LastError => (room * 3 / 10).clamp(*LAST_ERROR.start(), *LAST_ERROR.end()),
        _ => natural[column],
    };
    let mut order: Vec<SortBy> = IMPORTANCE.to_vec();
    if let Some(at) = order.iter().position(|it| *it == by).filter(|at| *at >= ALWAYS) {
        let sorted = order.remove(at);
        order.insert(ALWAYS, sorted);
    }
    let mut used = 0;
    let mut shown: Vec<(usize, u16)> = Vec::new();
    for (rank, column) in order.iter().enumerate() {
        let Some(column) = COLUMNS.iter().position(|it| it.by == *column) else { continue };
        let spacing = if shown.is_empty() { 0 } else { SPACING };
        let needed = spacing + wanted(column);
        if used + needed <= room || rank < ALWAYS {
            used += needed;
            shown.push((column, wanted(column)));
        }
    }
    shown.sort_unstable();
    // The remaining width goes to the name first, then to the last column.
    let mut left = room.saturating_sub(used);
    if let Some((column, width)) = shown.first_mut() {
        let more = natural[*column].min(MAX_NAME).saturating_sub(*width).min(left);
        *width += more;
        left -= more;
    }
    if let Some((_, width)) = shown.last_mut() {
        *width += left;
    }
    shown
}

/// As many of `parts` as fit, joined by `separator`; at least the first.
pub fn line<'a>(parts: impl IntoIterator<Item = &'a str>, separator: &str, room: u16) -> String {
    let mut text = String::new();
    for part in parts {
        if text.is_empty() {
            text.push_str(part);
        } else if text.chars().count() + separator.len() + part.chars().count() <= usize::from(room) {
            text.push_str(separator);
            text.push_str(part);
        } else {
            break;
        }
    }
    text
}

/// A text, truncated with `…` if it is too long.
pub fn cut(text: &str, room: u16) -> String {
    let room = usize::from(room);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATURAL: [u16; COLUMNS.len()] = [40, 9, 9, 8, 6, 11, 7, 10, 8, 9, 60];

    fn titles(room: u16, by: SortBy) -> String {
        let shown = fit(&NATURAL, room, by);
        let width: u16 = shown.iter().map(|(_, width)| width).sum::<u16>() + SPACING * (shown.len() as u16 - 1);
        assert!(width <= room, "{width} of {room}");
        shown.iter().map(|(column, _)| COLUMNS[*column].title).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_least_important_columns_disappear_first() {
        for (room, shown) in [
            (40, "NAME STATE RESIDENT"),
            (60, "NAME STATE RESIDENT QUEUE RECONCILES"),
            (80, "NAME STATE RESIDENT QUEUE LAST ERROR"),
            (120, "NAME STATE RESIDENT QUEUE RECONCILES ERRORS LAST ERROR"),
            (200, "NAME STATE RESIDENT DISK QUEUE RECONCILES ERRORS RESUMES WRITTEN RESTARTS LAST ERROR"),
        ] {
            assert_eq!(titles(room, SortBy::Name), shown, "{room}");
        }
    }

    #[test]
    fn the_sort_column_is_shown() {
        assert_eq!(titles(60, SortBy::Written), "NAME STATE RESIDENT QUEUE WRITTEN");
        assert_eq!(titles(60, SortBy::State), titles(60, SortBy::Name));
    }

    #[test]
    fn a_name_is_truncated_before_a_column_disappears() {
        let width = |room| fit(&NATURAL, room, SortBy::Name)[0].1;
        assert_eq!((width(40), width(200)), (18, MAX_NAME));
        assert_eq!(cut("website", 7), "website");
        assert_eq!(cut("website", 4), "web…");
    }

    #[test]
    fn a_line_has_the_parts_that_fit() {
        let parts = ["3 controllers", "1 busy", "instances 3.0 MiB"];
        assert_eq!(line(parts, ", ", 60), "3 controllers, 1 busy, instances 3.0 MiB");
        assert_eq!(line(parts, ", ", 25), "3 controllers, 1 busy");
        assert_eq!(line(parts, ", ", 5), "3 controllers");
    }
}
