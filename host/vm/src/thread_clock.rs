//! The CPU clock of the thread that runs a step.

use std::time::Duration;

/// CPU time that this thread has used since it started.
pub fn thread_cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
