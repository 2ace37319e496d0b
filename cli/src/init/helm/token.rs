//! The tokens of a template action.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A string, number, boolean or nil.
    Literal(Value),
    /// A function's name.
    Word(String),
    /// `.a.b`; empty for `.` alone.
    Fields(Vec<String>),
    /// `$name`; empty for `$`. Its fields follow as another token, without white space.
    Variable(String),
    /// Fields of what is before them, `.a` in `(x).a` or `$x.a`.
    FieldsOf(Vec<String>),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// Splits an action into tokens.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let after_space = trimmed.len() != rest.len() || tokens.is_empty();
        rest = trimmed;
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' | '`' => quoted(rest, first)?,
            '$' => {
                let length = 1 + word_length(&rest[1..]);
                (Token::Variable(rest[1..length].to_owned()), length)
            }
            '.' => {
                let (fields, length) = fields(rest);
                let follows = matches!(tokens.last(), Some(Token::Close | Token::Variable(_)));
                let token = if !after_space && follows { Token::FieldsOf(fields) } else { Token::Fields(fields) };
                (token, length)
            }
            '-' | '+' | '0'..='9' => number(rest)?,
            _ => {
                let length = word_length(rest);
                if length == 0 {
                    return Err(format!("`{first}` is not understood"));
                }
                let token = match &rest[..length] {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    word => Token::Word(word.to_owned()),
                };
                (token, length)
            }
        };
        tokens.push(token);
        rest = &rest[length..];
    }
}

/// The length in bytes of the word at the start.
fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// `.a.b` at the start, and its length.
fn fields(text: &str) -> (Vec<String>, usize) {
    let mut fields = Vec::new();
    let mut length = 0;
    while text[length..].starts_with('.') {
        let name = word_length(&text[length + 1..]);
        length += 1 + name;
        if name == 0 {
            break;
        }
        fields.push(text[length - name..length].to_owned());
    }
    (fields, length)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    let length = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    let written = &text[..length];
    let value = match (written.parse::<i64>(), written.parse::<f64>()) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => return Err(format!("`{written}` is not a number")),
    };
    Ok((Token::Literal(value), length))
}

/// A string in double quotes or in backquotes, and its length.
fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((Token::Literal(value.into()), at + 1)),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other)) => value.push(other),
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err("a string without an end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_belong_to_what_is_directly_before_them() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (text, expected) in [
            (".", vec![Token::Fields(vec![])]),
            (".Values.a_b", vec![Token::Fields(names(&["Values", "a_b"]))]),
            ("$x.y", vec![Token::Variable("x".into()), Token::FieldsOf(names(&["y"]))]),
            ("$.y", vec![Token::Variable(String::new()), Token::FieldsOf(names(&["y"]))]),
            ("f $ .y", vec![Token::Word("f".into()), Token::Variable(String::new()), Token::Fields(names(&["y"]))]),
            ("(.a).b", vec![Token::Open, Token::Fields(names(&["a"])), Token::Close, Token::FieldsOf(names(&["b"]))]),
            (
                r#"$a := "x\"y" | quote"#,
                vec![
                    Token::Variable("a".into()),
                    Token::Declare,
                    Token::Literal("x\"y".into()),
                    Token::Pipe,
                    Token::Word("quote".into()),
                ],
            ),
            ("-1 2.5 true", vec![Token::Literal((-1).into()), Token::Literal(2.5.into()), Token::Literal(true.into())]),
        ] {
            assert_eq!(tokens(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn broken_tokens_are_errors() {
        for text in ["\"x", "`x", "1x", "#"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
