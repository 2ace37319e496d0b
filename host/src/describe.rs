//! Starts a package once, without a cluster, to see what it registers.

use std::time::Duration;

use wasmop_package::Package;
use wasmop_package::manifest::{ControllerSpec, PredicateRefused};
use wasmtime::component::Component;

use crate::code::{initialise, step_input};
use crate::engine::{Engine, EngineError};
use crate::guest::{Action, Event, EventKind, Exports, LogLine};

#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the package cannot be compiled: {0}")]
    Compile(String),
    #[error("the package cannot be loaded: {0}")]
    Load(String),
    #[error(
        "the controller failed when it was started ({cause}): {detail}{logs}\nhelp: main runs once at build time to see what it registers, with no cluster behind it: register controllers before the first request"
    )]
    Start { cause: &'static str, detail: String, logs: String },
    #[error("the controller registered something that is not a controller spec: {error}: {spec}")]
    Spec { spec: String, error: String },
    #[error(transparent)]
    Predicate(#[from] PredicateRefused),
}

/// What the package registers when it is started; requests it makes then are not answered.
pub fn describe(package: &Package) -> Result<Vec<ControllerSpec>, DescribeError> {
    let engine = Engine::for_one_run()?;
    let component =
        Component::new(engine.wasmtime(), package.component()).map_err(|e| DescribeError::Compile(format!("{e:#}")))?;
    let exports = Exports::new(&engine, &component, package.tier()).map_err(|e| DescribeError::Load(e.to_string()))?;
    let (mut guest, input) = initialise(&engine, &exports, package, &package.manifest.limits)
        .map_err(|e| DescribeError::Load(e.to_string()))?;
    let start =
        Event { kind: EventKind::Start, id: 0, aux: 0, payload: start_payload(&package.manifest.name).into(), task: 0 };
    let monotonic = input.monotonic + Duration::from_millis(1).as_nanos() as u64;
    let output = guest.step(&step_input(monotonic, vec![start])).map_err(|failure| DescribeError::Start {
        cause: failure.cause.as_str(),
        detail: failure.detail,
        logs: quote(&failure.logs),
    })?;
    let specs = output.actions.into_iter().filter_map(|action| match action {
        Action::Register { spec } => Some(spec),
        _ => None,
    });
    specs
        .map(|spec| {
            let spec: ControllerSpec = serde_json::from_str(&spec)
                .map_err(|e| DescribeError::Spec { error: e.to_string(), spec: spec.clone() })?;
            spec.check_predicates()?;
            Ok(spec)
        })
        .collect()
}

/// Payload of the `start` event. `name`: that of the package.
pub fn start_payload(name: &str) -> String {
    serde_json::json!({ "name": name, "env": {} }).to_string()
}

fn quote(logs: &[LogLine]) -> String {
    logs.iter().map(|line| format!("\n  {}: {}", line.level.as_str().to_lowercase(), line.message.trim_end())).collect()
}
