//! What a controller continues with on this host.

use std::time::Duration;

use wasmop_policy::Predictor;

use crate::control_loop::host_state::HostState;
use crate::controller::Controller;
use crate::watch::WatchPosition;

/// What a controller continues with: state, predictor, snapshot, and what it has seen of its watches.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Queues, tasks and deadlines.
    pub controller: Controller,
    /// What is known of when it is needed.
    pub predictor: Predictor,
    /// Bytes of its snapshot; `None`: it starts from the base image.
    pub snapshot_bytes: Option<u64>,
    /// How much of its watches it has seen.
    pub places: Vec<WatchPosition>,
}

impl Recovered {
    /// A controller without a snapshot. `clock`: what a fresh instance's monotonic clock shows, in nanoseconds.
    pub fn fresh(now: Duration, clock: u64) -> Recovered {
        Recovered { controller: Controller::new(now, clock), ..Recovered::default() }
    }

    /// A controller with a snapshot. `monotonic_ns`: the instance's clock when it was written, `elapsed`: the time
    /// since; `startup`: fingerprint of what the program is started with now.
    ///
    /// # Errors
    ///
    /// Says why the snapshot cannot be continued from.
    pub fn from_snapshot(
        state: HostState,
        snapshot_bytes: u64,
        (monotonic_ns, elapsed): (u64, Duration),
        startup: u64,
        now: Duration,
    ) -> Result<Recovered, String> {
        // A program reads these once, and what it has made of them is in its memory.
        if state.startup != startup {
            return Err("environment, arguments or log level have changed".into());
        }
        let clock = monotonic_ns.wrapping_add(elapsed.as_nanos() as u64);
        let controller = Controller::restore(state.controller, now, clock, elapsed)?;
        Ok(Recovered {
            controller,
            predictor: state.predictor,
            snapshot_bytes: Some(snapshot_bytes),
            places: state.places,
        })
    }
}
