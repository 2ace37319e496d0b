//! The log of a running host on stderr: one line per event, as text or JSON.

mod fields;
mod json;
mod text;

use anyhow::Result;
use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::error::HelpExt;
use crate::output::Paint;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level, controller, message, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The target of the lines that controllers log.
const GUEST_TARGET: &str = "guest";

/// The environment variable with a filter, which takes precedence over `-v`.
const FILTER_VARIABLE: &str = "WASMOP_LOG";

/// Changes the verbosity of the running program.
pub struct Verbosity(Box<dyn Fn(EnvFilter) + Send>);

impl Verbosity {
    /// `verbose` is the number of `-v` flags. [`FILTER_VARIABLE`] takes precedence.
    pub fn set(&self, verbose: u8) {
        if filter_variable().is_none() {
            self.0(EnvFilter::new(filter_for(verbose)));
        }
    }
}

fn filter_variable() -> Option<String> {
    std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty())
}

/// Starts logging. `verbose` is the number of `-v` flags.
pub fn start(format: LogFormat, verbose: u8) -> Result<Verbosity> {
    let filter = match filter_variable() {
        Some(filter) => EnvFilter::try_new(&filter).or_help(
            format!("{FILTER_VARIABLE}: `{filter}` is not a log filter"),
            "write it like `info,wasmop_api::watch=debug`",
        )?,
        None => EnvFilter::new(filter_for(verbose)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A reload fails only after the subscriber is gone.
    Ok(Verbosity(match format {
        LogFormat::Text => {
            let paint = Paint::for_stderr();
            let subscriber = subscriber.event_format(text::Text { paint }).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| {
                let _ = handle.reload(filter);
            })
        }
        LogFormat::Json => {
            let subscriber = subscriber.event_format(json::Json).with_filter_reloading();
            let handle = subscriber.reload_handle();
            subscriber.init();
            Box::new(move |filter| {
                let _ = handle.reload(filter);
            })
        }
    }))
}

/// The most detailed level that the log accepts from a controller without a level of its own. `None` accepts all
/// levels.
pub fn guest_level(verbose: u8) -> Option<LevelFilter> {
    // The filter also covers controllers.
    if filter_variable().is_some() {
        return None;
    }
    Some(match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    })
}

/// The filter for a number of `-v` flags. It raises wasmop's own targets, and network libraries to `debug` at most. A
/// bare level would include the compiler, which logs gigabytes at `trace`. The host filters the lines of controllers.
fn filter_for(verbose: u8) -> &'static str {
    match verbose {
        // The client logs each failed request as an error. The host logs what it means.
        0 => "warn,kube_client::client=off,wasmop=info,guest=trace",
        1 => "warn,kube_client::client=off,wasmop=debug,guest=trace",
        2 => "warn,wasmop=trace,guest=trace,kube=debug,kube_client=info,kube_runtime=info",
        _ => {
            "warn,wasmop=trace,guest=trace,kube=debug,kube_client=debug,kube_runtime=debug,\
             hyper=debug,hyper_util=debug,rustls=debug,tower=debug"
        }
    }
}

#[cfg(test)]
mod tests;
