//! Figures of a benchmark, printed as a table or written as JSON.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub bench: &'static str,
    pub variant: String,
    pub n: Option<u64>,
    pub heap_mib: Option<u64>,
    pub metric: String,
    pub unit: &'static str,
    pub value: f64,
}

/// All figures of a benchmark.
pub struct Rows {
    bench: &'static str,
    rows: Vec<Row>,
}

impl Rows {
    pub fn new(bench: &'static str) -> Rows {
        Rows { bench, rows: Vec::new() }
    }

    pub fn push(
        &mut self,
        variant: &str,
        (n, heap_mib): (Option<u64>, Option<u64>),
        metric: &str,
        unit: &'static str,
        value: f64,
    ) {
        let bench = self.bench;
        self.rows.push(Row { bench, variant: variant.into(), n, heap_mib, metric: metric.into(), unit, value });
    }

    pub fn print(&self) {
        println!("{:<12} {:>7} {:>9}  {:<28} {:>14} unit", "variant", "n", "heap MiB", "metric", "value");
        for row in &self.rows {
            let number = |v: Option<u64>| v.map_or("–".into(), |v| v.to_string());
            let value = if row.value.abs() >= 1000.0 || row.value.fract() == 0.0 {
                format!("{:.0}", row.value)
            } else {
                format!("{:.2}", row.value)
            };
            println!(
                "{:<12} {:>7} {:>9}  {:<28} {:>14} {}",
                row.variant,
                number(row.n),
                number(row.heap_mib),
                row.metric,
                value,
                row.unit
            );
        }
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(&self.rows)?;
        std::fs::write(path, json + "\n").with_context(|| format!("{}", path.display()))
    }
}

/// The percentile of sorted samples.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
