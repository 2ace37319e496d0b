//! Environment, arguments and log level of a controller, merged from its package, its host and its owner.
//!
//! ```text
//! package ([env], args) ─┐
//! host (POD_NAMESPACE) ──┼─► Startup ─┬─► payload of the `start` event, for SDKs
//! owner (env, args) ─────┘            └─► sys.startup-size, sys.startup-bytes: WASI's args_get and environ_get
//! ```
//!
//! Values may refer to variables, see [`variable_references`](crate::variable_references).
//!
//! A program reads these values once. If they differ from those of its snapshot, the controller starts from its base
//! image. The snapshot stores [`Startup::fingerprint`] for this comparison.

use std::collections::BTreeMap;

use serde_json::json;
use tracing::level_filters::LevelFilter;
use xxhash_rust::xxh3::xxh3_64;

/// The variable with the controller's own namespace, as Pods usually get it from the downward API.
pub const NAMESPACE_VARIABLE: &str = "POD_NAMESPACE";
/// The first argument of every program. All controllers that share a base image have the same one.
pub const PROGRAM: &str = "wasmop";
/// A Rust program that finds this variable chooses its own log level.
const RUST_LOG: &str = "RUST_LOG";

/// The startup values of one controller. They do not change while the host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Startup {
    /// Environment variables. The host's own environment is not included.
    pub env: BTreeMap<String, String>,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The most detailed level at which the program logs; `None` leaves it to the program.
    pub log_level: Option<LevelFilter>,
}

impl Startup {
    /// Payload of the `start` event. `name` is the name of the package.
    pub fn payload(&self, name: &str) -> String {
        let mut payload = self.to_json();
        payload["name"] = name.into();
        payload.to_string()
    }

    /// Hash of all values.
    pub fn fingerprint(&self) -> u64 {
        xxh3_64(self.to_json().to_string().as_bytes())
    }

    fn to_json(&self) -> serde_json::Value {
        let mut json = json!({ "env": self.env, "args": self.args });
        if let Some(level) = self.log_level {
            json["logLevel"] = level.to_string().into();
        }
        json
    }

    /// The most detailed level of lines that the host logs. `default` applies to programs without a level of their own;
    /// `None` logs all lines.
    pub fn passes(&self, default: Option<LevelFilter>) -> LevelFilter {
        let own = self.log_level.or_else(|| self.env.contains_key(RUST_LOG).then_some(LevelFilter::TRACE));
        own.or(default).unwrap_or(LevelFilter::TRACE)
    }

    /// Number of arguments, and the arguments themselves, each terminated by a NUL byte.
    pub fn argument_strings(&self) -> (u32, Vec<u8>) {
        strings(self.args.iter().cloned())
    }

    /// Number of variables, and the variables as `NAME=VALUE`, each terminated by a NUL byte.
    pub fn environment_strings(&self) -> (u32, Vec<u8>) {
        strings(self.env.iter().map(|(name, value)| format!("{name}={value}")))
    }
}

fn strings(strings: impl Iterator<Item = String>) -> (u32, Vec<u8>) {
    strings.fold((0, Vec::new()), |(count, mut bytes), string| {
        bytes.extend_from_slice(string.as_bytes());
        bytes.push(0);
        (count + 1, bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(env: &[(&str, &str)], args: &[&str], log_level: Option<LevelFilter>) -> Startup {
        let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Startup { env, args: args.iter().map(|arg| (*arg).into()).collect(), log_level }
    }

    #[test]
    fn the_payload_is_the_json_that_sdks_read() {
        let json = |startup: Startup| serde_json::from_str::<serde_json::Value>(&startup.payload("web")).unwrap();
        assert_eq!(json(Startup::default()), json!({"name": "web", "env": {}, "args": []}));
        assert_eq!(
            json(startup(&[("A", "\"1\"")], &["-v", ""], Some(LevelFilter::DEBUG))),
            json!({"name": "web", "env": {"A": "\"1\""}, "args": ["-v", ""], "logLevel": "debug"})
        );
    }

    #[test]
    fn every_difference_changes_the_fingerprint() {
        let all = [
            startup(&[], &[], None),
            startup(&[("A", "1")], &[], None),
            startup(&[("A", "2")], &[], None),
            startup(&[("A", "")], &["1"], None),
            startup(&[], &["A", "1"], None),
            startup(&[], &["A1"], None),
            startup(&[], &[], Some(LevelFilter::DEBUG)),
            startup(&[], &[], Some(LevelFilter::OFF)),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.iter().map(Startup::fingerprint).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(startup(&[("A", "1"), ("B", "2")], &[], None), startup(&[("B", "2"), ("A", "1")], &[], None));
    }

    #[test]
    fn the_log_level_of_program_or_owner_takes_precedence_over_the_host() {
        for (startup, default, expected) in [
            (startup(&[], &[], None), None, LevelFilter::TRACE),
            (startup(&[], &[], None), Some(LevelFilter::INFO), LevelFilter::INFO),
            (startup(&[("RUST_LOG", "x=debug")], &[], None), Some(LevelFilter::INFO), LevelFilter::TRACE),
            (startup(&[], &[], Some(LevelFilter::DEBUG)), Some(LevelFilter::INFO), LevelFilter::DEBUG),
            (startup(&[("RUST_LOG", "debug")], &[], Some(LevelFilter::WARN)), None, LevelFilter::WARN),
        ] {
            assert_eq!(startup.passes(default), expected, "{startup:?}");
        }
    }

    #[test]
    fn strings_are_terminated_and_counted() {
        let startup = startup(&[("B", "2"), ("A", "x y")], &["-v", "", "ü"], None);
        assert_eq!(startup.argument_strings(), (3, "-v\0\0ü\0".into()));
        assert_eq!(startup.environment_strings(), (2, b"A=x y\0B=2\0".to_vec()));
        assert_eq!(Startup::default().argument_strings(), (0, Vec::new()));
    }
}
