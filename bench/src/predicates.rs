//! Evaluation time of CEL predicates, usual and worst. The host's loop waits for each evaluation.

use std::time::Instant;

use anyhow::{Result, anyhow};
use serde_json::json;
use wasmop_e2e::rows::{Rows, percentile};
use wasmop_package::predicate::{EvaluationError, Predicate};

/// The lengths of the lists in the object.
const ITEMS: [usize; 4] = [10, 100, 1000, 3000];

/// Usual expressions of packages, then some that use the budget to the full.
const EXPRESSIONS: [(&str, &str); 10] = [
    ("true", "true"),
    ("spec", "object.spec != oldObject.spec"),
    ("condition", "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')"),
    (
        "nested",
        "object.numbers.all(a, object.numbers.all(b, object.numbers.exists(c, c > 1000000) || true) || true) || true",
    ),
    ("copies", "object.words.all(a, !(object.text + object.text).contains(a + 'b'))"),
    ("compares", "object.words.all(a, object.words == oldObject.words)"),
    ("looks-in", "object.words.all(a, !(a + a in object.words))"),
    ("matches", "object.words.all(a, !object.text.matches('(a|aa|aaa)*b$'))"),
    ("literals", "object.numbers.all(a, [[object.numbers], [object.words]].size() == 2)"),
    ("sums", "object.numbers.all(a, object.numbers.all(b, a + b + a + b + a + b >= 0))"),
];

/// An object whose lists and texts grow with `items`.
fn object(items: usize) -> String {
    let numbers: Vec<_> = (0..items).collect();
    let words: Vec<_> = (0..items).map(|n| format!("word-{n}")).collect();
    json!({
        "metadata": {"name": "x", "generation": 1},
        "spec": {"replicas": 3, "image": "web:1"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        "numbers": numbers,
        "words": words,
        "text": "a".repeat(items),
    })
    .to_string()
}

pub fn run(quick: bool, rows: &mut Rows) -> Result<()> {
    let times = if quick { 20 } else { 500 };
    for items in ITEMS {
        let object = object(items);
        let at = (Some(object.len() as u64), None);
        for (name, text) in EXPRESSIONS {
            let predicate = Predicate::new(text).map_err(|error| anyhow!("{text}: {error}"))?;
            let mut exceeded = false;
            let mut micros: Vec<f64> = (0..times)
                .map(|_| {
                    let begun = Instant::now();
                    exceeded |= predicate.passes(&object, Some(&object)) == Err(EvaluationError::Exceeded);
                    begun.elapsed().as_secs_f64() * 1e6
                })
                .collect();
            micros.sort_by(f64::total_cmp);
            rows.push(name, at, "evaluate_p50", "us", percentile(&micros, 50));
            rows.push(name, at, "evaluate_p99", "us", percentile(&micros, 99));
            rows.push(name, at, "exceeds_budget", "", f64::from(u8::from(exceeded)));
        }
    }
    Ok(())
}
