//! Any sequence of events keeps the promises of the loop's structs, loses no change and no credit, and leaves every
//! controller able to work.
//!
//! Numbers choose what happens, so that a failure shrinks to a few of them. `PROPTEST_CASES` is the number of sequences.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Credit, HostEvent, RESPONSE_CREDIT_BYTES};
use super::environment::object;
use super::harness::*;
use super::random_shell::{Choices, KINDS, NAMES, RandomShell, spec};
use crate::step::{Action, EventKind};

/// After anything has happened: the shell does everything right.
impl RandomShell {
    /// Everything works from here on: permissions, watches, guests, disk and requests.
    fn become_calm(&mut self) {
        for id in self.ids.clone() {
            let name = self.host.control.name(id).to_string();
            self.settle(name, None, None);
            self.carry_out();
        }
        self.work();
        self.gain(self.ids[3]);
        self.carry_out();
        self.work();
        for kind in KINDS {
            for watch in self.watches(kind) {
                self.list(watch, kind);
            }
        }
        self.work();
    }

    /// Does whatever there is to do, with success, for a while.
    fn work(&mut self) {
        for _ in 0..400 {
            while let Some(event) = self.host.control.environment_mut().sent.pop_front() {
                self.host.event(HostEvent::Watch(event));
                self.carry_out();
            }
            for id in self.ids.clone() {
                if self.host.is_stepping(id) {
                    self.see(id);
                    let is_start = self.host.kinds(id).contains(&EventKind::Start);
                    let guest = self.guests.get_mut(&id).unwrap();
                    let reconciles = std::mem::take(&mut guest.reconciles).into_keys().map(done);
                    let maps = std::mem::take(&mut guest.maps).into_iter();
                    let maps = maps.map(|task| Action::Mapped { task, keys: String::new() });
                    let start = is_start.then(|| register(&spec(1)));
                    let drops = std::mem::take(&mut guest.calls).into_iter().map(drop_call);
                    let actions: Vec<Action> = start.into_iter().chain(reconciles).chain(maps).chain(drops).collect();
                    self.host.does(id, actions);
                } else if self.host.saving(id).is_some() {
                    self.save_of(id);
                }
                self.carry_out();
            }
            while !self.requests.is_empty() {
                let before = self.requests.len();
                self.answer(0, 3);
                if self.requests.len() == before {
                    break;
                }
            }
            while !self.replies.is_empty() {
                self.arrive();
                self.carry_out();
            }
            let is_quiet = self.host.orders.is_empty() && self.host.control.environment().sent.is_empty();
            match self.host.control.next_wake() {
                Some(wake) if is_quiet => {
                    self.host.now.host = self.host.now.host.max(wake);
                    self.host.dispatch();
                    self.carry_out();
                }
                None if is_quiet => return,
                _ => {}
            }
        }
    }

    /// Whether a change of every website now reaches every controller, and nothing is left over then.
    fn check_calm(&mut self) {
        self.reconciled.clear();
        for name in NAMES {
            self.version += 1;
            let changed = object(name).version(self.version).spec(json!(self.version));
            for watch in self.watches("Website") {
                self.host.control.environment_mut().apply(watch, &changed);
            }
        }
        self.work();
        for id in &self.ids {
            let observed = self.host.observe(*id);
            assert!(observed.unwatched.is_none(), "{}: {:?}", observed.name, observed.unwatched);
            for name in NAMES {
                assert!(self.reconciled.contains(&(*id, name.into())), "{} does not see {name}", observed.name);
            }
            assert_eq!((observed.active, observed.requests, observed.queue.depth), (0, 0, 0), "{}", observed.name);
            let credit = self.host.control.credit(*id).map_or(RESPONSE_CREDIT_BYTES, |credit| credit.available());
            assert_eq!(credit, RESPONSE_CREDIT_BYTES, "{}", observed.name);
        }
    }
}

fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_loop_keeps_its_promises_and_recovers(
        numbers in proptest::collection::vec(any::<u16>(), 0..1500),
    ) {
        let mut choices = Choices(numbers.into());
        let mut shell = RandomShell::new();
        shell.carry_out();
        while !choices.0.is_empty() {
            shell.happen(&mut choices);
        }
        shell.become_calm();
        shell.check_calm();
    }

    #[test]
    fn whatever_happens_before_a_shutdown_every_instance_is_saved_or_dropped(
        numbers in proptest::collection::vec(any::<u16>(), 0..600),
    ) {
        let mut choices = Choices(numbers.into());
        let mut shell = RandomShell::new();
        shell.carry_out();
        while !choices.0.is_empty() {
            shell.happen(&mut choices);
        }
        shell.host.event(HostEvent::Shutdown);
        shell.carry_out();
        for _ in 0..4 {
            for id in shell.ids.clone() {
                if shell.host.is_stepping(id) {
                    shell.host.does(id, vec![]);
                } else if shell.host.saving(id).is_some() {
                    shell.save_of(id);
                }
            }
            prop_assert!(shell.host.sends().is_empty());
        }
        prop_assert!(shell.host.orders.is_empty());
        prop_assert_eq!(shell.host.control.next_wake(), None);
    }
}
