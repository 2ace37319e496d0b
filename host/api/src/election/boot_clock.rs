//! The clock of the election: it goes on while the process is stopped and while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmop_core::election::Fence;

/// This machine's clock since it was started, its sleep included (`CLOCK_BOOTTIME`).
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Whether the fence holds at this moment.
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
