//! Where a controller's instance is.

use serde::{Deserialize, Serialize};

/// Where a controller's instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In memory, with nothing to do at this moment.
    Resident,
    /// On disk, or not started yet.
    Suspended,
    /// Running a step, or being suspended.
    Busy,
    /// Not here: another host runs it, or nobody yet.
    Standby,
    /// Nowhere: its package can't be run.
    Failed,
}

impl State {
    pub const ALL: [State; 5] = [State::Resident, State::Suspended, State::Busy, State::Standby, State::Failed];

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
