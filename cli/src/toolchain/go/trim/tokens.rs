//! Splits Go source into the tokens that a search needs: names, strings and punctuation, without comments.

/// A token of Go source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    Name(&'a str),
    /// A string without its quotes, as it is written.
    Text(&'a str),
    Other(char),
}

/// The tokens of `source`. Numbers are names.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' | '`' | '\'' => {
                let len = quoted(rest, first);
                tokens.push(Token::Text(rest[1..len].strip_suffix(first).unwrap_or(&rest[1..len])));
                len
            }
            _ if is_name(first) => {
                let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                tokens.push(Token::Name(&rest[..len]));
                len
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Other(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    tokens
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the string at the start of `text`, with its quotes. Only raw strings have no escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::Token::{Name, Other, Text};
    use super::*;

    #[test]
    fn comments_are_no_tokens_and_strings_are_whole() {
        for (source, expected) in [
            ("a.New(b) // c.New", vec![Name("a"), Other('.'), Name("New"), Other('('), Name("b"), Other(')')]),
            ("/* x */ y/z", vec![Name("y"), Other('/'), Name("z")]),
            (r#""a\"//b" `\` '\'' "#, vec![Text(r#"a\"//b"#), Text("\\"), Text("\\'")]),
            ("/* open", vec![]),
            ("\"open", vec![Text("open")]),
            ("é1", vec![Name("é1")]),
        ] {
            assert_eq!(tokens(source), expected, "{source}");
        }
    }
}
