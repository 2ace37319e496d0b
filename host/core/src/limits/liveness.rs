//! Decides when a running instance restarts from its base image: when nothing it does succeeds, or when its memory has
//! filled up.
//!
//! A failed step is rolled back. A state in which every step fails would thus persist, and snapshots would carry it to
//! the next host. An ordinary process in such a state exits and starts clean.
//!
//! ```text
//! reconciles fail in a row ─► suspicion ─► others are reconciled as a check ─┬─ one ends: the objects were at fault
//!                                                                            └─ they fail too: restart
//! steps run out of memory, of which much was in use before:
//!   3 times, on several objects; or 5 times within at least 30 s, on one ──────────────────► restart
//! the controller is idle, and memory is nearly full or a growth was denied ────────────────► restart
//! ```

use std::time::Duration;

use crate::registration_id::RegistrationId;
use crate::work_queue::{Backoff, Key};

/// An object being reconciled; with an empty key, the map functions of a registration.
type Object = (RegistrationId, Key);

/// Steps out of memory that mean a full memory, if they affect more than one object. A single object may need too much
/// in any state: see [`OUT_OF_MEMORY_SINGLE`].
const OUT_OF_MEMORY: usize = 3;
/// Steps of a single object out of memory, within at least [`SINGLE_PATIENCE`], that cause a restart. It may be the
/// only object.
const OUT_OF_MEMORY_SINGLE: usize = 5;
const SINGLE_PATIENCE: Duration = Duration::from_secs(30);
/// Different objects that fail in a row and cause a check, while no other is being reconciled.
const OBJECTS: usize = 3;
/// Failures within at least [`PATIENCE`] that cause a check.
const FAILURES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects reconciled as a check.
const CHECKED: usize = 2;
/// Most objects remembered.
const REMEMBERED: usize = 16;
/// Backoff after restarts that helped none of the failed objects.
const UNHELPFUL: Backoff = Backoff { base: Duration::from_secs(60), max: Duration::from_secs(3600) };
/// Backoff of idle restarts, for controllers that always need nearly all of their memory.
const NEARLY_FULL: Backoff = Backoff { base: Duration::from_secs(600), max: Duration::from_secs(86_400) };

/// Linear memory of an instance, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes now, or before the failed step. It never shrinks.
    pub used: u64,
    /// Bytes at the start.
    pub base: u64,
    /// Most bytes.
    pub limit: u64,
    /// The limit denied a growth to a step that then succeeded.
    pub refused: bool,
}

/// Most bytes of a 32-bit memory.
const MAX_MEMORY_BYTES: u64 = 4 << 30;

impl MemoryUse {
    /// `used`, `base` and `limit` in bytes.
    pub fn new(used: u64, base: u64, limit: u64, refused: bool) -> MemoryUse {
        MemoryUse { used, base, limit: limit.min(MAX_MEMORY_BYTES), refused }
    }

    /// It has grown enough that a restart gives a step more. Allocators that double their heap fail with less than
    /// half.
    fn has_grown(&self) -> bool {
        self.used.saturating_sub(self.base) >= self.limit.saturating_sub(self.base) / 3 && self.used > self.base
    }

    /// Whether an idle controller should restart, which costs less than a later failed step. An allocator that doubles
    /// its heap stops just above half of the limit, so a denied growth also counts as nearly full.
    pub fn is_nearly_full(&self) -> bool {
        let grown = self.used.saturating_sub(self.base);
        let is_at_limit = grown >= self.limit.saturating_sub(self.base) / 2 && self.used >= self.limit - self.limit / 8;
        self.has_grown() && (self.refused || is_at_limit)
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// Reconcile this many other objects, to see whether anything succeeds.
    Check(usize),
    /// Restart the instance from its base image.
    Restart(Why),
}

/// Why an instance restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its memory is full.
    MemoryFull,
    /// Nothing it does succeeds.
    NothingSucceeds,
}

/// Recent failures of one controller. Controllers without failures have none of this.
#[derive(Debug, Default)]
pub struct Liveness {
    streak: Option<Streak>,
    /// Objects whose steps ran out of memory and have not ended since; one entry per failure.
    out_of_memory: Vec<Object>,
    /// When the first of them failed.
    short_since: Duration,
    /// When a check last began.
    checked: Option<Duration>,
    /// Restarts in a row that helped none of `before`.
    unhelpful: u32,
    /// What had failed before the last restart.
    before: Vec<Object>,
    /// Earliest time of the next restart.
    not_before: Duration,
    /// Idle restarts, and the earliest time of the next one.
    nearly_full: (u32, Duration),
    /// The limit denied a growth to a step of this instance.
    refused_memory: bool,
}

/// Failures since a reconcile last ended.
#[derive(Debug)]
struct Streak {
    since: Duration,
    failures: u32,
    /// Without duplicates.
    objects: Vec<Object>,
    check: Option<Check>,
}

#[derive(Debug)]
struct Check {
    since: Duration,
    failures: u32,
    /// Further objects that have to fail.
    left: usize,
}

impl Liveness {
    /// A reconcile or map task was cancelled, because a step failed or because it timed out and waited for nothing.
    /// `memory`: before the step, if it ran out of memory.
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

    /// A reconcile ended, with any outcome.
    pub fn ended(&mut self, object: &Object) {
        self.streak = None;
        self.out_of_memory.retain(|other| other != object);
        if self.before.contains(object) {
            (self.unhelpful, self.before, self.not_before) = (0, Vec::new(), Duration::ZERO);
        }
    }

    /// A map function of this registration answered, which says nothing about reconciles.
    pub fn mapped(&mut self, registration: RegistrationId) {
        let object = (registration, Key::from(""));
        self.out_of_memory.retain(|other| *other != object);
        self.streak.take_if(|streak| streak.objects.iter().all(|(_, key)| key.is_empty()));
        if self.before.contains(&object) {
            (self.unhelpful, self.before, self.not_before) = (0, Vec::new(), Duration::ZERO);
        }
    }

    /// The limit denied a growth to a step, which succeeded without it.
    pub fn refused_memory(&mut self) {
        self.refused_memory = true;
    }

    /// Whether the limit denied a growth to a step of this instance.
    pub fn was_refused_memory(&self) -> bool {
        self.refused_memory
    }

    /// What to do after a failure. `active`: reconciles in progress, which may yet end.
    pub fn judge(&mut self, active: usize, now: Duration) -> Verdict {
        if now < self.not_before {
            return Verdict::GoOn;
        }
        let is_past = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        // Other reconciles may free memory when they end.
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

    /// Whether the failures mean that the memory is full.
    fn is_full(&self, now: Duration) -> bool {
        let Some(first) = self.out_of_memory.first() else { return false };
        if self.out_of_memory.iter().all(|object| object == first) {
            self.out_of_memory.len() >= OUT_OF_MEMORY_SINGLE && now.saturating_sub(self.short_since) >= SINGLE_PATIENCE
        } else {
            self.out_of_memory.len() >= OUT_OF_MEMORY
        }
    }

    /// Begins a check with this many objects; without any, the verdict is a restart.
    pub fn checks_with(&mut self, objects: usize) -> Verdict {
        if let Some(check) = self.streak.as_mut().and_then(|streak| streak.check.as_mut()) {
            check.left = objects;
        }
        if objects == 0 { Verdict::Restart(Why::NothingSucceeds) } else { Verdict::GoOn }
    }

    /// Whether an object failed in the current streak.
    pub fn is_suspect(&self, object: &Object) -> bool {
        self.streak.as_ref().is_some_and(|streak| streak.objects.contains(object))
    }

    /// Whether to restart an idle instance before its memory is full. A `true` counts as a restart.
    pub fn begins_anew_while_idle(&mut self, memory: MemoryUse, now: Duration) -> bool {
        let (times, not_before) = self.nearly_full;
        let begins = memory.is_nearly_full() && now >= not_before;
        if begins {
            self.nearly_full = (times.saturating_add(1), now.saturating_add(NEARLY_FULL.delay(times + 1)));
        }
        begins
    }

    /// The instance restarts, after a verdict or for another reason.
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

    /// Whether there is nothing to remember.
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
