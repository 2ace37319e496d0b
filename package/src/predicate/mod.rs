//! Predicates of watches: a CEL expression over an object and what it was before.
//!
//! The expression comes from a package and is evaluated where everything waits for it, so both its shape and its
//! work are bounded:
//!
//! ```text
//! text ─ length, openings ─ parse ─ known names, depth ─► cost of each part: fixed + per byte of the objects
//! objects ─► charge for reading them and for all but the loops ─► evaluate; each turn of a loop charges for itself
//! ```

mod bound;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use cel::common::ast::SourceInfo;
use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use regex::Regex;

use bound::Bound;

/// Most bytes of an expression.
pub const MAX_TEXT: usize = 2048;
/// Most opening brackets and `?` of an expression, those in strings included: as deep as the parser recurses.
const MAX_OPENINGS: usize = 64;
/// Of the thread that parses. 64 openings, each some ten nested calls, take a small part of it.
const PARSER_STACK: usize = 64 << 20;
/// Most work of one evaluation. A part of an expression is 16, a byte compared is 1: some ten milliseconds
/// (`cargo xtask bench predicates`).
const BUDGET: u64 = 1 << 20;
/// For each byte of the objects, to read it.
const READ_COST: u64 = 4;
/// For each byte that a pattern is matched against: the states of a small automaton.
const MATCH_COST: u64 = 64;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Says of changes of an object whether they count.
#[derive(Debug)]
pub struct Predicate {
    /// Its loops charge for each turn.
    expression: IdedExpr,
    /// Of everything but the loops' turns.
    cost: Bound,
    patterns: Arc<HashMap<String, Regex>>,
}

/// Why a text is no predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at line {line}, column {column}")]
pub struct PredicateError {
    pub problem: String,
    pub line: usize,
    pub column: usize,
}

/// Why a predicate could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("it takes more work than a predicate may: compare fewer or smaller parts of the object")]
    Exceeded,
    #[error("it failed: {0}")]
    Failed(String),
    #[error("it gave {0}, not true or false")]
    NoBool(&'static str),
    #[error("the object is no JSON")]
    NoJson,
}

/// Work that an evaluation may still do.
struct Meter {
    left: AtomicU64,
    charges: AtomicU64,
}

impl Meter {
    fn charge(&self, cost: u64) -> Result<(), EvaluationError> {
        self.charges.fetch_add(1, Ordering::Relaxed);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost)) {
            Ok(_) => Ok(()),
            Err(_) => {
                // Whatever comes now fails, although `||` and `&&` may make up for a failure.
                self.left.store(0, Ordering::Relaxed);
                Err(EvaluationError::Exceeded)
            }
        }
    }
}

impl Predicate {
    pub fn new(text: &str) -> Result<Predicate, PredicateError> {
        let at_start = |problem: String| PredicateError { problem, line: 1, column: 1 };
        if text.len() > MAX_TEXT {
            return Err(at_start(format!("{} bytes, {MAX_TEXT} are allowed", text.len())));
        }
        let mut openings = text.char_indices().filter(|(_, c)| matches!(c, '(' | '[' | '{' | '?'));
        if let Some((offset, _)) = openings.nth(MAX_OPENINGS) {
            let problem = format!("more than {MAX_OPENINGS} opening brackets and `?`");
            return Err(position(text, text[..offset].chars().count()).of(problem));
        }
        let text = text.to_owned();
        let parser = std::thread::Builder::new().name("predicate".into()).stack_size(PARSER_STACK);
        let parsed = parser.spawn(move || Self::parse(&text)).map(|thread| thread.join());
        match parsed {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(at_start("it cannot be parsed".into())),
        }
    }

    fn parse(text: &str) -> Result<Predicate, PredicateError> {
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first();
            let (line, column) = first.map_or((1, 1), |error| error.pos);
            let problem = first.map_or_else(|| "syntax error".into(), |error| error.msg.clone());
            PredicateError {
                problem,
                line: usize::try_from(line).unwrap_or(1),
                column: usize::try_from(column).unwrap_or(1),
            }
        })?;
        let mut expression = program.expression().clone();
        let mut patterns = HashMap::new();
        let cost = bound::check(&mut expression, &mut patterns).map_err(|refused| {
            let offset = offset_of(program.source_info(), refused.id);
            position(text, offset).of(refused.problem)
        })?;
        Ok(Predicate { expression, cost, patterns: Arc::new(patterns) })
    }

    /// Whether a change counts. `object` and `old` are JSON; `old` is `None` for an object that is new.
    pub fn passes(&self, object: &str, old: Option<&str>) -> Result<bool, EvaluationError> {
        self.metered(object, old).0
    }

    /// The same, and how often work was charged.
    fn metered(&self, object: &str, old: Option<&str>) -> (Result<bool, EvaluationError>, u64) {
        let meter = Arc::new(Meter { left: AtomicU64::new(BUDGET), charges: AtomicU64::new(0) });
        let result = self.evaluate(&meter, object, old);
        let exceeded = meter.left.load(Ordering::Relaxed) == 0;
        let result = if exceeded { Err(EvaluationError::Exceeded) } else { result };
        (result, meter.charges.load(Ordering::Relaxed))
    }

    fn evaluate(&self, meter: &Arc<Meter>, object: &str, old: Option<&str>) -> Result<bool, EvaluationError> {
        let bytes = (object.len() + old.map_or(0, str::len)) as u64;
        meter.charge(bytes.saturating_mul(READ_COST).saturating_add(self.cost.at(bytes)))?;
        let mut context = Context::with_env(ENV.clone());
        context.add_variable_from_value("object", value(object)?);
        context.add_variable_from_value("oldObject", old.map_or(Ok(Value::Null), value)?);
        let (turns, matching, patterns) = (meter.clone(), meter.clone(), self.patterns.clone());
        let exceeded = |function: &str| ExecutionError::function_error(function, "too much work");
        let charge = move |fixed: i64, per_byte: i64| {
            let cost = Bound { fixed: fixed.unsigned_abs(), per_byte: per_byte.unsigned_abs() }.at(bytes);
            turns.charge(cost).map(|()| true).map_err(|_| exceeded(bound::CHARGE))
        };
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
            matching.charge(text.len() as u64 * MATCH_COST).map_err(|_| exceeded("matches"))?;
            let pattern = patterns.get(&*pattern);
            pattern.map(|pattern| pattern.is_match(&text)).ok_or_else(|| exceeded("matches"))
        };
        let added = context.add_function(bound::CHARGE, charge).and(context.add_function("matches", matches));
        added.map_err(|error| EvaluationError::Failed(error.to_string()))?;
        match Value::resolve(&self.expression, &context) {
            Ok(Value::Bool(passes)) => Ok(passes),
            Ok(other) => Err(EvaluationError::NoBool(kind(&other))),
            Err(error) => Err(EvaluationError::Failed(told(&error))),
        }
    }
}

/// The message without values: objects may be Secrets.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(_)
        | ExecutionError::NoSuchOverload(_)
        | ExecutionError::UndeclaredReference(_)
        | ExecutionError::InvalidArgumentCount { .. } => {
            let text = error.to_string();
            text.chars().take(200).collect()
        }
        ExecutionError::FunctionError { function, .. } => format!("`{function}` can't take such a value"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "a number is too large".into(),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".into(),
        _ => "a value is of another type than the expression needs".into(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::String(_) => "a string",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        _ => "something else",
    }
}

fn value(json: &str) -> Result<Value, EvaluationError> {
    serde_json::from_str(json).map(convert).map_err(|_| EvaluationError::NoJson)
}

/// Numbers without a fraction become `int`, as Kubernetes has them.
fn convert(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(string) => Value::String(Arc::new(string)),
        Json::Array(items) => Value::List(Arc::new(items.into_iter().map(convert).collect())),
        Json::Object(fields) => {
            let entry = |(key, value)| (Key::String(Arc::new(key)), convert(value));
            Value::Map(Map { map: Arc::new(fields.into_iter().map(entry).collect()) })
        }
    }
}

/// A line and a column, both from 1.
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn of(self, problem: String) -> PredicateError {
        PredicateError { problem, line: self.line, column: self.column }
    }
}

/// Of a character, counted from 0.
fn position(text: &str, offset: usize) -> Position {
    let before = text.chars().take(offset);
    let (mut line, mut column) = (1, 1);
    for c in before {
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    Position { line, column }
}

fn offset_of(source: &SourceInfo, id: u64) -> usize {
    source.offset_for(id).map_or(0, |(start, _)| start as usize)
}

#[cfg(test)]
mod tests;
