//! Steps of instances, which take time with a worker.

use std::time::Duration;

use wasmop_core::control_loop::{HostEvent, SlotId, Step, Stepped};
use wasmop_core::step::EventKind;
use wasmop_package::Tier;

use super::{Home, Host, Message};
use crate::guest::{Guest, Input};
use crate::observer::Invariant;
use crate::plant::Plant;
use crate::worker::{self, Instance, Report};
use crate::world::lock;

impl Host {
    pub(super) fn step(&mut self, step: Step) {
        let Step { slot, events, at, monotonic_ns, tasks, registered: _ } = step;
        let program = self.world.programs[slot.index()].clone();
        let name = program.name.clone();
        let count = events.as_ref().map_or(0, Vec::len);
        self.note(format_args!("{name}: step with {count} events"));
        let home = self.take_instance(slot);
        let is_bad = self.random.percent(self.world.options.bad_snapshots) && !lock(&self.disk).is_sound;
        let disk_is_slow = lock(&self.disk).slow_until > self.world.server.now();
        let mut takes = self.random.duration(Duration::from_millis(1), self.world.options.step);
        let (instance, was_suspended) = match home {
            Home::Resident(instance) => (Some(*instance), false),
            Home::Suspended(has_snapshot) => {
                takes += self.random.duration(
                    Duration::from_millis(1),
                    if disk_is_slow && has_snapshot { Duration::from_secs(10) } else { Duration::from_millis(20) },
                );
                let snapshot = lock(&self.disk).snapshot(&name).filter(|_| has_snapshot).cloned();
                let guest = match snapshot {
                    Some(_) if is_bad => None,
                    Some(snapshot) => Some(snapshot.guest),
                    None if has_snapshot => None,
                    None => Some(Guest::new(program.clone())),
                };
                let instance = guest.map(|guest| Instance {
                    guest,
                    logged: 0,
                    log_capacity: self.world.options.log_capacity,
                    is_soft: program.tier == Tier::Soft,
                    is_suspended: false,
                });
                (instance, has_snapshot)
            }
            Home::Busy => return,
        };
        if self.world.plant == Some(Plant::KeepInstances)
            && let Some(instance) = &instance
            && slot.0 == 0
        {
            self.homes[slot.index()] = Home::Resident(Box::new(instance.clone()));
        }
        let moment = self.world.server.cluster().moment();
        {
            let mut ledger = self.world.ledger();
            ledger.set_timer(&name, None);
            for event in events.iter().flatten().filter(|event| event.kind == EventKind::Reconcile) {
                let order = instance.as_ref().map(|instance| instance.guest.registration_of(event.aux));
                if let Some(Some(registration)) = order {
                    let key = String::from_utf8_lossy(&event.payload).into();
                    ledger.begun((name.clone(), registration, key));
                }
            }
        }
        let wall_ns = self.world.wall().as_nanos() as u64;
        let input = Input { wall_ns, monotonic_ns, seed: self.random.number(), moment };
        let drops_done = self.world.plant == Some(Plant::DropDone);
        let tx = self.tx.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let mut report = match instance {
                Some(instance) => worker::run(instance, events, &tasks, input, drops_done),
                None => Report::bad_snapshot(),
            };
            report.steps.step = takes;
            report.steps.cpu = takes / 8;
            if was_suspended && report.steps.resume.is_none() {
                report.steps.resume = Some(takes / 2);
            }
            let report = Box::new(report);
            let _ = tx.send(Message::Stepped { slot, stepped_at: at, was_suspended, events: count, report });
        });
    }

    pub(super) fn on_stepped(
        &mut self,
        slot: SlotId,
        stepped_at: Duration,
        was_suspended: bool,
        events: usize,
        report: Report,
    ) {
        let Report { instance, steps, finished, complaints } = report;
        let now = self.now();
        let world = self.world.server.now();
        let name = self.control.name(slot).clone();
        let counts = self.control.holds(slot, now.boot);
        for complaint in complaints {
            self.violate(Invariant::Protocol, format_args!("{name}: {complaint}"));
        }
        let (outputs, failures) = (steps.outputs.len(), steps.failures.len());
        self.note(format_args!(
            "{name}: stepped {events} events, {outputs} outputs, {failures} failures, lost {}, counts {counts}",
            steps.lost.is_some() || instance.is_none()
        ));
        if counts {
            let mut ledger = self.world.ledger();
            for finished in &finished {
                ledger.finished(&name, finished, world);
            }
            let parked = instance.as_ref().and_then(|instance| instance.guest.parked);
            let age = now.host.saturating_sub(stepped_at);
            let at = parked.map(|(now, at)| (world + Duration::from_nanos(at.saturating_sub(now))).saturating_sub(age));
            ledger.set_timer(&name, at);
            if instance.is_none() {
                ledger.forget(&name);
            }
        }
        let facts = instance.as_ref().map(Instance::facts);
        self.homes[slot.index()] = match instance {
            Some(instance) => Home::Resident(Box::new(instance)),
            None => Home::Suspended(false),
        };
        let stepped = Stepped { slot, stepped_at, was_suspended, events, instance: facts, report: steps };
        self.control.take(HostEvent::Stepped(Box::new(stepped)), now);
    }
}
