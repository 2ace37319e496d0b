//! Chooses the instances to suspend when the host exceeds its memory budget.

/// An idle resident instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<Id> {
    /// Identifies the instance.
    pub id: Id,
    /// Bytes that a suspend frees.
    pub resident_bytes: u64,
    /// The result of [`crate::Predictor::expected_loss`], in byte-seconds.
    pub expected_loss: f64,
    /// The policy is `never`. Such an instance is chosen only if the others do not suffice.
    pub reluctant: bool,
}

/// The instances to suspend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victims<Id> {
    /// In the order in which to suspend them.
    pub ids: Vec<Id>,
    /// Bytes still missing after suspending all of them.
    pub short_by: u64,
}

/// Chooses instances to suspend so that at least `needed` bytes are freed.
///
/// Instances with the smallest expected loss per byte are chosen first. Afterward, instances that are not needed to
/// reach the goal are spared, those with the greatest expected loss first.
pub fn victims<Id: Copy + Ord>(candidates: &[Candidate<Id>], needed: u64) -> Victims<Id> {
    let mut ordered: Vec<&Candidate<Id>> = candidates.iter().filter(|c| c.resident_bytes > 0).collect();
    let per_byte = |c: &Candidate<Id>| c.expected_loss / c.resident_bytes as f64;
    ordered.sort_by(|a, b| {
        let loss = per_byte(a).total_cmp(&per_byte(b));
        a.reluctant.cmp(&b.reluctant).then(loss).then(a.id.cmp(&b.id))
    });
    let mut freed = 0u64;
    let mut chosen = Vec::new();
    for candidate in ordered {
        if freed >= needed {
            break;
        }
        freed = freed.saturating_add(candidate.resident_bytes);
        chosen.push(candidate);
    }
    let mut by_loss: Vec<&Candidate<Id>> = chosen.clone();
    by_loss.sort_by(|a, b| b.reluctant.cmp(&a.reluctant).then(b.expected_loss.total_cmp(&a.expected_loss)));
    for candidate in by_loss {
        if freed.saturating_sub(candidate.resident_bytes) >= needed && freed > needed {
            freed -= candidate.resident_bytes;
            chosen.retain(|c| c.id != candidate.id);
        }
    }
    Victims { ids: chosen.iter().map(|c| c.id).collect(), short_by: needed.saturating_sub(freed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: u32, resident_bytes: u64, expected_loss: f64) -> Candidate<u32> {
        Candidate { id, resident_bytes, expected_loss, reluctant: false }
    }

    #[test]
    fn the_smallest_loss_per_byte_is_chosen_first() {
        let candidates = [candidate(1, 10, 50.0), candidate(2, 10, 5.0), candidate(3, 100, 60.0)];
        assert_eq!(victims(&candidates, 5).ids, [2]);
        assert_eq!(victims(&candidates, 105).ids, [2, 3]);
        assert_eq!(victims(&candidates, 115), Victims { ids: vec![2, 3, 1], short_by: 0 });
        assert_eq!(victims(&candidates, 130).short_by, 10);
        assert_eq!(victims(&candidates, 0).ids, []);
    }

    #[test]
    fn an_instance_that_is_not_needed_is_spared() {
        let candidates = [candidate(1, 10, 1.0), candidate(2, 100, 20.0)];
        assert_eq!(victims(&candidates, 50).ids, [2]);
    }

    #[test]
    fn an_instance_with_policy_never_is_chosen_last() {
        let never = Candidate { reluctant: true, ..candidate(1, 1000, 0.0) };
        assert_eq!(victims(&[never, candidate(2, 10, 99.0)], 10).ids, [2]);
        assert_eq!(victims(&[never, candidate(2, 10, 99.0)], 11).ids, [1]);
    }

    proptest! {
        #[test]
        fn enough_is_freed_whenever_there_is_enough(
            sizes in proptest::collection::vec((0..1000u64, 0.0..100.0f64, any::<bool>()), 0..20), needed in 0..5000u64,
        ) {
            let candidates: Vec<_> = sizes.iter().enumerate().map(|(n, (bytes, loss, reluctant))| Candidate {
                id: n as u32, resident_bytes: *bytes, expected_loss: *loss, reluctant: *reluctant,
            }).collect();
            let Victims { ids, short_by } = victims(&candidates, needed);
            let total: u64 = candidates.iter().map(|c| c.resident_bytes).sum();
            let freed: u64 = ids.iter().map(|id| candidates[*id as usize].resident_bytes).sum();
            prop_assert_eq!(short_by, needed.saturating_sub(total));
            prop_assert!(freed + short_by >= needed);
            // Every chosen instance is needed.
            for id in ids {
                prop_assert!(freed - candidates[id as usize].resident_bytes < needed);
            }
        }
    }
}
