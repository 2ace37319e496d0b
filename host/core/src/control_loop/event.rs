//! What happens to a host: the inputs of the control loop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::parts::{InstanceFacts, Recovered, SaveReason, SlotId};
use super::settings::Settings;
use crate::election::Fence;
use crate::reply::Reply;
use crate::step::StepReport;
use crate::watch::WatchEvent;

/// The clocks, read once for everything that is decided at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// The host's clock: time since it was started. Never goes back.
    pub host: Duration,
    /// The machine's clock with its sleep included, which leases are measured by.
    pub boot: Duration,
}

/// Something has happened.
#[derive(Debug)]
pub enum HostEvent {
    /// A watch has news.
    Watch(WatchEvent),
    /// A worker is back from a step.
    Stepped(Box<Stepped>),
    /// Pieces of the answer to a request.
    Replies {
        /// Whose request it is.
        slot: SlotId,
        /// The guest's number of the request.
        call: u64,
        /// Tells this request from an earlier one with the same number.
        token: u64,
        /// In order.
        replies: Vec<Reply>,
    },
    /// A worker has written an instance to disk, or failed to.
    Saved(Box<Saved>),
    /// A snapshot has been made durable, or that failed.
    Synced {
        /// Whose snapshot it is.
        slot: SlotId,
        /// Why it may not survive a crash of the machine.
        result: io::Result<()>,
    },
    /// The kernel is short of memory.
    MemoryPressure,
    /// This host runs a controller from now on.
    Gained(Box<Gained>),
    /// Another host is to run a controller: end what it does, then let go.
    GiveUp {
        /// The controller.
        slot: SlotId,
    },
    /// A controller's lease is lost.
    LeaseLost {
        /// The controller.
        slot: SlotId,
    },
    /// The owner has changed the settings.
    Settings(Settings),
    /// The host ends: every instance is suspended.
    Shutdown,
}

/// What a worker did with a batch of events.
#[derive(Debug)]
pub struct Stepped {
    /// Whose instance it is.
    pub slot: SlotId,
    /// The host's clock when the step was ordered.
    pub stepped_at: Duration,
    /// It was suspended before.
    pub was_suspended: bool,
    /// How many events were delivered.
    pub events: usize,
    /// The instance as it is now; `None`: it is lost.
    pub instance: Option<InstanceFacts>,
    /// What the steps emitted, and what failed.
    pub report: StepReport,
}

/// What came of writing an instance to disk.
#[derive(Debug)]
pub struct Saved {
    /// Whose instance it is.
    pub slot: SlotId,
    /// Why it was written.
    pub reason: SaveReason,
    /// The instance if it is still in memory.
    pub instance: Option<InstanceFacts>,
    /// What was written.
    pub result: io::Result<Written>,
    /// How long that took.
    pub took: Duration,
}

/// Sizes of a snapshot, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Of pages that differ from the base image.
    pub dirty_bytes: u64,
    /// Written this time.
    pub written_bytes: u64,
    /// What the snapshot takes on disk.
    pub disk_bytes: u64,
}

/// A controller that this host runs from now on.
#[derive(Debug)]
pub struct Gained {
    /// The controller.
    pub slot: SlotId,
    /// Holds as long as the lease does.
    pub fence: Arc<Fence>,
    /// How often the controller has moved between hosts.
    pub transitions: i32,
    /// What it continues with.
    pub recovered: Recovered,
}
