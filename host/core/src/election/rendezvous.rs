//! Assigns controllers to hosts by rendezvous hashing. Every host computes the same answer by itself, and a host that
//! joins or leaves moves only its own controllers.

use xxhash_rust::xxh3::xxh3_64;

/// The host that runs the controller; `None` without hosts.
pub fn assigned<'h>(controller: &str, hosts: impl Iterator<Item = &'h str>) -> Option<&'h str> {
    hosts.max_by_key(|host| (weight(controller, host), *host))
}

fn weight(controller: &str, host: &str) -> u64 {
    // Names have no zero byte.
    xxh3_64(&[controller.as_bytes(), &[0], host.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn all(hosts: &[String], controllers: usize) -> Vec<Option<&str>> {
        (0..controllers).map(|n| assigned(&format!("controller-{n}"), hosts.iter().map(String::as_str))).collect()
    }

    #[test]
    fn without_hosts_no_host_is_assigned() {
        assert_eq!(assigned("website", std::iter::empty()), None);
    }

    #[test]
    fn controllers_are_spread_evenly() {
        for hosts in [2, 3, 5] {
            let hosts: Vec<_> = (0..hosts).map(|n| format!("host-{n}")).collect();
            let mut counts = BTreeMap::new();
            for host in all(&hosts, 1000) {
                *counts.entry(host).or_insert(0) += 1;
            }
            let fair = 1000 / hosts.len();
            assert!(counts.values().all(|n| (fair * 3 / 4..fair * 5 / 4).contains(n)), "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_leaving_host_moves_only_its_own_controllers(
            hosts in proptest::collection::btree_set("[a-z]{1,8}", 1..8), which in 0usize..8, turn in any::<bool>(),
        ) {
            let mut before: Vec<String> = hosts.into_iter().collect();
            if turn {
                before.reverse();
            }
            let gone = before[which % before.len()].clone();
            let after: Vec<String> = before.iter().filter(|host| **host != gone).cloned().collect();
            for (old, new) in all(&before, 50).into_iter().zip(all(&after, 50)) {
                prop_assert!(old == Some(&*gone) || old == new, "{old:?} became {new:?}");
            }
        }
    }
}
