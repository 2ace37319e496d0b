//! The log of a running host: one line an event, for people or as JSON, on stderr.

mod fields;
mod json;
mod text;

use anyhow::Result;
use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
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

/// How much is logged, while the program runs.
pub struct Verbosity(Box<dyn Fn(EnvFilter) + Send>);

impl Verbosity {
    /// `verbose` is what it would be with `-v` given so often. [`FILTER_VARIABLE`] goes before it as ever.
    pub fn set(&self, verbose: u8) {
        if filter_variable().is_none() {
            self.0(EnvFilter::new(filter_for(verbose)));
        }
    }
}

fn filter_variable() -> Option<String> {
    std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty())
}

/// Starts logging; `verbose` is how often `-v` was given.
pub fn start(format: LogFormat, verbose: u8) -> Result<Verbosity> {
    let filter = match filter_variable() {
        Some(filter) => EnvFilter::try_new(&filter).or_help(
            format!("{FILTER_VARIABLE}: `{filter}` is not a log filter"),
            "write it like `info,wasmop_host::watch=debug`",
        )?,
        None => EnvFilter::new(filter_for(verbose)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only once there is no subscriber any more.
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

/// The most detailed level at which a controller's own lines are passed on to the log's filter, where nobody gave
/// the controller a level.
pub fn guest_level(verbose: u8) -> Option<LevelFilter> {
    // A filter says what it wants of guests, too.
    if filter_variable().is_some() {
        return None;
    }
    Some(match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    })
}

/// Raises what wasmop logs itself, and its network libraries to `debug` at most. A bare level would also be for the
/// compiler, which writes gigabytes of trace. Lines of guests have passed the host before, which knows the level of each.
fn filter_for(verbose: u8) -> &'static str {
    match verbose {
        // The client logs each failed request as an error; the host says what it means.
        0 => "warn,kube_client::client=off,wasmop=info,wasmop_host=info,guest=trace",
        1 => "warn,kube_client::client=off,wasmop=debug,wasmop_host=debug,guest=trace",
        2 => "warn,wasmop=trace,wasmop_host=trace,guest=trace,kube=debug,kube_client=info,kube_runtime=info",
        _ => {
            "warn,wasmop=trace,wasmop_host=trace,guest=trace,kube=debug,kube_client=debug,kube_runtime=debug,\
             hyper=debug,hyper_util=debug,rustls=debug,tower=debug"
        }
    }
}

#[cfg(test)]
mod tests;
