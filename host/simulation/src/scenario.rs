//! A seed to a run: which controllers there are, what the API server is like, and what happens when.
//!
//! Each seed has a random part of all kinds of trouble ("swarm testing"): with all of them in every run, some would hide
//! what others bring to light.

mod controllers;

use std::sync::Arc;
use std::time::Duration;

use wasmop_policy::Policy;

use crate::cluster::Kind;
use crate::faults::Fault;
use crate::guest::program::Program;
use crate::random::Random;
use crate::server::Traits;
use crate::world::HostOptions;

/// Something that happens in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Somebody creates, changes or deletes an object.
    User,
    /// Trouble of the API server begins and lasts.
    Fault(Fault, Duration),
    /// A kind is not served for a while.
    Missing(Kind, Duration),
    /// All watches are cut.
    Cut,
    /// Watches can no longer begin in the past.
    Compact,
    /// What could be restored later.
    Checkpoint,
    /// The state goes back to the last checkpoint.
    Restore,
    /// A host is killed, or its machine loses power, and comes back.
    Kill {
        /// Which one.
        host: usize,
        /// The machine loses power too, and with it everything that was not synced.
        power: bool,
        /// Until it starts again.
        downtime: Duration,
    },
    /// A host shuts down and comes back.
    Shutdown {
        /// Which one.
        host: usize,
        /// Until it starts again.
        downtime: Duration,
    },
    /// A host does nothing for a while.
    Pause {
        /// Which one.
        host: usize,
        /// How long.
        time: Duration,
    },
    /// A host reaches nothing for a while.
    CutOff {
        /// Which one.
        host: usize,
        /// How long.
        time: Duration,
    },
    /// The time of day jumps by so many seconds.
    WallJump(i64),
    /// A disk is full for a while.
    DiskFull {
        /// Which one.
        host: usize,
        /// How long.
        time: Duration,
    },
    /// A disk is slow for a while.
    DiskSlow {
        /// Which one.
        host: usize,
        /// How long.
        time: Duration,
    },
    /// The kernel is short of memory.
    MemoryPressure {
        /// Which one.
        host: usize,
    },
    /// Policies, budgets and grants change.
    Settings {
        /// Which one.
        host: usize,
    },
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many hosts there are.
    pub hosts: usize,
    /// The controllers.
    pub programs: Vec<Arc<Program>>,
    /// The API server.
    pub traits: Traits,
    /// How hosts are run.
    pub options: HostOptions,
    /// Objects that there are at the beginning.
    pub objects: usize,
    /// What happens, and how long after the event before.
    pub ops: Vec<(Duration, Op)>,
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Which kinds of trouble a run has.
struct Swarm {
    faults: Vec<Fault>,
    cuts: bool,
    compactions: bool,
    restores: bool,
    kills: bool,
    shutdowns: bool,
    pauses: bool,
    wall_jumps: bool,
    disks: bool,
    memory: bool,
    settings: bool,
}

impl Swarm {
    fn new(random: &mut Random) -> Swarm {
        let mut some = |percent| random.percent(percent);
        Swarm {
            faults: Fault::ALL.into_iter().filter(|_| some(35)).collect(),
            cuts: some(50),
            compactions: some(50),
            restores: some(15),
            kills: some(50),
            shutdowns: some(50),
            pauses: some(40),
            wall_jumps: some(20),
            disks: some(40),
            memory: some(40),
            settings: some(30),
        }
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub fn new(seed: u64) -> Scenario {
        let mut random = Random::new(seed);
        let hosts = match random.below(10) {
            0..7 => 1,
            7..9 => 2,
            _ => 3,
        };
        let swarm = Swarm::new(&mut random);
        let programs = controllers::draw(&mut random, swarm.wall_jumps).into_iter().map(Arc::new).collect();
        let traits = Traits {
            streams_lists: random.percent(70),
            is_http2: random.percent(70),
            page: *random.pick(&[1, 2, 5, 500]),
            bookmarks: random.duration(5 * SECOND, 60 * SECOND),
            latency: random.duration(2 * MS, 200 * MS),
        };
        let policies = [
            Policy::Immediate,
            Policy::Immediate,
            Policy::Adaptive,
            Policy::Never,
            Policy::After(random.duration(100 * MS, 60 * SECOND)),
        ];
        let options = HostOptions {
            policy: *random.pick(&policies),
            memory_budget: random.percent(25).then(|| random.between(1 << 20, 8 << 20)),
            step: random.duration(2 * MS, 500 * MS),
            log_capacity: random.between(3, 60) as u32,
            bad_snapshots: if random.percent(15) { 10 } else { 0 },
        };
        let objects = random.between(1, 8) as usize;
        let count = random.between(15, 60);
        let ops = (0..count).map(|_| (gap(&mut random), op(&mut random, &swarm, hosts))).collect();
        Scenario { hosts, programs, traits, options, objects, ops }
    }
}

/// Things often happen at almost the same time.
fn gap(random: &mut Random) -> Duration {
    match random.below(3) {
        0 => random.duration(MS, 50 * MS),
        1 => random.duration(50 * MS, 3 * SECOND),
        _ => random.duration(SECOND, 30 * SECOND),
    }
}

fn op(random: &mut Random, swarm: &Swarm, hosts: usize) -> Op {
    let host = random.below(hosts);
    let mut troubles = Vec::new();
    for fault in &swarm.faults {
        let time = random.duration(100 * MS, 90 * SECOND);
        troubles.push(match fault {
            Fault::MissingKind => Op::Missing(*random.pick(&[Kind::Website, Kind::ConfigMap, Kind::Zone]), time),
            fault => Op::Fault(*fault, time),
        });
    }
    // Leases do not outlast days without anybody, and a host alone has nobody to wait for.
    let most = match random.below(10) {
        _ if hosts > 1 => 120 * SECOND,
        0 => 3 * DAY,
        1..5 => 3600 * SECOND,
        _ => 60 * SECOND,
    };
    let downtime = random.duration(10 * MS, most);
    let time = random.duration(100 * MS, 60 * SECOND);
    let mut add = |is_on: bool, op: Op| troubles.extend(is_on.then_some(op));
    add(swarm.cuts, Op::Cut);
    add(swarm.compactions, Op::Compact);
    add(swarm.restores, Op::Checkpoint);
    add(swarm.restores, Op::Restore);
    let power = random.percent(30);
    add(swarm.kills, Op::Kill { host, power, downtime });
    add(swarm.shutdowns, Op::Shutdown { host, downtime });
    add(swarm.pauses, Op::Pause { host, time });
    add(swarm.pauses, Op::CutOff { host, time });
    let jump = random.between(1, 7200) as i64 - 3600;
    add(swarm.wall_jumps, Op::WallJump(jump));
    add(swarm.disks, Op::DiskFull { host, time });
    add(swarm.disks, Op::DiskSlow { host, time });
    add(swarm.memory, Op::MemoryPressure { host });
    add(swarm.settings, Op::Settings { host });
    match troubles.is_empty() || random.percent(65) {
        true => Op::User,
        false => random.pick(&troubles).clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_scenario_and_seeds_differ() {
        let text = |seed| format!("{:?}", Scenario::new(seed));
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn hundred_seeds_have_everything_that_can_happen() {
        let all: Vec<Scenario> = (0..100).map(Scenario::new).collect();
        let has = |wanted: fn(&Op) -> bool| all.iter().flat_map(|it| &it.ops).any(|(_, op)| wanted(op));
        assert!(has(|op| matches!(op, Op::Restore)) && has(|op| matches!(op, Op::WallJump(_))));
        assert!(has(|op| matches!(op, Op::Kill { .. })) && has(|op| matches!(op, Op::Settings { .. })));
        assert!(all.iter().any(|it| it.hosts == 3) && all.iter().any(|it| !it.programs.iter().all(|it| it.is_good)));
    }
}
