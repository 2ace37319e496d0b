//! The limit of this process's address space (`RLIMIT_AS`, `ulimit -v`), and how many instances fit.
//!
//! An instance reserves the 4 GiB that its memory can grow to, so that compiled code needs no bounds checks. The
//! reservation takes no memory, but it counts against this limit.

use rustix::process::{Resource, getrlimit};

use crate::memory::RESERVED;

/// Bytes left for everything else: code, thread stacks, the allocator, mapped files.
const HEADROOM: u64 = 1 << 30;

/// A limited address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// The limit, bytes.
    pub limit: u64,
    /// Bytes in use.
    pub used: u64,
    /// The hard limit is set too, so neither this process nor its shell can raise it.
    pub is_hard: bool,
}

impl AddressSpace {
    /// The address space of this process; `None` if it is unlimited.
    pub fn limited() -> Option<AddressSpace> {
        let limits = getrlimit(Resource::As);
        let limit = limits.current?;
        let used = used_bytes();
        Some(AddressSpace { limit, used, is_hard: limits.maximum.is_some() })
    }

    /// Number of instances that can be in memory at once.
    pub fn instances(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_add(HEADROOM)) / RESERVED as u64
    }
}

/// Bytes of this process's address space; 0 if unknown.
fn used_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// The limit of the address space leaves no room for an instance.
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
    fn instances_fit_by_their_reservation_beside_the_headroom() {
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
        // A shell cannot raise what `ulimit -v` has set in it.
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
