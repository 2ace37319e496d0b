//! Parses the text of a Go template, as Helm charts have them, into nodes.

use super::expression::{Pipeline, parse_pipeline};
use super::token::{Token, tokens};

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Text(String),
    Print(Pipeline),
    /// `$name := …` or `$name = …`.
    Assign {
        name: String,
        declares: bool,
        value: Pipeline,
    },
    /// The first branch whose condition holds; `else` has no condition.
    If(Vec<(Option<Pipeline>, Vec<Node>)>),
    With {
        variable: Option<String>,
        value: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        /// For the index or key, and for the item.
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `define`, and `block`, which is also rendered where it is.
    Define {
        name: String,
        body: Vec<Node>,
        shown_with: Option<Pipeline>,
    },
    /// `template "name" .`
    Template {
        name: String,
        dot: Pipeline,
    },
}

/// A piece of the text: literal text, or an action without its braces.
#[derive(Debug)]
enum Piece {
    Text(String),
    Action(String),
}

/// Parses a template. The error says what is wrong.
pub fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = parse_nodes(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(format!("`{{{{ {end} }}}}` without a beginning")),
    }
}

/// Splits at `{{` and `}}`, and trims where an action has `-`.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, action) = match rest.split_once("{{") {
            Some((before, action)) => (before, Some(action)),
            None => (rest, None),
        };
        let mut literal = if trim { before.trim_start() } else { before };
        let Some(action) = action else {
            pieces.push(Piece::Text(literal.to_owned()));
            return Ok(pieces);
        };
        let (action, trims_before) = match action.strip_prefix('-') {
            Some(trimmed) if trimmed.starts_with(char::is_whitespace) => (trimmed, true),
            _ => (action, false),
        };
        if trims_before {
            literal = literal.trim_end();
        }
        pieces.push(Piece::Text(literal.to_owned()));
        let end = end_of_action(action).ok_or("`{{` without `}}`")?;
        let inside = &action[..end];
        rest = &action[end + 2..];
        let inside = match inside.strip_suffix('-') {
            Some(trimmed) if trimmed.ends_with(char::is_whitespace) => {
                trim = true;
                trimmed
            }
            _ => {
                trim = false;
                inside
            }
        };
        if !inside.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(inside.trim().to_owned()));
        }
    }
}

/// Where the `}}` of an action is: not in a string or comment.
fn end_of_action(text: &str) -> Option<usize> {
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/")?;
        return text[comment..].find("}}").map(|end| comment + end);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if c == '\\' && !escaped => escaped = true,
            Some(open) => {
                if c == open && !escaped {
                    quote = None;
                }
                escaped = false;
            }
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// Deeper templates are refused, since the parser is recursive.
const MAX_DEPTH: usize = 64;

/// The nodes up to an `end` or `else`, which is returned.
fn parse_nodes(pieces: &mut dyn Iterator<Item = Piece>, depth: usize) -> Result<(Vec<Node>, Option<String>), String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (keyword, rest) = split_keyword(&action);
        match keyword {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" => nodes.push(parse_if(rest, pieces, depth)?),
            "with" => {
                let (mut variables, value) = declared(rest)?;
                let (body, otherwise) = parse_body(pieces, depth)?;
                nodes.push(Node::With { variable: variables.pop(), value, body, otherwise });
            }
            "range" => {
                let (variables, over) = declared(rest)?;
                let (body, otherwise) = parse_body(pieces, depth)?;
                nodes.push(Node::Range { variables, over, body, otherwise });
            }
            "define" | "block" => {
                let (name, rest) = quoted_name(rest)?;
                let (body, _) = parse_body(pieces, depth)?;
                let shown_with = if keyword == "block" { Some(dot_or(rest)?) } else { None };
                nodes.push(Node::Define { name, body, shown_with });
            }
            "template" => {
                let (name, rest) = quoted_name(rest)?;
                nodes.push(Node::Template { name, dot: dot_or(rest)? });
            }
            "break" | "continue" => return Err(format!("`{keyword}` is not supported")),
            _ => nodes.push(parse_print(&action)?),
        }
    }
    Ok((nodes, None))
}

fn split_keyword(action: &str) -> (&str, &str) {
    let end = action.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(action.len());
    (&action[..end], action[end..].trim())
}

/// `$x := value`, `$x = value`, or a value to print.
fn parse_print(action: &str) -> Result<Node, String> {
    let tokens = tokens(action)?;
    if let [Token::Variable(name), assign @ (Token::Declare | Token::Assign), value @ ..] = &tokens[..] {
        let declares = *assign == Token::Declare;
        return Ok(Node::Assign { name: name.clone(), declares, value: parse_pipeline(value)? });
    }
    Ok(Node::Print(parse_pipeline(&tokens)?))
}

fn parse_if(condition: &str, pieces: &mut dyn Iterator<Item = Piece>, depth: usize) -> Result<Node, String> {
    // `if $x := …` declares a variable, which a condition seldom needs.
    let (_, condition) = declared(condition)?;
    let mut branches = Vec::new();
    let mut condition = Some(condition);
    loop {
        let (body, end) = parse_nodes(pieces, depth + 1)?;
        branches.push((condition.take(), body));
        let end = end.ok_or("`if` without `end`")?;
        match split_keyword(&end) {
            ("else", "") => {}
            ("else", rest) => match split_keyword(rest) {
                ("if", rest) => condition = Some(declared(rest)?.1),
                _ => return Err(format!("`{end}` is not supported")),
            },
            _ => return Ok(Node::If(branches)),
        }
    }
}

/// A body, and the part after `else`.
fn parse_body(pieces: &mut dyn Iterator<Item = Piece>, depth: usize) -> Result<(Vec<Node>, Vec<Node>), String> {
    let (body, end) = parse_nodes(pieces, depth + 1)?;
    match end.as_deref() {
        Some("end") => Ok((body, Vec::new())),
        Some("else") => match parse_nodes(pieces, depth + 1)? {
            (otherwise, Some(end)) if end == "end" => Ok((body, otherwise)),
            _ => Err("`else` without `end`".to_owned()),
        },
        Some(other) => Err(format!("`{other}` is not supported")),
        None => Err("a block without `end`".to_owned()),
    }
}

/// `$a, $b := value` or a value alone.
fn declared(text: &str) -> Result<(Vec<String>, Pipeline), String> {
    let tokens = tokens(text)?;
    let Some(at) = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign)) else {
        return Ok((Vec::new(), parse_pipeline(&tokens)?));
    };
    let variables = tokens[..at].iter().filter_map(|token| match token {
        Token::Variable(name) => Some(name.clone()),
        _ => None,
    });
    Ok((variables.collect(), parse_pipeline(&tokens[at + 1..])?))
}

fn quoted_name(text: &str) -> Result<(String, &str), String> {
    let name = text.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    name.map(|(name, rest)| (name.to_owned(), rest.trim()))
        .ok_or_else(|| format!("`{text}` does not begin with a name"))
}

fn dot_or(text: &str) -> Result<Pipeline, String> {
    parse_pipeline(&tokens(if text.is_empty() { "." } else { text })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_trim_the_white_space_around_an_action() {
        for (text, expected) in [
            ("a {{ 1 }} b", ["a ", "1", " b"]),
            ("a {{- 1 -}} b", ["a", "1", "b"]),
            ("a {{- 1 }} b", ["a", "1", " b"]),
            ("a\n  {{- 1 -}}\n b", ["a", "1", "b"]),
            // A number, not a dash that trims.
            ("a {{-1 }} b", ["a ", "-1", " b"]),
        ] {
            let found: Vec<String> = pieces(text)
                .expect("valid")
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) | Piece::Action(text) => text,
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn an_action_ends_outside_of_strings_and_comments() {
        for (text, actions) in [
            (r#"{{ "}}" }}x"#, 1),
            ("{{ `}}` }}x", 1),
            (r#"{{ "\"}}" }}x"#, 1),
            ("{{/* a }} b */}}x", 0),
            ("{{- /* a */ -}}x", 0),
        ] {
            let pieces = pieces(text).expect(text);
            let found = pieces.iter().filter(|piece| matches!(piece, Piece::Action(_))).count();
            assert_eq!(found, actions, "{text}");
            assert!(matches!(pieces.last(), Some(Piece::Text(rest)) if rest == "x"), "{text}");
        }
    }

    #[test]
    fn broken_templates_are_errors() {
        for text in ["{{ if .x }}", "{{ end }}", "{{ .x", "{{ range .x }}", "{{ else }}", "{{ define x }}{{ end }}"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "{{ if .x }}".repeat(1000);
        assert!(parse(&deep).is_err());
    }
}
