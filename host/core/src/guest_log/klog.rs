//! klog, the logger of Kubernetes' own programs and of client-go.

use tracing::Level;

use super::{Entry, logfmt};

/// `I1129 12:00:00.000000       1 main.go:12] text`, or `"text" key="value"` after the bracket.
pub(super) fn read(line: &str) -> Option<Entry<'_>> {
    let level = match line.as_bytes().first()? {
        b'I' => Level::INFO,
        b'W' => Level::WARN,
        b'E' | b'F' => Level::ERROR,
        _ => return None,
    };
    let (head, text) = line.split_once("] ")?;
    let mut words = head.get(1..)?.split_ascii_whitespace();
    let (date, time, thread, caller) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if date.len() != 4 || !is_number(date) || !is_number(thread) || !time.contains(':') || words.next().is_some() {
        return None;
    }
    let mut entry = match logfmt::quoted(text) {
        Some((message, rest)) => match logfmt::pairs(rest) {
            Some(fields) => Entry { message: message.into(), fields, ..Entry::default() },
            None => Entry { message: text.into(), ..Entry::default() },
        },
        None => Entry { message: text.into(), ..Entry::default() },
    };
    entry.level = Some(level);
    entry.fields.insert("caller".into(), caller.into());
    Some(entry)
}
