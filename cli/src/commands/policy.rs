use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use wasmop_policy::Prices;
use wasmop_policy::activity::BuiltinActivity;
use wasmop_policy::simulation::{InstanceModel, Profile, Strategy};

use crate::error::failure;
use crate::simulation::{self, Input};
use crate::{output, units};

/// Compare policies that decide when idle controllers are suspended.
#[derive(Debug, Parser)]
pub struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(Simulate),
}

/// Replay a trace under each policy and show what each would have cost.
///
/// A trace is a CSV file with the columns `time` (seconds, or RFC 3339), `controller` and, optionally,
/// `known` (1 for timers and requeues). The cost is memory over time, plus CPU, written bytes and
/// latency converted to memory. `cost` is relative to the offline optimum, which knows
/// the whole trace. docs/policy.md explains the prices.
#[derive(Debug, Parser)]
struct Simulate {
    /// The trace.
    trace: Option<PathBuf>,

    /// Use a built-in trace, or all of them.
    #[arg(long, value_enum, value_name = "NAME")]
    builtin: Option<BuiltinName>,

    /// The policies to compare [default: adaptive, immediate, after=1s, after=10s, after=60s, never, smoothing, optimum].
    #[arg(long, value_name = "POLICY", value_delimiter = ',', value_parser = strategy)]
    policy: Vec<Strategy>,

    /// The kind of controllers and disk.
    #[arg(long, value_enum, value_name = "PROFILE", default_value = "rust")]
    profile: ProfileName,

    /// How long a resume takes, like `0.3ms` [default: the profile's].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    resume_cost: Option<Duration>,

    /// How long a suspend takes [default: the profile's].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    suspend_cost: Option<Duration>,

    /// Bytes that a suspend writes, like `64KiB` [default: the profile's].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    written_bytes: Option<u64>,

    /// Bytes that a resident controller uses, like `2MiB` [default: the profile's].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    resident_bytes: Option<u64>,

    /// Memory per core of the node; it sets the price of a second of CPU.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    memory_per_core: u64,

    /// The seed for `--builtin`; another seed makes another trace of the same kind.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Print JSON: rows with `policy`, `trace`, `metric` and `value`.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BuiltinName {
    /// One change every 5.20 s, standard deviation 0.61 s.
    Periodic,
    /// Requeues every 2, 10 and 60 s, and an occasional change from outside.
    Requeue,
    /// Memoryless changes, on average every 0.5, 2, 10 and 60 s.
    Poisson,
    /// About 20 changes at once, about once a minute.
    Bursts,
    /// Busy at noon, almost idle at midnight.
    Diurnal,
    /// A change every other minute, and a rollout of 150 changes every quarter of an hour.
    DeployStorm,
    /// All of them.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProfileName {
    /// A Rust controller on a local disk.
    Rust,
    /// A Go controller on a local disk.
    Go,
    /// A Go controller that changes much of its heap.
    GoHeap,
    /// 32 MiB on an SD card.
    SdCard,
    /// 64 MiB on storage from which a resume takes 200 ms.
    Cold,
}

impl BuiltinName {
    fn builtins(self) -> Vec<BuiltinActivity> {
        match self {
            BuiltinName::Periodic => vec![BuiltinActivity::Periodic],
            BuiltinName::Requeue => vec![BuiltinActivity::Requeue],
            BuiltinName::Poisson => vec![BuiltinActivity::Poisson],
            BuiltinName::Bursts => vec![BuiltinActivity::Bursts],
            BuiltinName::Diurnal => vec![BuiltinActivity::Diurnal],
            BuiltinName::DeployStorm => vec![BuiltinActivity::DeployStorm],
            BuiltinName::All => BuiltinActivity::ALL.to_vec(),
        }
    }
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Profile {
        match name {
            ProfileName::Rust => Profile::Rust,
            ProfileName::Go => Profile::Go,
            ProfileName::GoHeap => Profile::GoHeap,
            ProfileName::SdCard => Profile::SdCard,
            ProfileName::Cold => Profile::Cold,
        }
    }
}

fn strategy(text: &str) -> Result<Strategy, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not a policy; write `adaptive`, `immediate`, `after=1s`, `never`, `smoothing` or `optimum`"
        )
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|problem| format!("{problem}; write it like `500ms` or `1s`"))
}

fn size(text: &str) -> Result<u64, String> {
    match units::parse_bytes(text) {
        Ok(0) => Err(format!("`{text}` is nothing; write it like `64KiB` or `2MiB`")),
        result => result.map_err(|problem| format!("{problem}; write it like `64KiB` or `2MiB`")),
    }
}

impl Policy {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Simulate(simulate) => simulate.run(),
        }
    }
}

impl Simulate {
    fn run(self) -> Result<()> {
        let mut inputs = Vec::new();
        if let Some(file) = &self.trace {
            inputs.push(Input::read(file)?);
        }
        for builtin in self.builtin.map(BuiltinName::builtins).unwrap_or_default() {
            inputs.push(Input { name: builtin.name().to_owned(), trace: builtin.generate(self.seed) });
        }
        if inputs.is_empty() {
            return Err(failure("there is no trace", "name a file, or use built-in traces: `--builtin all`")
                .usage()
                .into());
        }
        let rows = simulation::run(&inputs, &self.strategies(), &self.setup());
        let text = if self.json { simulation::json(&rows)? } else { simulation::table(&rows, &self.setup()) };
        output::data(text.as_bytes())
    }

    fn setup(&self) -> InstanceModel {
        let mut setup = Profile::from(self.profile).setup();
        setup.prices = Prices::with_memory_per_core(self.memory_per_core);
        setup.cycle.suspend = self.suspend_cost.unwrap_or(setup.cycle.suspend);
        setup.cycle.resume = self.resume_cost.unwrap_or(setup.cycle.resume);
        setup.cycle.written_bytes = self.written_bytes.unwrap_or(setup.cycle.written_bytes);
        setup.resident_bytes = self.resident_bytes.unwrap_or(setup.resident_bytes);
        setup
    }

    fn strategies(&self) -> Vec<Strategy> {
        match self.policy.is_empty() {
            true => Strategy::all(),
            false => self.policy.clone(),
        }
    }
}
