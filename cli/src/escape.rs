//! Text from packages and controllers, escaped so that it cannot control the terminal.

use std::fmt::Write;

/// Whether a character does more to a terminal than show itself: control characters except the newline, the other line
/// separators, and the characters that change the writing direction.
pub fn is_escaped(c: char) -> bool {
    let is_separator_or_direction = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() && c != '\n' || is_separator_or_direction
}

/// Appends `\uXXXX`, as JSON writes it, so that a quoted value is a JSON string.
pub fn push_escaped(text: &mut String, c: char) {
    let _ = write!(text, "\\u{:04x}", u32::from(c));
}

/// The text with every character that [`is_escaped`] replaced. It may have several lines; a tab becomes a space.
pub fn escape(text: &str) -> String {
    if !text.chars().any(is_escaped) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '\t' => escaped.push(' '),
            c if is_escaped(c) => push_escaped(&mut escaped, c),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_newlines_stay() {
        for (text, escaped) in
            [("a\nb", "a\nb"), ("a\tb", "a b"), ("\u{1b}[2J", "\\u001b[2J"), ("\u{202e}x", "\\u202ex")]
        {
            assert_eq!(escape(text), escaped);
        }
    }
}
