//! What the control loop wants done: its outputs. The shell carries them out in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmop_package::manifest::{ControllerSpec, WatchSpec};
use wasmop_policy::Trigger;

use super::host_state::HostState;
use super::parts::{SaveReason, SlotId};
use crate::controller::Outcome;
use crate::election::Fence;
use crate::limits::problem::Problem;
use crate::permissions::external::Contact;
use crate::service_account::ServiceAccount;
use crate::step::Event;
use crate::watch::WatchId;
use crate::work_queue::Key;

/// Something is to be done outside of the loop.
#[derive(Debug)]
pub enum HostEffect {
    /// Resume the instance if it is suspended and deliver events to it. Answered by `HostEvent::Stepped`.
    Step(Box<Step>),
    /// Write the instance to disk. Answered by `HostEvent::Saved`.
    Save(Box<Save>),
    /// Suspend an instance of the soft tier within the process. Answered by `HostEvent::Saved`.
    SuspendSoftly {
        /// The controller.
        slot: SlotId,
        /// Why.
        reason: SaveReason,
    },
    /// Drop the instance, and forget the snapshot that it came from: the next one starts from the base image.
    Discard {
        /// The controller.
        slot: SlotId,
    },
    /// Make a request. Answered by `HostEvent::Replies`.
    ///
    /// An `Abort` of it may follow in the same list. Then the controller may have no credit any more, and nothing is to be
    /// sent.
    Send(Box<Send>),
    /// Cancel a request.
    Abort {
        /// The controller.
        slot: SlotId,
        /// The guest's number of the request.
        call: u64,
    },
    /// Write a Kubernetes Event.
    Publish(Box<Notice>),
    /// An idle gap has ended: a line for the activity trace.
    RecordActivity {
        /// The controller.
        slot: SlotId,
        /// On the host's clock.
        at: Duration,
        /// What ended the gap.
        trigger: Trigger,
    },
    /// Something to be told to OpenTelemetry.
    Span(SpanEvent),
    /// Give back memory that is kept for the next resumes.
    ClearMemoryPool,
    /// Nothing is left of the controller here: tell the election.
    GivenUp {
        /// The controller.
        slot: SlotId,
    },
}

/// An order to step an instance.
#[derive(Debug)]
pub struct Step {
    /// The controller.
    pub slot: SlotId,
    /// `None`: only resume it.
    pub events: Option<Vec<Event>>,
    /// The host's clock.
    pub at: Duration,
    /// The instance's monotonic clock, in nanoseconds.
    pub monotonic_ns: u64,
    /// Tasks that the guest is working on.
    pub tasks: Vec<u64>,
    /// How often the instance has registered.
    pub registered: u32,
}

/// An order to write an instance to disk.
#[derive(Debug)]
pub struct Save {
    /// The controller.
    pub slot: SlotId,
    /// Why.
    pub reason: SaveReason,
    /// The instance's monotonic clock, in nanoseconds.
    pub monotonic_ns: u64,
    /// The host's half of the snapshot.
    pub state: HostState,
    /// Watches whose journals are to be written first: the snapshot names places in them.
    pub watches: Vec<WatchId>,
    /// How often the instance has registered.
    pub registered: u32,
}

/// An order to make a request.
#[derive(Debug)]
pub struct Send {
    /// The controller.
    pub slot: SlotId,
    /// The guest's number of the request.
    pub call: u64,
    /// The guest's task that makes it; 0 if none.
    pub task: u64,
    /// Tells it from another request with the same number.
    pub token: u64,
    /// It lasts (a watch, a followed log), so it takes no connection from others.
    pub is_stream: bool,
    /// If it is a watch, the host keeps it up: it hides bookmarks and reconnects.
    pub keeps_up: bool,
    /// Nothing is sent once this no longer holds.
    pub fence: Option<Arc<Fence>>,
    /// As whom; `None`: as the host.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// Where to.
    pub destination: Destination,
    /// The HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Lines `name: value\n`.
    pub headers: String,
    /// The request's body.
    pub body: Bytes,
    /// Most bytes of the answer's body, unless it is a stream.
    pub max_bytes: u64,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To the API server.
    ApiServer,
    /// To an external host.
    External(Contact),
}

/// A Kubernetes Event to write.
#[derive(Debug)]
pub struct Notice {
    /// The controller that it is about.
    pub controller: Arc<str>,
    /// What is wrong.
    pub problem: Problem,
    /// The object that was being reconciled: its kind and key. `None`: nothing in particular.
    pub object: Option<(Box<WatchSpec>, Key)>,
    /// For people.
    pub message: String,
}

/// Something that OpenTelemetry is told. Tasks are those of the slot's controller.
#[derive(Debug)]
pub enum SpanEvent {
    /// A reconcile begins, or continues after a restart of the host.
    Begin(Box<ReconcileBegun>),
    /// Something happened in a reconcile that took no time.
    Event {
        /// The controller.
        slot: SlotId,
        /// The reconcile.
        task: u64,
        /// What happened.
        name: &'static str,
        /// Of the request it is about.
        method: String,
        /// The same; `None` if it is not to be told.
        path: Option<String>,
    },
    /// Why a reconcile is about to be cancelled.
    Blame {
        /// The controller.
        slot: SlotId,
        /// The reconcile.
        task: u64,
        /// One of a fixed set.
        cause: &'static str,
        /// For people.
        message: String,
    },
    /// A reconcile has ended.
    End {
        /// The controller.
        slot: SlotId,
        /// The reconcile.
        task: u64,
        /// How.
        outcome: Outcome,
    },
    /// The instance is lost with everything it was working on.
    Lost {
        /// The controller.
        slot: SlotId,
        /// Why.
        reason: String,
    },
    /// The controller no longer runs here.
    Stopped {
        /// The controller.
        slot: SlotId,
    },
}

/// A reconcile that begins.
#[derive(Debug)]
pub struct ReconcileBegun {
    /// The controller.
    pub slot: SlotId,
    /// The reconcile.
    pub task: u64,
    /// What registered it.
    pub registration: Arc<ControllerSpec>,
    /// `namespace/name`, or `name`.
    pub object: Key,
    /// On the host's clock.
    pub at: Duration,
    /// 1, and one more for each failure in a row.
    pub attempt: u32,
    /// How long it was ready; `None` if it continues from before a restart of the host.
    pub waited: Option<Duration>,
}
