//! The log of a running host: one line an event, for people or as JSON, on stderr.

mod fields;
mod json;
mod text;

use anyhow::Result;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::error::HelpExt;
use crate::output::Paint;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, controller, message, fields.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The target of what controllers log themselves.
const GUEST_TARGET: &str = "guest";

/// Overrides the filter that `-v` chooses.
const FILTER_VARIABLE: &str = "WASMOP_LOG";

/// Starts logging; `verbose` is how often `-v` was given.
pub fn start(format: LogFormat, verbose: u8) -> Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).or_help(
            format!("{FILTER_VARIABLE}: `{filter}` is not a log filter"),
            "write it like `info,wasmop_host::watch=debug`",
        )?,
        _ => EnvFilter::new(filter_for(verbose)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.event_format(text::Text { paint: Paint::for_stderr() }).init(),
        LogFormat::Json => subscriber.event_format(json::Json).init(),
    }
    Ok(())
}

fn filter_for(verbose: u8) -> &'static str {
    match verbose {
        // The client logs each failed request as an error; the host says what it means.
        0 => "warn,kube_client::client=off,wasmop=info,wasmop_host=info,guest=info",
        1 => "warn,kube_client::client=off,wasmop=debug,wasmop_host=debug,guest=debug",
        2 => "info,wasmop=trace,wasmop_host=trace,guest=trace,kube=debug",
        _ => "trace",
    }
}

#[cfg(test)]
mod tests;
