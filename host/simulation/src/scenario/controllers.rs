//! The controllers of a run.

use std::time::Duration;

use wasmop_package::Tier;
use wasmop_package::manifest::{ControllerSpec, Limits, Relation, WatchSpec};

use crate::cluster::Kind;
use crate::guest::program::{Mistakes, Program, Registration, SOURCE_LABEL, Script};
use crate::random::Random;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Good controllers, and now and then bad ones beside them.
pub(super) fn draw(random: &mut Random, wall_jumps: bool) -> Vec<Program> {
    let good = random.between(1, 4);
    let bad = if random.percent(50) { random.between(1, 2) } else { 0 };
    // Short requeues over long waits are many reconciles.
    let slow = random.percent(50);
    let mut programs = Vec::new();
    for n in 0..good + bad {
        let name = format!("c{n}");
        let mut program = good_one(random, &name, slow && !wall_jumps);
        if n >= good {
            spoil(random, &mut program);
        }
        programs.push(program);
    }
    programs
}

fn watch(kind: Kind) -> WatchSpec {
    let (group, version, plural, name) = kind.names();
    WatchSpec {
        group: group.into(),
        version: version.into(),
        kind: name.into(),
        plural: plural.into(),
        namespace: None,
        namespaces: Vec::new(),
        relation: Relation::Own,
        label_selector: String::new(),
        field_selector: String::new(),
        generation_changed: false,
        predicate: String::new(),
        cached: false,
        ignore_own_writes: false,
    }
}

fn registration(name: &str, primary: WatchSpec, kind: Kind, watches: Vec<WatchSpec>, script: Script) -> Registration {
    let spec = ControllerSpec {
        name: name.into(),
        namespace: None,
        namespaces: Vec::new(),
        max_concurrent_reconciles: 0,
        only_existing: false,
        debounce_ms: 0,
        primary,
        watches,
    };
    let text = serde_json::to_string(&spec).unwrap_or_default();
    Registration { primary: kind, spec, text, script }
}

fn program(name: &str, registrations: Vec<Registration>) -> Program {
    Program {
        name: name.into(),
        tier: Tier::Full,
        limits: Limits { reconcile_timeout_ns: 1800 * 1_000_000_000, ..Limits::USUAL },
        registrations,
        shuffles: false,
        fails_to_start: false,
        beat: None,
        is_good: true,
    }
}

fn good_one(random: &mut Random, name: &str, slow: bool) -> Program {
    let mut program = match random.below(6) {
        0 | 1 => copier(random, name),
        2 => requeuer(random, name, slow),
        3 => sleeper(random, name),
        4 => mapper(random, name),
        _ => both(random, name),
    };
    for registration in &mut program.registrations {
        // One at a time, those that wait for minutes would need hours.
        let is_quick = registration.script.sleep.is_none_or(|sleep| sleep < 10 * SECOND);
        let concurrent = *random.pick(&[0, 0, 1, 2]);
        registration.spec.max_concurrent_reconciles = if is_quick { concurrent } else { 0 };
        registration.text = serde_json::to_string(&registration.spec).unwrap_or_default();
    }
    if random.percent(15) {
        program.tier = Tier::Soft;
    }
    if random.percent(20) {
        program.limits.api_in_flight = random.between(1, 4);
    }
    program
}

fn copier(random: &mut Random, name: &str) -> Program {
    let kind = *random.pick(&[Kind::Website, Kind::Website, Kind::Zone]);
    let mut primary = watch(kind);
    primary.generation_changed = random.percent(50);
    primary.cached = random.percent(40);
    primary.ignore_own_writes = random.percent(40);
    if random.percent(20) {
        primary.label_selector = "app=x".into();
    }
    if random.percent(15) {
        primary.namespaces = vec!["a".into()];
    }
    let owns = random.percent(60);
    let script = Script {
        cached: primary.cached && random.percent(80),
        child: Some(name.into()),
        owns,
        finalizer: !owns && random.percent(60),
        status: random.percent(50),
        ..Script::default()
    };
    let mut children = watch(Kind::ConfigMap);
    children.relation = *random.pick(&[Relation::Owner, Relation::Controller]);
    children.ignore_own_writes = random.percent(40);
    let watches = if owns && random.percent(80) { vec![children] } else { Vec::new() };
    program(name, vec![registration(name, primary, kind, watches, script)])
}

fn requeuer(random: &mut Random, name: &str, slow: bool) -> Program {
    let kind = *random.pick(&[Kind::Website, Kind::Secret, Kind::ConfigMap]);
    let requeue = match slow {
        true => random.duration(10 * MINUTE, 60 * MINUTE),
        false => random.duration(5 * SECOND, 5 * MINUTE),
    };
    let script = Script { requeue: Some(requeue), ..Script::default() };
    program(name, vec![registration(name, watch(kind), kind, Vec::new(), script)])
}

fn sleeper(random: &mut Random, name: &str) -> Program {
    let mut primary = watch(Kind::Website);
    primary.generation_changed = random.percent(50);
    let sleep = random.duration(SECOND, 5 * MINUTE);
    let script = Script { sleep: Some(sleep), child: Some(name.into()), owns: true, ..Script::default() };
    let mut program = program(name, vec![registration(name, primary, Kind::Website, Vec::new(), script)]);
    program.beat = random.percent(50).then(|| random.duration(20 * SECOND, 10 * MINUTE));
    program
}

fn mapper(random: &mut Random, name: &str) -> Program {
    let mut sources = watch(Kind::ConfigMap);
    sources.relation = Relation::Map;
    sources.label_selector = SOURCE_LABEL.into();
    let mut primary = watch(Kind::Website);
    primary.generation_changed = random.percent(50);
    let owns = random.percent(50);
    let script = Script { child: Some(name.into()), owns, sources: true, ..Script::default() };
    program(name, vec![registration(name, primary, Kind::Website, vec![sources], script)])
}

/// Two registrations, in an order that changes.
fn both(random: &mut Random, name: &str) -> Program {
    let script = Script { child: Some(name.into()), owns: true, ..Script::default() };
    let first = registration("first", watch(Kind::Zone), Kind::Zone, Vec::new(), script);
    let requeue = random.percent(50).then(|| random.duration(20 * SECOND, 10 * MINUTE));
    let script = Script { requeue, ..Script::default() };
    let second = registration("second", watch(Kind::Secret), Kind::Secret, Vec::new(), script);
    let mut program = program(name, vec![first, second]);
    program.shuffles = random.percent(70);
    program
}

/// Makes a bad controller of a good one.
fn spoil(random: &mut Random, program: &mut Program) {
    let mut mistakes = Mistakes::default();
    program.is_good = false;
    match random.below(10) {
        0 => mistakes.errors = *random.pick(&[10, 50, 100]),
        1 => mistakes.traps = *random.pick(&[3, 20, 100]),
        2 => (mistakes.traps, mistakes.traps_silently) = (*random.pick(&[3, 20, 100]), true),
        3 => {
            mistakes.flood = random.between(20, 120) as u32;
            mistakes.flood_bytes = if random.percent(20) { 600 << 10 } else { 100 };
            (program.limits.api_in_flight, program.limits.api_burst) = (4, 20);
        }
        4 => {
            mistakes.hangs = *random.pick(&[10, 50, 100]);
            program.limits.reconcile_timeout_ns = 60 * 1_000_000_000;
        }
        5 => mistakes.denied = true,
        6 => mistakes.nonsense = 20,
        7 => {
            mistakes.leak = 256 << 10;
            program.limits.memory_bytes = 8 << 20;
        }
        8 => {
            mistakes.streams = true;
            program.limits.api_in_flight = 3;
        }
        _ => program.fails_to_start = true,
    }
    for registration in &mut program.registrations {
        registration.script.mistakes = mistakes.clone();
    }
}
