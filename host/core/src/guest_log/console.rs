//! zap's console encoder: columns that are separated by tabs.

use serde_json::{Map, Value};

use super::{Entry, is_time, level_of};

/// `time⇥LEVEL⇥logger⇥caller⇥message⇥{fields}`, of which logger, caller and fields may be missing.
pub(super) fn read(line: &str) -> Option<Entry<'_>> {
    let mut columns: Vec<&str> = line.split('\t').collect();
    if columns.len() < 3 || !is_time(columns[0]) {
        return None;
    }
    let level = level_of(columns[1])?;
    let mut fields = Map::new();
    let last = columns.last().copied().unwrap_or_default();
    if columns.len() > 3
        && last.starts_with('{')
        && let Ok(Value::Object(found)) = serde_json::from_str(last)
    {
        fields = found;
        columns.pop();
    }
    let mut logger = "";
    let mut rest = &columns[2..];
    while let [column, more @ ..] = rest
        && !more.is_empty()
    {
        let is_caller = column.rsplit_once(':').is_some_and(|(file, _)| file.ends_with(".go"));
        if is_caller {
            fields.insert("caller".into(), (*column).into());
        } else if logger.is_empty() && !column.contains(' ') {
            logger = column;
        } else {
            break;
        }
        rest = more;
    }
    Some(Entry { level: Some(level), logger: logger.into(), message: rest.join("\t").into(), fields })
}
