//! Parses pipelines: `.Values.a | default "b" | quote`.

use serde_json::Value;

use super::token::Token;

/// Commands, each of which gets the result of the one before as its last argument.
pub type Pipeline = Vec<Command>;

/// An operand, or a function's name and its arguments.
pub type Command = Vec<Operand>;

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Literal(Value),
    /// A function.
    Word(String),
    /// Fields of the dot.
    Fields(Vec<String>),
    /// A variable and its fields; the root without a name.
    Variable(String, Vec<String>),
    /// A pipeline in parentheses and the fields of its value.
    Group(Pipeline, Vec<String>),
}

/// Deeper parentheses are refused, since the parser is recursive.
const MAX_DEPTH: usize = 64;

/// Parses all of `tokens`.
pub fn parse_pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut rest = tokens;
    let pipeline = parse(&mut rest, 0)?;
    if rest.is_empty() { Ok(pipeline) } else { Err("`)` without `(`".to_owned()) }
}

/// Parses up to a closing parenthesis, which stays.
fn parse(rest: &mut &[Token], depth: usize) -> Result<Pipeline, String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    let mut pipeline = Vec::new();
    let mut command = Vec::new();
    while let [token, after @ ..] = *rest {
        if *token == Token::Close {
            break;
        }
        *rest = after;
        let operand = match token {
            Token::Pipe => {
                pipeline.push(std::mem::take(&mut command));
                continue;
            }
            Token::Literal(value) => Operand::Literal(value.clone()),
            Token::Word(name) => Operand::Word(name.clone()),
            Token::Fields(fields) => Operand::Fields(fields.clone()),
            Token::Variable(name) => Operand::Variable(name.clone(), fields_of(rest)),
            Token::Open => {
                let inner = parse(rest, depth + 1)?;
                let [Token::Close, after @ ..] = *rest else { return Err("`(` without `)`".to_owned()) };
                *rest = after;
                Operand::Group(inner, fields_of(rest))
            }
            other => return Err(format!("{other:?} is not expected here")),
        };
        command.push(operand);
    }
    pipeline.push(command);
    if pipeline.iter().any(Vec::is_empty) { Err("an empty expression".to_owned()) } else { Ok(pipeline) }
}

/// The fields that follow directly.
fn fields_of(rest: &mut &[Token]) -> Vec<String> {
    match *rest {
        [Token::FieldsOf(fields), after @ ..] => {
            *rest = after;
            fields.clone()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    #[test]
    fn a_pipeline_has_commands_with_operands() {
        let parsed = parse_pipeline(&tokens("include \"a\" (dict \"b\" $x.y) | indent 2").expect("tokens"));
        let dict = vec![vec![
            Operand::Word("dict".into()),
            Operand::Literal("b".into()),
            Operand::Variable("x".into(), vec!["y".into()]),
        ]];
        let include =
            vec![Operand::Word("include".into()), Operand::Literal("a".into()), Operand::Group(dict, Vec::new())];
        let indent = vec![Operand::Word("indent".into()), Operand::Literal(2.into())];
        assert_eq!(parsed, Ok(vec![include, indent]));
    }

    #[test]
    fn broken_expressions_are_errors() {
        for text in ["", "|", "a |", "(", ")", "a )", "(a", ", a"] {
            assert!(parse_pipeline(&tokens(text).expect("tokens")).is_err(), "{text}");
        }
        assert!(parse_pipeline(&vec![Token::Open; 1000]).is_err());
    }
}
