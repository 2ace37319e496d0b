//! Checks an expression, and bounds the work and the result size of each node by the size of the objects.

use std::collections::HashMap;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use regex::{Regex, RegexBuilder};

/// Nodes are nested at most this deep.
const MAX_DEPTH: usize = 64;
/// The cost of a node without its operands.
const NODE: u64 = 16;
/// A compiled pattern has at most this many bytes.
const MAX_PATTERN: usize = 16 << 10;
/// A number as text has at most this many characters.
const NUMBER: u64 = 400;
/// The function that each loop iteration calls with its cost. It is not a valid identifier, so expressions cannot call
/// it.
pub const CHARGE: &str = "@charge";

/// An upper bound on work or on the size of a value. It is linear in the size of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Independent of the objects.
    pub fixed: u64,
    /// Per byte of the objects' JSON.
    pub per_byte: u64,
}

impl Bound {
    const fn fixed(fixed: u64) -> Bound {
        Bound { fixed, per_byte: 0 }
    }

    /// Returns the bound for objects of this many bytes.
    pub fn at(self, bytes: u64) -> u64 {
        self.per_byte.saturating_mul(bytes).saturating_add(self.fixed)
    }

    fn plus(self, other: Bound) -> Bound {
        Bound { fixed: self.fixed.saturating_add(other.fixed), per_byte: self.per_byte.saturating_add(other.per_byte) }
    }

    /// Returns the bound with the smaller slope.
    fn least(self, other: Bound) -> Bound {
        let order = |bound: &Bound| (bound.per_byte, bound.fixed);
        std::cmp::min_by_key(self, other, order)
    }
}

/// Why an expression is refused.
pub struct PredicateRefusal {
    /// The offending node.
    pub id: u64,
    pub problem: String,
}

/// The bounds of a node.
struct Estimate {
    /// Work to evaluate it.
    cost: Bound,
    /// Size of its result.
    size: Bound,
}

/// Checks an expression and returns its static cost.
///
/// The static cost excludes loop iterations. Instruments the loops so that each iteration charges its own cost.
/// Collects the patterns of `matches`.
pub fn check(expression: &mut IdedExpr, patterns: &mut HashMap<String, Regex>) -> Result<Bound, PredicateRefusal> {
    let mut checker = Checker { variables: Vec::new(), depth: 0, patterns };
    checker.node(expression).map(|part| part.cost)
}

struct Checker<'a> {
    /// The variables of the enclosing loops with the sizes of their values, innermost last.
    variables: Vec<(String, Bound)>,
    depth: usize,
    patterns: &'a mut HashMap<String, Regex>,
}

impl Checker<'_> {
    fn node(&mut self, node: &mut IdedExpr) -> Result<Estimate, PredicateRefusal> {
        let id = node.id;
        let refused = |problem: String| Err(PredicateRefusal { id, problem });
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return refused(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        let result = match &mut node.expr {
            Expr::Literal(literal) => {
                Ok(Estimate { cost: Bound::fixed(NODE), size: Bound::fixed(literal_size(literal)) })
            }
            Expr::Ident(name) => match self.size_of(name) {
                Some(size) => Ok(Estimate { cost: Bound::fixed(NODE), size }),
                None => refused(format!("unknown variable `{name}`; use `object` or `oldObject`")),
            },
            Expr::Select(select) => self.member(&mut select.operand, None),
            Expr::List(list) => self.literal_of(list.elements.iter_mut()),
            Expr::Map(map) => {
                let entries = map.entries.iter_mut().filter_map(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => Some([&mut entry.key, &mut entry.value]),
                    EntryExpr::StructField(_) => None,
                });
                self.literal_of(entries.flatten())
            }
            Expr::Call(call) => self.call(id, call),
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension),
            Expr::Struct(_) => refused("messages are not supported".into()),
            Expr::Unspecified => refused("syntax error".into()),
        };
        self.depth -= 1;
        result
    }

    fn size_of(&self, name: &str) -> Option<Bound> {
        if let Some((_, size)) = self.variables.iter().rev().find(|(variable, _)| variable == name) {
            return Some(*size);
        }
        matches!(name, "object" | "oldObject").then_some(Bound { fixed: 8, per_byte: 1 })
    }

    /// A field or an item. The interpreter borrows it from a variable, but may copy it from a computed value.
    fn member(&mut self, of: &mut IdedExpr, index: Option<&mut IdedExpr>) -> Result<Estimate, PredicateRefusal> {
        let is_borrowed = is_path(of);
        let mut part = self.node(of)?;
        part.cost = part.cost.plus(Bound::fixed(NODE));
        if !is_borrowed {
            part.cost = part.cost.plus(part.size);
        }
        if let Some(index) = index {
            let index = self.node(index)?;
            part.cost = part.cost.plus(index.cost).plus(index.size);
        }
        Ok(part)
    }

    /// A list or map literal. The interpreter copies the elements.
    fn literal_of<'e>(&mut self, parts: impl Iterator<Item = &'e mut IdedExpr>) -> Result<Estimate, PredicateRefusal> {
        let (mut cost, mut size) = (Bound::fixed(NODE), Bound::fixed(1));
        for part in parts {
            let part = self.node(part)?;
            cost = cost.plus(part.cost).plus(part.size).plus(Bound::fixed(NODE));
            size = size.plus(part.size).plus(Bound::fixed(1));
        }
        Ok(Estimate { cost, size })
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Result<Estimate, PredicateRefusal> {
        let name = call.func_name.clone();
        let refused = |problem: String| Err(PredicateRefusal { id, problem });
        let mut operands: Vec<&mut IdedExpr> = call.target.as_deref_mut().into_iter().chain(&mut call.args).collect();
        if name == operators::INDEX
            && let [of, index] = &mut operands[..]
        {
            return self.member(of, Some(index));
        }
        if name == "matches" {
            let Some(Expr::Literal(LiteralValue::String(pattern))) = operands.last().map(|pattern| &pattern.expr)
            else {
                return refused("the pattern of `matches` has to be a literal string".into());
            };
            let pattern = pattern.inner();
            match RegexBuilder::new(pattern).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN << 4).build() {
                Ok(regex) => self.patterns.insert(pattern.to_owned(), regex),
                Err(error) => {
                    let last = error.to_string();
                    return refused(format!("bad pattern of `matches`: {}", last.lines().last().unwrap_or_default()));
                }
            };
        }
        let mut cost = Bound::fixed(NODE);
        let mut sizes = Vec::with_capacity(operands.len());
        for operand in operands {
            let part = self.node(operand)?;
            cost = cost.plus(part.cost);
            sizes.push(part.size);
        }
        let all = sizes.iter().fold(Bound::default(), |all, size| all.plus(*size));
        let least = sizes.iter().copied().reduce(Bound::least).unwrap_or_default();
        let small = Bound::fixed(8);
        // The work of the operation itself, and the size of its result.
        let (work, size) = match (&*name, sizes.len()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, 2) => (small, small),
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE | operators::NEGATE, 1) => (small, small),
            (operators::CONDITIONAL, 3) => (small, all),
            (
                operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | "startsWith"
                | "endsWith",
                2,
            ) => (least, small),
            (operators::ADD, 2) => (all, all),
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, 2) => (small, small),
            (operators::IN | "contains", 2) => (all, small),
            // Charges for the matched text during evaluation.
            ("matches", 2) if call.target.is_some() => (small, small),
            ("size" | "int" | "double", 1) => (all, small),
            ("string", 1) => (all, all.plus(Bound::fixed(NUMBER))),
            _ => return refused(format!("unknown function `{name}`, or unsupported arguments")),
        };
        Ok(Estimate { cost: cost.plus(work), size })
    }

    /// A loop. Its iterations charge their own cost. Its static cost includes copying the range item by item.
    fn comprehension(&mut self, id: u64, comprehension: &mut ComprehensionExpr) -> Result<Estimate, PredicateRefusal> {
        let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
            comprehension;
        if iter_var2.is_some() || matches!(accu_init.expr, Expr::List(_) | Expr::Map(_)) {
            let problem = "`map` and `filter` are not supported: use `all`, `exists` or `exists_one`";
            return Err(PredicateRefusal { id, problem: problem.into() });
        }
        let range = self.node(iter_range)?;
        let init = self.node(accu_init)?;
        let outer = self.variables.len();
        self.variables.push((accu_var.clone(), Bound::fixed(8)));
        self.variables.push((iter_var.clone(), range.size));
        let step = self.node(loop_step)?;
        let cond = self.node(loop_cond)?;
        let given = self.node(result)?;
        self.variables.truncate(outer);
        let iteration = step.cost.plus(cond.cost).plus(Bound::fixed(4 * NODE));
        charge(loop_cond, iteration);
        let cost = range.cost.plus(range.size).plus(init.cost).plus(given.cost).plus(Bound::fixed(4 * NODE));
        Ok(Estimate { cost, size: Bound::fixed(8) })
    }
}

/// Makes a condition charge first. It does not use `&&`, which absorbs failures.
fn charge(condition: &mut IdedExpr, cost: Bound) {
    let id = condition.id;
    let part = |expr| IdedExpr { id, expr };
    let int = |n: u64| part(Expr::Literal(LiteralValue::Int(i64::try_from(n).unwrap_or(i64::MAX).into())));
    let call = |name: &str, args| Expr::Call(CallExpr { func_name: name.into(), target: None, args });
    let charged = part(call(CHARGE, vec![int(cost.fixed), int(cost.per_byte)]));
    let condition_itself = std::mem::take(condition);
    let no = part(Expr::Literal(LiteralValue::Boolean(false.into())));
    *condition = part(call(operators::CONDITIONAL, vec![charged, condition_itself, no]));
}

fn is_path(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => call.args.first().is_some_and(is_path),
        _ => false,
    }
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text.inner().len() as u64 + 8,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as u64 + 8,
        _ => 8,
    }
}
