//! Where a controller's instance is.

use serde::{Deserialize, Serialize};

/// Where a controller's instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In memory and idle.
    Resident,
    /// On disk, or not started yet.
    Suspended,
    /// Running a step, or being suspended.
    Busy,
    /// Another host runs it, or none yet.
    Standby,
    /// The package cannot run.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [State; 5] = [State::Resident, State::Suspended, State::Busy, State::Standby, State::Failed];

    /// The name in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Resident => "resident",
            State::Suspended => "suspended",
            State::Busy => "busy",
            State::Standby => "standby",
            State::Failed => "failed",
        }
    }
}
