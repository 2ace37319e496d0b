//! Chooses the slots of a state file for the pages of the next snapshot. No I/O.
//!
//! Three owners of slots are never overwritten: the newest snapshot, the newest durable snapshot, and the instance's
//! memory, which may map slots. Until the newest snapshot is durable, only slots beyond the end of the file are free.

use crate::format::FIRST_SLOT;

/// The slots of a state file while a save writes into it.
pub struct SlotAllocator {
    /// Slots of the newest snapshot, of the one being written, and those that the instance's memory maps.
    used: Vec<u32>,
    /// Number of slots that the file has room for, those of the headers included.
    end: u32,
    /// The newest snapshot is durable, so gaps are free.
    reuse: bool,
}

impl SlotAllocator {
    /// `used`: in any order; `end`, `reuse`: see the fields.
    pub fn new(used: Vec<u32>, end: u32, reuse: bool) -> SlotAllocator {
        SlotAllocator { used, end, reuse }
    }

    /// Allocates slots for `count` pages, ascending.
    pub fn take(&mut self, count: usize) -> Vec<u32> {
        let chosen = choose(&mut self.used, self.end, count, self.reuse);
        self.used.extend(&chosen);
        chosen
    }

    /// Allocates `count` consecutive slots and returns the first.
    pub fn take_row(&mut self, count: u32) -> u32 {
        let first = self.in_use().max(self.end);
        self.used.extend(first..first + count);
        first
    }

    /// Number of slots up to the last used one.
    pub fn in_use(&self) -> u32 {
        self.used.iter().max().map_or(FIRST_SLOT, |last| last + 1)
    }
}

/// Chooses `count` distinct slots, ascending: the first gap of `used` that holds them all, else the lowest free ones.
/// `used` is in any order.
fn choose(used: &mut Vec<u32>, end: u32, count: usize, reuse: bool) -> Vec<u32> {
    used.sort_unstable();
    used.dedup();
    let past_used = used.last().map_or(FIRST_SLOT, |last| last + 1);
    if !reuse {
        let first = end.max(past_used).max(FIRST_SLOT);
        return (first..).take(count).collect();
    }
    let mut gaps: Vec<(u32, u32)> = Vec::new();
    let mut next = FIRST_SLOT;
    for &slot in used.iter() {
        if slot > next {
            gaps.push((next, slot));
        }
        next = next.max(slot + 1);
    }
    if let Some((first, _)) = gaps.iter().find(|(first, end)| (end - first) as usize >= count) {
        return (*first..).take(count).collect();
    }
    // Prefer one write behind the last used slot, if the file already has room there.
    if (end.saturating_sub(next)) as usize >= count {
        return (next..).take(count).collect();
    }
    gaps.into_iter().flat_map(|(first, end)| first..end).chain(next..).take(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_large_enough_gap_is_chosen() {
        let f = FIRST_SLOT;
        type Case<'a> = (&'a [u32], u32, usize, bool, &'a [u32]);
        let cases: [Case<'_>; 7] = [
            (&[], 0, 2, true, &[f, f + 1]),
            (&[f, f + 1], f + 2, 2, true, &[f + 2, f + 3]),
            (&[f + 2], f + 3, 2, true, &[f, f + 1]),
            (&[f + 1, f + 4], f + 5, 2, true, &[f + 2, f + 3]),
            (&[f + 1, f + 3], f + 4, 3, true, &[f, f + 2, f + 4]),
            (&[f + 1, f + 3], f + 9, 3, true, &[f + 4, f + 5, f + 6]),
            (&[f + 1, f + 3], f + 9, 2, false, &[f + 9, f + 10]),
        ];
        for (used, end, count, reuse, expected) in cases {
            assert_eq!(choose(&mut used.to_vec(), end, count, reuse), expected, "{used:?} {end} {count} {reuse}");
        }
    }

    proptest! {
        #[test]
        fn a_used_slot_is_never_chosen(
            used in proptest::collection::vec(FIRST_SLOT..FIRST_SLOT + 60, 0..40),
            end in 0u32..100,
            count in 0usize..30,
            reuse: bool,
        ) {
            let mut sorted = used.clone();
            let chosen = choose(&mut sorted, end, count, reuse);
            prop_assert_eq!(chosen.len(), count);
            prop_assert!(chosen.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(chosen.iter().all(|s| *s >= FIRST_SLOT && !used.contains(s)));
            prop_assert!(reuse || chosen.iter().all(|s| *s >= end));
        }
    }
}
