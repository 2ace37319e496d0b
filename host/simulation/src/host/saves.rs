//! Suspends: snapshots to the disk, which takes time and may fail.

use std::io;
use std::time::Duration;

use wasmop_core::control_loop::{HostEvent, Save, SaveReason, Saved, SlotId, Written};

use super::{Home, Host, Message};
use crate::disk::Snapshot;
use crate::plant::Plant;
use crate::worker::Instance;
use crate::world::lock;

impl Host {
    pub(super) fn save(&mut self, save: Save) {
        let Save { slot, reason, monotonic_ns, state, watches, registered: _ } = save;
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: save, {}", reason.as_str()));
        let Home::Resident(mut instance) = self.take_instance(slot) else { return };
        let hub = &self.control.environment().inner.hub;
        let watches: Vec<_> = watches.into_iter().filter_map(|watch| hub.watched(watch)).collect();
        let now = self.world.server.now();
        let (is_full, is_slow) = {
            let mut disk = lock(&self.disk);
            disk.begin(&name);
            (disk.full_until > now, disk.slow_until > now)
        };
        let longest = if is_slow { Duration::from_secs(20) } else { Duration::from_millis(50) };
        let takes = self.random.duration(Duration::from_millis(1), longest);
        let world = now;
        let snapshot = Snapshot {
            host_state: state.encode(),
            guest: instance.guest.clone(),
            monotonic_ns,
            wall: self.world.wall(),
            world,
        };
        let (tx, disk) = (self.tx.clone(), self.disk.clone());
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let result = if is_full {
                lock(&disk).give_up(&name);
                Err(io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left on device"))
            } else {
                for watch in watches {
                    let _ = watch.save();
                }
                lock(&disk).finish(&name, snapshot);
                instance.logged = 0;
                let bytes = instance.guest.memory / 4;
                Ok(Written { dirty_bytes: bytes, written_bytes: bytes, disk_bytes: bytes })
            };
            let instance = (result.is_err() || !reason.suspends()).then_some(instance);
            let _ = tx.send(Message::Saved { slot, instance, result, reason, took: takes });
        });
    }

    pub(super) fn suspend_softly(&mut self, slot: SlotId, reason: SaveReason) {
        self.note(format_args!("{}: suspend softly, {}", self.control.name(slot), reason.as_str()));
        let Home::Resident(mut instance) = self.take_instance(slot) else { return };
        let is_full = lock(&self.disk).full_until > self.world.server.now();
        let takes = self.random.duration(Duration::from_millis(1), Duration::from_millis(20));
        let tx = self.tx.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(takes).await;
            let result = if is_full {
                Err(io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left on device"))
            } else {
                instance.is_suspended = true;
                let bytes = instance.guest.memory / 4;
                Ok(Written { dirty_bytes: bytes, written_bytes: bytes, disk_bytes: bytes })
            };
            let _ = tx.send(Message::Saved { slot, instance: Some(instance), result, reason, took: takes });
        });
    }

    pub(super) fn on_saved(
        &mut self,
        slot: SlotId,
        instance: Option<Box<Instance>>,
        result: io::Result<Written>,
        reason: SaveReason,
        took: Duration,
    ) {
        let facts = instance.as_deref().map(Instance::facts);
        let name = self.control.name(slot).clone();
        self.note(format_args!("{name}: saved {} ({}): {}", reason.as_str(), facts.is_some(), result.is_ok()));
        if result.is_ok() && !instance.as_ref().is_some_and(|instance| instance.is_soft) {
            let (tx, disk) = (self.tx.clone(), self.disk.clone());
            let after = self.random.duration(Duration::from_millis(1), Duration::from_secs(5));
            self.tasks.spawn(async move {
                tokio::time::sleep(after).await;
                lock(&disk).synced(&name);
                let _ = tx.send(Message::Synced { slot, result: Ok(()) });
            });
        }
        self.homes[slot.index()] = match instance {
            Some(instance) => Home::Resident(instance),
            None => Home::Suspended(true),
        };
        if result.is_err() && self.world.plant == Some(Plant::LoseSaveFailures) {
            return;
        }
        let now = self.now();
        self.control.take(HostEvent::Saved(Box::new(Saved { slot, reason, instance: facts, result, took })), now);
    }
}
