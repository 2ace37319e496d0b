//! Loggers that print a time, a level and a text: tracing-subscriber, env_logger, Go's log.

use super::{Entry, is_time, level_of};

/// `2026-11-29T12:00:00Z  INFO app::sync: text`, `[2026-11-29T12:00:00Z INFO  app] text`, or `2026/11/29 12:00:00 text`.
pub(super) fn read(line: &str) -> Option<Entry<'_>> {
    if let Some(inside) = line.strip_prefix('[') {
        let (head, message) = inside.split_once("] ")?;
        let mut words = head.split_ascii_whitespace();
        let level = words.by_ref().find(|word| !is_time(word)).and_then(level_of)?;
        return Some(Entry {
            level: Some(level),
            logger: words.next().unwrap_or_default().into(),
            message: message.into(),
            ..Entry::default()
        });
    }
    if let Some(text) = after_go_time(line) {
        // slog prints a level there, Go's log none.
        let leveled = text.split_once(' ').and_then(|(word, rest)| Some((level_of(word)?, rest)));
        let is_level = |word: &str| word.bytes().all(|byte| byte.is_ascii_uppercase());
        return Some(match leveled.filter(|_| text.split(' ').next().is_some_and(is_level)) {
            Some((level, rest)) => Entry { level: Some(level), message: rest.into(), ..Entry::default() },
            None => Entry { message: text.into(), ..Entry::default() },
        });
    }
    let (time, rest) = line.split_once(' ')?;
    if !is_time(time) {
        return None;
    }
    let (level, rest) = rest.trim_start().split_once(' ')?;
    let level = level_of(level)?;
    let rest = rest.trim_start();
    // Spans come first: `reconcile{object=a}: app::sync: text`. They stay in the message.
    let (logger, message) = match rest.split_once(": ") {
        Some((logger, message)) if is_module(logger) => (logger, message),
        _ => ("", rest),
    };
    Some(Entry { level: Some(level), logger: logger.into(), message: message.into(), ..Entry::default() })
}

/// The text after `2026/11/29 12:00:00`.
fn after_go_time(line: &str) -> Option<&str> {
    let bytes = line.as_bytes();
    let is_so = bytes.len() > 20
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && (bytes[4], bytes[7], bytes[10], bytes[13], bytes[16]) == (b'/', b'/', b' ', b':', b':');
    // After it, a fraction of a second may come.
    if is_so { line.get(11..)?.split_once(' ').map(|(_, text)| text) } else { None }
}

fn is_module(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b'.'))
}
