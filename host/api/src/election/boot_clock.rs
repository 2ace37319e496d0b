//! The clock of the election, which also runs while the process is stopped or the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmop_core::election::Fence;

/// Time since the machine was booted, including sleep (`CLOCK_BOOTTIME`).
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Whether the fence holds now.
pub fn holds_now(fence: &Fence) -> bool {
    fence.holds(now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_advances() {
        let before = now();
        assert!(before > Duration::ZERO && now() >= before);
    }
}
