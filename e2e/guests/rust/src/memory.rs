//! State that must survive a suspension. It exists only in the guest's linear memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// All state of the guest.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    total: u64,
    objects: HashMap<String, Known>,
    /// A map that the first reconcile fills and the action `random` iterates.
    thousand: HashMap<u32, String>,
    /// Allocations of the actions `grow`, `heap` and `leak`, one MiB each.
    grown: Vec<Vec<u8>>,
}

/// The state of one Probe.
#[derive(Clone, Copy)]
pub struct Known {
    pub first: Instant,
    pub seen: u64,
    pub errors: u64,
    /// The wall clock of the previous reconcile with a requeue, in nanoseconds.
    pub requeued: u128,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a reconcile. Returns the count of all reconciles, and the state of the object.
    pub fn count(&self, uid: &str) -> (u64, Known) {
        let mut inner = self.inner();
        if inner.thousand.is_empty() {
            inner.thousand = (0..1000).map(|i| (i, thousandth(i))).collect();
        }
        inner.total += 1;
        let total = inner.total;
        let known = inner.objects.entry(uid.to_owned()).or_insert_with(|| Known {
            first: Instant::now(),
            seen: 0,
            errors: 0,
            requeued: 0,
        });
        known.seen += 1;
        (total, *known)
    }

    /// Changes the state of an object.
    pub fn update(&self, uid: &str, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.inner().objects.get_mut(uid) {
            change(known);
        }
    }

    /// Iterates the map of a thousand entries. Returns "ok" if all of them are intact.
    pub fn check_thousand(&self) -> &'static str {
        let inner = self.inner();
        let mut sum = 0;
        for (i, text) in &inner.thousand {
            if *text != thousandth(*i) {
                return "changed";
            }
            sum += i;
        }
        if inner.thousand.len() == 1000 && sum == 999 * 1000 / 2 { "ok" } else { "lost" }
    }

    /// Allocates until no memory is left.
    pub fn grow(&self) -> ! {
        loop {
            self.inner().grown.push(mebibyte());
        }
    }

    /// Allocates this many more MiB.
    pub fn leak(&self, mebibytes: u64) {
        for _ in 0..mebibytes {
            self.inner().grown.push(mebibyte());
        }
    }

    /// Allocates until this many MiB are held.
    pub fn hold(&self, mebibytes: u64) {
        while (self.inner().grown.len() as u64) < mebibytes {
            self.inner().grown.push(mebibyte());
        }
    }
}

/// One MiB with all pages written.
fn mebibyte() -> Vec<u8> {
    let mut bytes = vec![0_u8; 1 << 20];
    for page in bytes.chunks_mut(4096) {
        page[0] = 1;
    }
    bytes
}

fn thousandth(i: u32) -> String {
    format!("entry {i}")
}
