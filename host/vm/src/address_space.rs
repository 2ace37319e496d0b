//! The limit of this process's address space (`RLIMIT_AS`, `ulimit -v`), and how many instances fit into it.
//!
//! An instance reserves the whole 4 GiB that its memory can grow to: compiled code then needs no bounds checks. The
//! reservation costs no memory, but it counts against this limit.

use rustix::process::{Resource, getrlimit};

use crate::memory::RESERVED;

/// Kept for everything else: code, stacks of threads, the allocator, files that are mapped.
const HEADROOM: u64 = 1 << 30;

/// A limited address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Bytes.
    pub limit: u64,
    /// Bytes that are taken already.
    pub used: u64,
    /// The hard limit is set, too: this process and its shell cannot raise it.
    pub is_hard: bool,
}

impl AddressSpace {
    /// That of this process; `None` if it is unlimited.
    pub fn limited() -> Option<AddressSpace> {
        let limits = getrlimit(Resource::As);
        let limit = limits.current?;
        let used = used_bytes();
        Some(AddressSpace { limit, used, is_hard: limits.maximum.is_some() })
    }

    /// Instances that can be in memory at once.
    pub fn instances(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_add(HEADROOM)) / RESERVED as u64
    }
}

/// Bytes of this process's address space; 0 if that cannot be found out.
fn used_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Why an instance cannot be in memory.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the address space of this process is limited to {} (ulimit -v), and {}; each reserves {}, whatever memory it uses\n\
     help: {}; --memory-budget limits memory instead",
    gib(.0.limit), fits(.0.instances()), gib(RESERVED as u64), remedy(.0.is_hard)
)]
pub struct AddressSpaceError(pub AddressSpace);

fn remedy(is_hard: bool) -> &'static str {
    match is_hard {
        true => {
            "run it from a shell or unit without the limit (LimitAS=infinity in a systemd unit): once set by `ulimit -v`, it cannot be raised"
        }
        false => "run it with `ulimit -v unlimited`, or LimitAS=infinity in its systemd unit",
    }
}

fn fits(instances: u64) -> String {
    match instances {
        0 => "no controller fits into it".into(),
        1 => "one controller fits into it".into(),
        n => format!("{n} controllers fit into it"),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_fit_as_often_as_their_reservation_does_beside_the_headroom() {
        let reserved = RESERVED as u64;
        for (limit, used, instances) in [
            (0, 0, 0),
            (HEADROOM + reserved - 1, 0, 0),
            (HEADROOM + reserved, 0, 1),
            (HEADROOM + reserved, 1, 0),
            (HEADROOM + 3 * reserved + 5, 5, 3),
            (u64::MAX, u64::MAX, 0),
        ] {
            assert_eq!(AddressSpace { limit, used, is_hard: false }.instances(), instances, "{limit} {used}");
        }
    }

    #[test]
    fn the_error_names_the_limit_and_a_remedy() {
        // What `ulimit -v` has set in a shell cannot be unset there.
        for (is_hard, remedy) in [
            (false, "\nhelp: run it with `ulimit -v unlimited`"),
            (true, "\nhelp: run it from a shell or unit without"),
        ] {
            let error = AddressSpaceError(AddressSpace { limit: 8 << 30, used: 0, is_hard }).to_string();
            for part in ["limited to 8.0 GiB", "ulimit -v", "one controller fits", remedy] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
