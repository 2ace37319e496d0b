//! Gives back all Leases when the host stops.

use std::time::Duration;

use super::super::record::Request;
use super::{Elector, Ending, Stage};

impl Elector {
    /// Whether everything is released after [`Elector::end`].
    pub fn is_over(&self) -> bool {
        self.ending == Ending::Over
    }

    /// The host has stopped all controllers: releases their Leases.
    pub fn end(&mut self, now: Duration) {
        self.expire(now);
        if self.ending != Ending::No {
            return;
        }
        self.ending = Ending::Releasing;
        for slot in 0..self.controllers.len() as u32 {
            self.release_at_end(slot);
        }
        self.remove_at_end();
    }

    pub(super) fn release_at_end(&mut self, slot: u32) {
        let stage = &mut self.controllers[slot as usize].1;
        match std::mem::replace(stage, Stage::Free) {
            Stage::Held { record, fence, .. } => {
                fence.end();
                self.release(slot, &record);
            }
            Stage::Stopping(Some(record)) => self.release(slot, &record),
            Stage::Stopping(None) | Stage::Free => {}
            other => *stage = other,
        }
    }

    /// The own Lease is deleted last: until then other hosts consider this one alive.
    pub(super) fn remove_at_end(&mut self) {
        let under_way = |stage: &Stage| matches!(stage, Stage::Acquiring { .. } | Stage::Releasing);
        if self.ending != Ending::Releasing || self.controllers.iter().any(|(_, stage)| under_way(stage)) {
            return;
        }
        match self.hosts.own().filter(|own| self.has_written && own.acquired_us == self.started_us) {
            Some(own) => {
                self.out.push(Request::Delete { host: self.me.to_string(), version: own.version.clone() });
                self.ending = Ending::Removing;
            }
            None => self.ending = Ending::Over,
        }
    }
}
