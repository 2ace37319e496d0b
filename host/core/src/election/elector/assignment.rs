//! Acquires and releases the Leases of controllers.

use std::sync::Arc;
use std::time::Duration;

use super::super::fence::{Fence, Term};
use super::super::record::{Answer, Failure, Record, Request, Role, Write};
use super::super::rendezvous::assigned;
use super::{Elector, Ending, News, Stage};

/// The elector deletes the Lease of a dead host after this multiple of the Lease's duration.
pub(super) const FORGET_AFTER: u32 = 4;

impl Elector {
    /// The host has stopped a controller that it had to give up or had lost.
    pub fn given_up(&mut self, slot: u32, now: Duration) {
        self.expire(now);
        let Some((_, stage)) = self.controllers.get_mut(slot as usize) else { return };
        match std::mem::replace(stage, Stage::Free) {
            Stage::Stopping(Some(record)) => self.release(slot, &record),
            Stage::Stopping(None) | Stage::Free => {}
            other => *stage = other,
        }
        self.wants_list = true;
    }

    pub(super) fn on_controllers(&mut self, records: Vec<(String, Record)>, sent: Duration, now: Duration) {
        self.known = records.into_iter().collect();
        self.listed = Some((sent, now));
        for (slot, (name, stage)) in (0..).zip(&mut self.controllers) {
            let Stage::Held { fence, since, .. } = stage else { continue };
            let is_foreign = self.known.get(&**name).is_none_or(|record| record.holder != *self.me);
            // Someone edited or deleted it: better no holder than two.
            if is_foreign && *since <= sent {
                fence.end();
                *stage = Stage::Stopping(None);
                self.news.push(News::Lost { slot });
            }
        }
    }

    pub(super) fn on_written(&mut self, write: &Write, answer: Result<Answer, Failure>, now: Duration) {
        let Some(slot) = self.controllers.iter().position(|(name, _)| *name == write.name) else { return };
        let acquiring = match std::mem::replace(&mut self.controllers[slot].1, Stage::Free) {
            Stage::Acquiring { term, before } => Some((term, before)),
            Stage::Releasing => None,
            // It was answered before.
            other => {
                self.controllers[slot].1 = other;
                return;
            }
        };
        match self.success(answer) {
            Some(Answer::Written(record)) => {
                self.known.insert(write.name.to_string(), record.clone());
                if let Some((term, before)) = acquiring.filter(|(term, _)| !term.is_over(now)) {
                    let fence = Arc::new(Fence::new(term));
                    let tenure = record.tenure();
                    self.controllers[slot].1 = Stage::Held { fence: fence.clone(), record, since: now };
                    match self.ending {
                        Ending::No => self.news.push(News::Gained { slot: slot as u32, fence, before, tenure }),
                        _ => self.release_at_end(slot as u32),
                    }
                }
            }
            Some(_) | None => self.wants_list = true,
        }
        self.remove_at_end();
    }

    /// Acquires, releases or keeps each controller, by the Leases known.
    pub(super) fn decide(&mut self, now: Duration) {
        let Some(term) = self.term.clone().filter(|_| self.ending == Ending::No) else { return };
        let hosts_asked = self.hosts.asked();
        // Only what was read before the hosts were listed may be overwritten.
        let is_listed = self.listed.zip(hosts_asked).is_some_and(|((_, answered), asked)| answered <= asked)
            && self.listed.is_some_and(|(sent, _)| sent >= self.begun);
        for slot in 0..self.controllers.len() {
            let (name, stage) = &self.controllers[slot];
            let chosen = assigned(name, self.hosts.candidates(name, now));
            let is_mine = chosen == Some(&*self.me);
            let goes_away = !is_mine && chosen.is_some_and(|host| self.hosts.is_proven(host));
            match stage {
                Stage::Held { record, .. } if goes_away => {
                    let record = record.clone();
                    self.controllers[slot].1 = Stage::Stopping(Some(record));
                    self.news.push(News::GiveUp { slot: slot as u32 });
                }
                Stage::Free => {
                    let record = self.known.get(&**name);
                    let holder = record.map_or("", |record| &record.holder);
                    // Held since an earlier term, or by an earlier process with the same directory.
                    let was_mine = holder == &*self.me;
                    if !is_mine && !was_mine {
                        continue;
                    }
                    self.wants_list |= !is_listed;
                    if !is_listed {
                        continue;
                    }
                    if was_mine && goes_away {
                        let record = record.cloned().unwrap_or_default();
                        self.release(slot as u32, &record);
                    } else if was_mine || holder.is_empty() || self.hosts.is_dead(holder) {
                        self.acquire(slot, &term);
                    } else {
                        // Wait until its holder releases it.
                        self.wants_list = true;
                    }
                }
                Stage::Held { .. } | Stage::Acquiring { .. } | Stage::Stopping(_) | Stage::Releasing => {}
            }
        }
        self.forget_dead(now);
    }

    pub(super) fn acquire(&mut self, slot: usize, term: &Arc<Term>) {
        let (name, stage) = &mut self.controllers[slot];
        let record = self.known.get(&**name);
        let transitions = record.map_or(0, |record| record.transitions + i32::from(record.holder != *self.me));
        self.out.push(Request::Write(Write {
            role: Role::Controller,
            name: name.clone(),
            replaces: record.map(|record| record.version.clone()),
            holder: self.me.to_string(),
            transitions,
            acquired_us: self.started_us,
            duration: None,
            runs: Arc::default(),
        }));
        *stage = Stage::Acquiring { term: term.clone(), before: record.map(Record::tenure) };
    }

    /// Releases the Lease, so that the next holder need not wait.
    pub(super) fn release(&mut self, slot: u32, record: &Record) {
        let (name, stage) = &mut self.controllers[slot as usize];
        self.out.push(Request::Write(Write {
            role: Role::Controller,
            name: name.clone(),
            replaces: Some(record.version.clone()),
            holder: String::new(),
            transitions: record.transitions,
            acquired_us: self.started_us,
            duration: None,
            runs: Arc::default(),
        }));
        *stage = Stage::Releasing;
    }

    /// Deletes Leases of hosts that are long dead and hold nothing. Only the first live host does.
    pub(super) fn forget_dead(&mut self, now: Duration) {
        if !self.hosts.is_first(now) {
            return;
        }
        let after = self.timing.lease_duration * FORGET_AFTER;
        for (host, version) in self.hosts.unchanged_for(after, now) {
            if !self.known.values().any(|record| record.holder == host) {
                self.out.push(Request::Delete { host, version });
            }
        }
    }
}
