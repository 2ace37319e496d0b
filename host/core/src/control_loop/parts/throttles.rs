//! How much a controller has used of its limits.

use crate::limits::cpu_share::CpuShare;
use crate::limits::liveness::Liveness;
use crate::limits::log_rate::LogThrottle;

/// How much a controller has used of its limits.
#[derive(Default)]
pub(in crate::control_loop) struct Throttles {
    pub cpu_share: CpuShare,
    /// Only while something goes wrong.
    pub liveness: Option<Box<Liveness>>,
    pub lines: LogThrottle,
}

impl Throttles {
    pub fn ram_bytes(&self) -> usize {
        self.liveness.as_ref().map_or(0, |liveness| liveness.bytes())
    }
}
