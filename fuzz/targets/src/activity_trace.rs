//! Activity traces: parses CSV and replays small traces.

use wasmop_policy::Policy;
use wasmop_policy::activity::ActivityTrace;
use wasmop_policy::simulation::{Profile, Strategy, simulate};

/// Replays at most this many arrivals per input.
const MAX_ARRIVALS: usize = 64;

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(trace) = ActivityTrace::parse(text) else { return };
    let arrivals: usize = trace.controllers.values().map(Vec::len).sum();
    assert!(arrivals >= 2);
    assert!(trace.controllers.values().all(|arrivals| arrivals.is_sorted()));
    if arrivals > MAX_ARRIVALS {
        return;
    }
    for strategy in [Strategy::Policy(Policy::Adaptive), Strategy::Policy(Policy::Immediate), Strategy::Smoothing] {
        let outcome = simulate(&trace, strategy, &Profile::Go.setup());
        assert!(outcome.cost.is_finite() && outcome.on_demand_resumes <= outcome.resumes);
    }
}
