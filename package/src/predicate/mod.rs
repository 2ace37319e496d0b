//! Predicates of watches: CEL expressions over an object and its previous version.
//!
//! Expressions come from packages and are evaluated on the host's main loop. So both their shape and their work are
//! bounded:
//!
//! ```text
//! text    ─ length, openings ─► parse ─ known names, depth ─► cost of each node: fixed + per byte of the objects
//! objects ─► charge for parsing them and for the static cost ─► evaluate; each loop iteration charges its own cost
//! ```
//!
//! ```
//! use wasmop_package::predicate::Predicate;
//!
//! let predicate = Predicate::new("object.spec != oldObject.spec")?;
//! let (new, old) = (r#"{"spec": 2}"#, r#"{"spec": 1}"#);
//! assert_eq!(predicate.passes(new, Some(old)), Ok(true));
//! # Ok::<(), wasmop_package::predicate::PredicateError>(())
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

/// An expression has at most this many bytes.
pub const MAX_TEXT: usize = 2048;
/// An expression has at most this many opening brackets and `?`, including those in strings. This bounds the recursion
/// of the parser.
const MAX_OPENINGS: usize = 64;
/// Bytes of stack for the parser's thread. 64 openings with about ten nested calls each use a small part of it.
const PARSER_STACK: usize = 64 << 20;
/// The work of one evaluation is at most this. A node costs 16 and a compared byte costs 1. The budget corresponds to
/// about 10 ms; see `cargo xtask bench predicates`.
const BUDGET: u64 = 1 << 20;
/// The cost of parsing the objects, per byte.
const READ_COST: u64 = 4;
/// The cost of matching a pattern, per byte of the text.
const MATCH_COST: u64 = 64;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Decides whether a change of an object causes a reconcile.
#[derive(Debug)]
pub struct Predicate {
    /// Instrumented: each loop iteration charges the meter.
    expression: IdedExpr,
    /// The static cost, without loop iterations.
    cost: Bound,
    /// The compiled literal patterns of `matches`.
    patterns: Arc<HashMap<String, Regex>>,
}

/// Why a text is not a valid predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at line {line}, column {column}")]
pub struct PredicateError {
    /// What is wrong.
    pub problem: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// Why the evaluation of a predicate failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The evaluation used up its budget.
    #[error("it exceeds the evaluation budget: compare fewer or smaller parts of the object")]
    Exceeded,
    /// An operation failed, such as reading a field that does not exist.
    #[error("it failed: {0}")]
    Failed(String),
    /// The result has another type. The value names it, such as `a number`.
    #[error("it evaluates to {0}, not to true or false")]
    NoBool(&'static str),
    /// The object is not valid JSON.
    #[error("the object is not valid JSON")]
    NoJson,
}

/// The remaining budget of an evaluation.
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
                // Make every further charge fail: `||` and `&&` can absorb a single failure.
                self.left.store(0, Ordering::Relaxed);
                Err(EvaluationError::Exceeded)
            }
        }
    }
}

impl Predicate {
    /// Parses and checks an expression.
    ///
    /// # Errors
    ///
    /// Fails if the expression is too long, too deep, not valid CEL, or uses unsupported functions or variables.
    pub fn new(text: &str) -> Result<Predicate, PredicateError> {
        let at_start = |problem: String| PredicateError { problem, line: 1, column: 1 };
        if text.len() > MAX_TEXT {
            return Err(at_start(format!("{} bytes; at most {MAX_TEXT} are allowed", text.len())));
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
            Ok(Err(_)) | Err(_) => Err(at_start("the parser failed".into())),
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

    /// Returns whether a change satisfies the predicate.
    ///
    /// `object` and `old` are JSON. `old` is `None` for a new object.
    ///
    /// # Errors
    ///
    /// Fails if the evaluation exceeds its budget, if an operation fails, or if the result is not a bool.
    pub fn passes(&self, object: &str, old: Option<&str>) -> Result<bool, EvaluationError> {
        self.metered(object, old).0
    }

    /// Like [`Predicate::passes`]. Returns the number of charges as well.
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
            Err(error) => Err(EvaluationError::Failed(redacted(&error))),
        }
    }
}

/// Returns the message without values, because objects may be Secrets.
fn redacted(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(_)
        | ExecutionError::NoSuchOverload(_)
        | ExecutionError::UndeclaredReference(_)
        | ExecutionError::InvalidArgumentCount { .. } => {
            let text = error.to_string();
            text.chars().take(200).collect()
        }
        ExecutionError::FunctionError { function, .. } => format!("`{function}` does not accept such a value"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "a number is too large".into(),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".into(),
        _ => "a value has an unexpected type".into(),
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

/// Converts JSON to CEL. Integers become `int`, as in Kubernetes.
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

/// A line and a column. Both count from 1.
struct Position {
    line: usize,
    column: usize,
}

impl Position {
    fn of(self, problem: String) -> PredicateError {
        PredicateError { problem, line: self.line, column: self.column }
    }
}

/// Returns the position of a character. `offset` counts characters from 0.
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
