//! What a controller is started with: environment, arguments and log level, as its package and its owner give them.
//!
//! ```text
//! package ([env], args) ─┐
//! host (POD_NAMESPACE) ──┼─► Startup ─┬─► payload of the `start` event, for SDKs
//! owner (env, args) ─────┘            └─► sys.startup-size, sys.startup-bytes: WASI's args_get and environ_get
//! ```
//!
//! A program reads these values once. So a controller whose values differ from those of its snapshot starts from
//! its base image: [`Startup::fingerprint`] is kept with the snapshot.

use std::collections::BTreeMap;

use serde_json::json;
use tracing::level_filters::LevelFilter;
use xxhash_rust::xxh3::xxh3_64;

/// The variable with the controller's own namespace, as Pods usually have it from the downward API.
pub const NAMESPACE_VARIABLE: &str = "POD_NAMESPACE";
/// The first argument of every program. A base image has no other name for the controllers that share it.
pub const PROGRAM: &str = "wasmop";
/// With this variable a Rust program chooses its log level itself.
const RUST_LOG: &str = "RUST_LOG";

/// Of one controller, while the host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Startup {
    /// The environment variables, without those of the host's own process.
    pub env: BTreeMap<String, String>,
    /// The arguments, without the program's name.
    pub args: Vec<String>,
    /// The most detailed level the program logs at; `None`: as the program does by default.
    pub log_level: Option<LevelFilter>,
}

impl Startup {
    /// Payload of the `start` event. `name`: that of the package.
    pub fn payload(&self, name: &str) -> String {
        let mut payload = self.to_json();
        payload["name"] = name.into();
        payload.to_string()
    }

    /// Equal for equal values only, but for accidents.
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

    /// The most detailed level of its lines that the host passes on. `default`: for a program that nobody gave a
    /// level; `None` passes all.
    pub fn passes(&self, default: Option<LevelFilter>) -> LevelFilter {
        let own = self.log_level.or_else(|| self.env.contains_key(RUST_LOG).then_some(LevelFilter::TRACE));
        own.or(default).unwrap_or(LevelFilter::TRACE)
    }

    /// The arguments, each with a NUL byte after it, and how many there are.
    pub fn argument_strings(&self) -> (u32, Vec<u8>) {
        strings(self.args.iter().cloned())
    }

    /// The environment as `NAME=VALUE`, likewise.
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
    fn the_program_or_its_owner_decides_which_lines_pass_and_else_the_host() {
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
