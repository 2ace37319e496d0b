//! Decides when an instance is to begin anew from its base image although it still runs: when nothing that it does
//! succeeds, or when its memory has filled up.
//!
//! A step that fails is undone. So a state in which every step fails would stay as it is, and snapshots would take it
//! to the next host. A process in such a state ends, and starts clean.
//!
//! ```text
//! reconciles fail in a row ─► suspicion ─► others are reconciled as a check ─┬─ one ends: it was the objects' own fault
//!                                                                            └─ they fail too: begin anew
//! steps fail for lack of memory, of which much was in use before:
//!   3 times, on several objects; or 5 times within at least 30 s, on one ──────────────────► begin anew
//! the controller is idle, and memory is nearly full or more was refused ───────────────────► begin anew
//! ```

use std::time::Duration;

use crate::registration_id::RegistrationId;
use crate::work_queue::{Backoff, Key};

/// An object being reconciled; with an empty key, the map functions of a registration.
type Object = (RegistrationId, Key);

/// This many steps that fail for lack of memory mean a full memory, if more than one object is
/// affected. A single object may need too much, whatever the memory holds: see [`OUT_OF_MEMORY_SINGLE`].
const OUT_OF_MEMORY: usize = 3;
/// A single object whose steps fail this often within at least [`SINGLE_PATIENCE`] is worth a restart. It may be the
/// only one there is.
const OUT_OF_MEMORY_SINGLE: usize = 5;
const SINGLE_PATIENCE: Duration = Duration::from_secs(30);
/// So many different objects that fail in a row are suspicious, while no other is being reconciled.
const OBJECTS: usize = 3;
/// So are so many failures within at least [`PATIENCE`].
const FAILURES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects that are reconciled as a check.
const CHECKED: usize = 2;
/// Most objects remembered.
const REMEMBERED: usize = 16;
/// After a restart that helped none of the objects that had failed, the next one waits.
const UNHELPFUL: Backoff = Backoff { base: Duration::from_secs(60), max: Duration::from_secs(3600) };
/// A controller that needs nearly all of its memory is not to begin anew whenever it is idle.
const NEARLY_FULL: Backoff = Backoff { base: Duration::from_secs(600), max: Duration::from_secs(86_400) };

/// Linear memory of an instance, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Now, or before the step that failed. It never shrinks.
    pub used: u64,
    /// What it begins with.
    pub base: u64,
    pub limit: u64,
    /// A step was refused more, and succeeded without.
    pub refused: bool,
}

/// A 32-bit memory never has more, whatever its limit.
const MAX_MEMORY_BYTES: u64 = 4 << 30;

impl MemoryUse {
    /// `limit`: what the package allows itself.
    pub fn new(used: u64, base: u64, limit: u64, refused: bool) -> MemoryUse {
        MemoryUse { used, base, limit: limit.min(MAX_MEMORY_BYTES), refused }
    }

    /// It has grown so much that beginning anew leaves more for a step. Allocators that double their heap fail when
    /// they have less than a half.
    fn has_grown(&self) -> bool {
        self.used.saturating_sub(self.base) >= self.limit.saturating_sub(self.base) / 3 && self.used > self.base
    }

    /// A restart while the controller is idle costs less than a step that fails later. An allocator that doubles its
    /// heap stops just above half of the limit, so a refused growth counts as nearly full, too.
    pub fn is_nearly_full(&self) -> bool {
        let grown = self.used.saturating_sub(self.base);
        let is_at_limit = grown >= self.limit.saturating_sub(self.base) / 2 && self.used >= self.limit - self.limit / 8;
        self.has_grown() && (self.refused || is_at_limit)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    /// So many other objects are to be reconciled, to see whether anything succeeds.
    Check(usize),
    /// The instance is to begin anew.
    Restart(Why),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    MemoryFull,
    NothingSucceeds,
}

/// What has gone wrong of late with one controller. There is none of one with whom nothing has.
#[derive(Debug, Default)]
pub struct Liveness {
    streak: Option<Streak>,
    /// Objects whose steps failed for want of memory, and that have not ended since; one for each failure.
    out_of_memory: Vec<Object>,
    /// Since when there are any.
    short_since: Duration,
    /// When a check was last asked for.
    checked: Option<Duration>,
    /// Restarts in a row that helped none of `before`.
    unhelpful: u32,
    /// What had failed when it was last restarted.
    before: Vec<Object>,
    /// No restart before this.
    not_before: Duration,
    /// Restarts because memory was nearly full, and when the next one may be.
    nearly_full: (u32, Duration),
    /// A step of the present instance was refused memory, and succeeded without.
    refused_memory: bool,
}

/// Failures since a reconcile last ended by itself.
#[derive(Debug)]
struct Streak {
    since: Duration,
    failures: u32,
    /// Different ones.
    objects: Vec<Object>,
    check: Option<Check>,
}

#[derive(Debug)]
struct Check {
    since: Duration,
    failures: u32,
    /// Objects that have to fail besides those before.
    left: usize,
}

impl Liveness {
    /// A reconcile or a map task was cancelled because a step failed on it, or because it took too long and waited for nothing.
    /// `memory`: before the step, if it failed for want of memory.
    pub fn failed(&mut self, object: Object, memory: Option<MemoryUse>, now: Duration) {
        if memory.is_some_and(|memory| memory.has_grown()) && self.out_of_memory.len() < REMEMBERED {
            if self.out_of_memory.is_empty() {
                self.short_since = now;
            }
            self.out_of_memory.push(object.clone());
        }
        let streak =
            self.streak.get_or_insert_with(|| Streak { since: now, failures: 0, objects: Vec::new(), check: None });
        streak.failures = streak.failures.saturating_add(1);
        let is_new = !streak.objects.contains(&object);
        if let Some(check) = &mut streak.check {
            check.failures = check.failures.saturating_add(1);
            check.left -= usize::from(is_new && check.left > 0);
        }
        if is_new && streak.objects.len() < REMEMBERED {
            streak.objects.push(object);
        }
    }

    /// A reconcile ended by itself, whatever its outcome.
    pub fn ended(&mut self, object: &Object) {
        self.streak = None;
        self.out_of_memory.retain(|other| other != object);
        if self.before.contains(object) {
            (self.unhelpful, self.before, self.not_before) = (0, Vec::new(), Duration::ZERO);
        }
    }

    /// A map function of this registration answered. It says nothing of reconciles, which may fail nonetheless.
    pub fn mapped(&mut self, registration: RegistrationId) {
        let object = (registration, Key::from(""));
        self.out_of_memory.retain(|other| *other != object);
        self.streak.take_if(|streak| streak.objects.iter().all(|(_, key)| key.is_empty()));
        if self.before.contains(&object) {
            (self.unhelpful, self.before, self.not_before) = (0, Vec::new(), Duration::ZERO);
        }
    }

    /// A step was refused memory, and succeeded without.
    pub fn refused_memory(&mut self) {
        self.refused_memory = true;
    }

    /// Whether a step of the present instance was refused memory, and succeeded without.
    pub fn was_refused_memory(&self) -> bool {
        self.refused_memory
    }

    /// What is to be done after a failure. `active`: reconciles that are still under way, which may yet end.
    pub fn judge(&mut self, active: usize, now: Duration) -> Verdict {
        if now < self.not_before {
            return Verdict::GoOn;
        }
        let is_past = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        // Others may give some of it back when they end.
        if self.is_full(now) && (active == 0 || is_past(self.short_since)) {
            return Verdict::Restart(Why::MemoryFull);
        }
        let Some(streak) = &mut self.streak else { return Verdict::GoOn };
        if let Some(check) = &streak.check {
            let is_over = check.left == 0 || check.failures >= OBJECTS as u32 && is_past(check.since);
            return if is_over { Verdict::Restart(Why::NothingSucceeds) } else { Verdict::GoOn };
        }
        let is_long = is_past(streak.since);
        let is_suspicious =
            streak.objects.len() >= OBJECTS && (active == 0 || is_long) || streak.failures >= FAILURES && is_long;
        if !is_suspicious || self.checked.is_some_and(|checked| !is_past(checked)) {
            return Verdict::GoOn;
        }
        self.checked = Some(now);
        streak.check = Some(Check { since: now, failures: 0, left: CHECKED });
        Verdict::Check(CHECKED)
    }

    /// Whether the failures for lack of memory mean that the memory is full.
    fn is_full(&self, now: Duration) -> bool {
        let Some(first) = self.out_of_memory.first() else { return false };
        if self.out_of_memory.iter().all(|object| object == first) {
            self.out_of_memory.len() >= OUT_OF_MEMORY_SINGLE && now.saturating_sub(self.short_since) >= SINGLE_PATIENCE
        } else {
            self.out_of_memory.len() >= OUT_OF_MEMORY
        }
    }

    /// So many objects are reconciled as a check. What follows if there are none.
    pub fn checks_with(&mut self, objects: usize) -> Verdict {
        if let Some(check) = self.streak.as_mut().and_then(|streak| streak.check.as_mut()) {
            check.left = objects;
        }
        if objects == 0 { Verdict::Restart(Why::NothingSucceeds) } else { Verdict::GoOn }
    }

    /// Whether an object has failed in the present streak.
    pub fn is_suspect(&self, object: &Object) -> bool {
        self.streak.as_ref().is_some_and(|streak| streak.objects.contains(object))
    }

    /// Whether an instance with nothing to do is to begin anew before its memory is full. It is taken for done.
    pub fn begins_anew_while_idle(&mut self, memory: MemoryUse, now: Duration) -> bool {
        let (times, not_before) = self.nearly_full;
        let begins = memory.is_nearly_full() && now >= not_before;
        if begins {
            self.nearly_full = (times.saturating_add(1), now.saturating_add(NEARLY_FULL.delay(times + 1)));
        }
        begins
    }

    /// The instance begins anew, because of a verdict or otherwise.
    pub fn restarted(&mut self, by_verdict: bool, now: Duration) {
        self.refused_memory = false;
        let streak = self.streak.take();
        let mut failed = std::mem::take(&mut self.out_of_memory);
        if by_verdict {
            failed.extend(streak.into_iter().flat_map(|streak| streak.objects));
            self.before = failed;
            self.unhelpful = self.unhelpful.saturating_add(1);
            self.not_before = now.saturating_add(UNHELPFUL.delay(self.unhelpful));
        }
    }

    /// Nothing has to be remembered any more.
    pub fn is_idle(&self) -> bool {
        self.streak.is_none()
            && self.out_of_memory.is_empty()
            && self.before.is_empty()
            && self.nearly_full.0 == 0
            && !self.refused_memory
    }

    /// Bytes in RAM.
    pub fn bytes(&self) -> usize {
        let objects =
            self.streak.iter().flat_map(|streak| &streak.objects).chain(&self.out_of_memory).chain(&self.before);
        size_of::<Liveness>() + objects.map(|(_, key)| size_of::<Object>() + key.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
