//! Describes a package for `wasmop build`: starts it once, without a cluster, and reads what it registers.

use std::time::Duration;

use wasmop_core::controller::NO_DEADLINE;
use wasmop_core::crash_log::gather;
use wasmop_core::startup::Startup;
use wasmop_core::step::{Action, Event, EventKind, LogLine, StepInput};
use wasmop_package::Package;
use wasmop_package::manifest::{ControllerSpec, Manifest, PredicateRefused};
use wasmtime::component::Component;

use crate::compiled_package::initialise;
use crate::engine::{Engine, EngineError};
use crate::guest::{GuestExports, LoadError};
use crate::step_input::step_input;

/// The remedy if SDK and host do not fit together.
const SAME_RELEASE: &str = "help: use an SDK of the same release as this wasmop";

/// Why a package cannot be described.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum DescribeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the package cannot be compiled: {0}")]
    Compile(String),
    #[error("the package cannot be loaded: {0}\n{SAME_RELEASE}")]
    Load(#[from] LoadError),
    #[error("the package cannot be started: {0}")]
    Initialise(String),
    #[error(
        "the controller failed when it was started ({cause}): {detail}{logs}\nhelp: main runs once at build time to see what it registers, with no cluster behind it and with [env] and `args` of wasmop.toml: give what it needs there"
    )]
    Start { cause: &'static str, detail: String, logs: String },
    #[error("the controller registered something that is not a controller spec: {error}: {spec}\n{SAME_RELEASE}")]
    Spec { spec: String, error: String },
    #[error(transparent)]
    Predicate(#[from] PredicateRefused),
}

/// What a package does when it starts without a cluster.
#[derive(Debug)]
pub struct Description {
    /// The controllers it registers before its first wait.
    pub registrations: Vec<ControllerSpec>,
    /// It has made requests or waits for a timer, and may register more afterwards.
    pub waits: bool,
}

/// Starts the package once, with its own environment and arguments. Its requests get no answers.
///
/// # Errors
/// See [`DescribeError`].
pub fn describe(package: &Package) -> Result<Description, DescribeError> {
    let engine = Engine::for_one_run()?;
    let component =
        Component::new(engine.wasmtime(), package.component()).map_err(|e| DescribeError::Compile(format!("{e:#}")))?;
    let exports = GuestExports::new(&engine, &component, package.tier())?.with_fixed_bytes(package.footprint().fixed);
    let (mut guest, input) = initialise(&engine, &exports, package, &package.manifest.limits)
        .map_err(|e| DescribeError::Initialise(e.to_string()))?;
    let Manifest { name, env, args, .. } = &package.manifest;
    let startup = Startup { env: env.clone(), args: args.clone(), log_level: None };
    let start = Event { kind: EventKind::Start, id: 0, aux: 0, payload: startup.payload(name).into(), task: 0 };
    let monotonic = input.monotonic + Duration::from_millis(1).as_nanos() as u64;
    let input = StepInput { startup: Some(startup.into()), ..step_input(monotonic, vec![start]) };
    let output = guest.step(&input).map_err(|failure| DescribeError::Start {
        cause: failure.cause.as_str(),
        detail: failure.detail,
        logs: quote(&gather(failure.logs)),
    })?;
    let waits = output.park.is_some_and(|park| park < NO_DEADLINE)
        || output.actions.iter().any(|a| matches!(a, Action::Call(_)));
    let specs = output.actions.into_iter().filter_map(|action| match action {
        Action::Register { spec } => Some(spec),
        _ => None,
    });
    let registrations = specs
        .map(|spec| {
            let spec: ControllerSpec = serde_json::from_str(&spec)
                .map_err(|e| DescribeError::Spec { error: e.to_string(), spec: spec.clone() })?;
            spec.check_predicates()?;
            Ok::<_, DescribeError>(spec)
        })
        .collect::<Result<_, _>>()?;
    Ok(Description { registrations, waits })
}

/// Formats log lines: indented, with continuation lines and the trace of a crash below.
fn quote(logs: &[LogLine]) -> String {
    let mut text = String::new();
    for line in logs {
        let trace = serde_json::from_str::<serde_json::Value>(&line.fields).ok();
        let trace = trace.as_ref().and_then(|fields| fields["trace"].as_str()).unwrap_or_default();
        let message = line.message.trim_end().replace('\n', "\n    ");
        text.push_str(&format!("\n  {}: {message}", line.level.as_str().to_lowercase()));
        text.extend(trace.lines().map(|part| format!("\n    {part}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use wasmop_package::manifest::{Language, Sdk, Toolchain};

    use super::*;

    const SPEC: &str = r#"{\"name\":\"a\",\"primary\":{\"version\":\"v1\",\"kind\":\"ConfigMap\"}}"#;

    /// A package whose steps run `body`.
    fn package(body: &str, manifest: Manifest) -> Package {
        let text = format!(
            r#"(module
              (import "wasmop:controller/runtime@0.1.0" "register" (func $register (param i32 i32) (result i32)))
              (import "wasmop:controller/runtime@0.1.0" "call"
                (func $call (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "wasmop:controller/sys@0.1.0" "park" (func $park (param i64)))
              (import "wasmop:controller/sys@0.1.0" "startup-size" (func $startup_size (param i32) (result i64)))
              (import "wasmop:controller/sys@0.1.0" "startup-bytes" (func $startup_bytes (param i32 i32) (result i64)))
              (memory (export "memory") 1)
              (data (i32.const 0) "GET/api")
              (data (i32.const 64) "{SPEC}")
              (func (export "wasmop:controller/guest@0.1.0#step") {body}))"#
        );
        let core = wat::parse_str(text).unwrap();
        Package::parse(wasmop_package::assemble(&core, &manifest).unwrap()).unwrap()
    }

    fn manifest() -> Manifest {
        Manifest::new("a", "0.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"))
    }

    #[test]
    fn a_package_that_requests_or_waits_may_register_more_later() {
        let register = format!("(drop (call $register (i32.const 64) (i32.const {})))", SPEC.replace('\\', "").len());
        let call = "(call $call (i64.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3)
            (i32.const 3) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
        let sleep = "(call $park (i64.const 1000000000))";
        // Some executors always have a timer, far in the future.
        let sentinel = "(call $park (i64.const 31536000000000000))";
        for (body, registrations, waits) in [
            (register.clone(), 1, false),
            (format!("{register}{sentinel}"), 1, false),
            (call.to_owned(), 0, true),
            (sleep.to_owned(), 0, true),
            (format!("{register}{call}"), 1, true),
            (sentinel.to_owned(), 0, false),
            (String::new(), 0, false),
        ] {
            let found = describe(&package(&body, manifest())).unwrap();
            assert_eq!((found.registrations.len(), found.waits), (registrations, waits), "{body}");
        }
    }

    #[test]
    fn a_package_is_started_with_its_own_environment_and_arguments() {
        // Traps unless it finds the manifest's environment and arguments.
        let body = r#"
            (if (i64.ne (call $startup_size (i32.const 0)) (i64.const 0x1_0000_0003)) (then unreachable))
            (if (i64.ne (call $startup_bytes (i32.const 0) (i32.const 0)) (i64.const 0x0000_762d)) (then unreachable))
            (if (i64.ne (call $startup_size (i32.const 1)) (i64.const 0x1_0000_0004)) (then unreachable))
            (if (i64.ne (call $startup_bytes (i32.const 1) (i32.const 2)) (i64.const 0x0000_0031)) (then unreachable))
            (if (i64.ne (call $startup_bytes (i32.const 1) (i32.const 4)) (i64.const 0)) (then unreachable))
            (if (i64.ne (call $startup_bytes (i32.const 1) (i32.const -1)) (i64.const 0)) (then unreachable))"#;
        let given = Manifest { env: [("A".into(), "1".into())].into(), args: vec!["-v".into()], ..manifest() };
        describe(&package(body, given)).unwrap();
        let error = describe(&package(body, manifest())).unwrap_err().to_string();
        assert!(error.contains("[env] and `args` of wasmop.toml"), "{error}");
    }
}
