//! Simulates suspend policies on traces, and prints the results as a table or as JSON.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use wasmop_policy::activity::ActivityTrace;
use wasmop_policy::simulation::{InstanceModel, SimulationOutcome, Strategy, simulate};

use crate::error::{HelpExt, about};
use crate::output::bytes;

/// A trace and its name.
pub struct Input {
    pub name: String,
    pub trace: ActivityTrace,
}

/// The result of one trace under one policy.
pub struct Row {
    trace: String,
    policy: String,
    outcome: SimulationOutcome,
}

impl Input {
    pub fn read(file: &Path) -> Result<Input> {
        let shown = format!("`{}`", file.display());
        let text = std::fs::read_to_string(file).or_help(
            format!("cannot read the trace {shown}"),
            "a trace is a CSV file with the columns time and controller; see `wasmop policy simulate --help`",
        )?;
        let trace = ActivityTrace::parse(&text).map_err(|error| about(&shown, error))?;
        Ok(Input { name: file.display().to_string(), trace })
    }
}

/// Simulates every trace under every policy.
pub fn run(inputs: &[Input], strategies: &[Strategy], setup: &InstanceModel) -> Vec<Row> {
    let row = |input: &Input, strategy: &Strategy| Row {
        trace: input.name.clone(),
        policy: strategy.to_string(),
        outcome: simulate(&input.trace, *strategy, setup),
    };
    inputs.iter().flat_map(|input| strategies.iter().map(move |strategy| row(input, strategy))).collect()
}

/// A table for each trace.
pub fn table(rows: &[Row], setup: &InstanceModel) -> String {
    let cycle = &setup.cycle;
    let mut text = format!(
        "Each controller: {} resident, suspended in {:?} ({} written), resumed in {:?}.\nA gap is worth a suspend from {:.2} s.\n",
        bytes(setup.resident_bytes),
        cycle.suspend,
        bytes(cycle.written_bytes),
        cycle.resume,
        setup.break_even().as_secs_f64(),
    );
    let mut last = "";
    for Row { trace, policy, outcome } in rows {
        if last != trace {
            last = trace;
            text.push_str(&format!(
                "\n{trace}\n  {:<12} {:>14} {:>9} {:>9} {:>11} {:>8}\n",
                "policy", "mean resident", "resumes", "on demand", "p95 latency", "cost"
            ));
        }
        let latency = format!("{:.1} ms", outcome.p95_added_latency().as_secs_f64() * 1e3);
        text.push_str(&format!(
            "  {policy:<12} {:>14} {:>9} {:>9} {latency:>11} {:>8.3}\n",
            bytes(outcome.mean_resident_bytes() as u64),
            outcome.resumes,
            outcome.on_demand_resumes,
            outcome.cost_vs_optimum(),
        ));
    }
    text
}

/// One number of a result.
#[derive(Serialize)]
struct Figure<'a> {
    policy: &'a str,
    trace: &'a str,
    metric: &'static str,
    value: f64,
}

/// An array with one object per number.
pub fn json(rows: &[Row]) -> Result<String> {
    let mut lines = Vec::new();
    for Row { trace, policy, outcome } in rows {
        for (metric, value) in [
            ("mean_resident_bytes", outcome.mean_resident_bytes()),
            ("resumes", outcome.resumes as f64),
            ("on_demand_resumes", outcome.on_demand_resumes as f64),
            ("p95_added_latency_seconds", outcome.p95_added_latency().as_secs_f64()),
            ("cost_byte_seconds", outcome.cost),
            ("cost_vs_optimum", outcome.cost_vs_optimum()),
        ] {
            lines.push(serde_json::to_string(&Figure { policy, trace, metric, value })?);
        }
    }
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}
