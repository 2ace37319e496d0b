//! A host and the election: which controllers it gets, and which it gives up.

use tokio::sync::mpsc;
use wasmop_core::control_loop::{Gained, HostEvent, SlotId};
use wasmop_core::election::News;
use wasmop_core::startup::Startup;

use super::{Home, Host, Message};
use crate::election;
use crate::world::lock;

impl Host {
    pub(super) fn join_election(&mut self) {
        if !self.world.has_peers {
            return;
        }
        let (words, heard) = mpsc::unbounded_channel();
        let tx = self.tx.clone();
        let tell = move |news| {
            let _ = tx.send(Message::Election(news));
        };
        let names = self.world.programs.iter().map(|program| program.name.clone()).collect();
        let place = (self.world.server.clone(), self.index, self.clock.clone());
        self.tasks.spawn(election::run(place, self.identity.clone(), names, heard, tell));
        self.words = Some(words);
    }

    pub(super) fn on_election(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Gained { slot, fence, before, tenure } => {
                let slot = SlotId(slot);
                if !self.control.may_gain(slot) {
                    return;
                }
                let program = self.world.programs[slot.index()].clone();
                let kept = lock(&self.disk).tenures.get(&program.name).cloned();
                let is_mine = before.is_some() && kept == before;
                if !is_mine {
                    lock(&self.disk).discard(&program.name);
                }
                let (recovered, has_snapshot) = self.recover(&program, &Startup::default());
                lock(&self.disk).tenures.insert(program.name.clone(), tenure.clone());
                self.homes[slot.index()] = Home::Suspended(has_snapshot);
                self.note(format_args!("{}: gained, from snapshot {has_snapshot}", program.name));
                let world = self.world.server.now();
                self.world.ledger().up(&program.name, world);
                lock(&self.world.holders).insert((slot.0, self.index), (fence.clone(), self.clock.clone()));
                let gained = Gained { slot, fence, transitions: tenure.transitions, recovered };
                self.control.take(HostEvent::Gained(Box::new(gained)), now);
            }
            News::GiveUp { slot } => self.control.take(HostEvent::GiveUp { slot: SlotId(slot) }, now),
            News::Lost { slot } => self.control.take(HostEvent::LeaseLost { slot: SlotId(slot) }, now),
            News::Trouble(trouble) => self.note(format_args!("election: trouble {}", trouble.is_some())),
        }
    }
}
