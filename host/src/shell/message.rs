//! Messages from threads and tasks to the shell, and how they become events of the control loop.

use std::io;
use std::time::{Duration, Instant};

use wasmop_core::control_loop::{HostEvent, SaveReason, SlotId};
use wasmop_core::election::News;
use wasmop_core::reply::Reply;
use wasmop_snapshot::SavedSnapshot;
use wasmop_vm::instance::{Instance, SoftSuspension};
use wasmop_vm::step_runner::StepJobReport;

use super::Shell;
use crate::status::Question;

/// A message to the shell.
pub(crate) enum Message {
    /// A worker has finished a step.
    Stepped { slot: SlotId, stepped_at: Duration, report: StepJobReport, was_suspended: bool, events: usize },
    /// Pieces of the response to a request.
    Replies { slot: SlotId, call: u64, token: u64, replies: Vec<Reply> },
    /// A worker has written an instance to disk; `instance` is `None` if it was suspended.
    Saved { slot: SlotId, instance: Option<Box<Instance>>, result: io::Result<SavedSnapshot>, written: WrittenAt },
    /// A worker has suspended an instance of the soft tier within the process.
    SoftSuspended { slot: SlotId, instance: Box<Instance>, result: io::Result<SoftSuspension>, written: WrittenAt },
    /// A snapshot is durable, or could not be made so.
    Synced { slot: SlotId, result: io::Result<()> },
    /// The kernel is short of memory.
    MemoryPressure,
    /// The status server asks a question.
    Question(Question),
    /// The election acquires or loses a controller.
    Election(News),
}

/// Why and when an instance was written.
#[derive(Clone, Copy)]
pub(crate) struct WrittenAt {
    pub reason: SaveReason,
    pub begun: Instant,
    pub took: Duration,
}

impl Shell {
    /// Handles a message: takes instances back, and passes the event to the loop.
    pub(super) fn receive(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Stepped { slot, stepped_at, report, was_suspended, events } => {
                self.on_stepped(slot, stepped_at, report, was_suspended, events);
            }
            Message::Replies { slot, call, token, replies } => {
                self.requests.on_replies(slot, call, token, &replies);
                self.control.take(HostEvent::Replies { slot, call, token, replies }, now);
            }
            Message::Saved { slot, instance, result, written } => self.on_saved(slot, instance, result, written),
            Message::SoftSuspended { slot, instance, result, written } => {
                self.on_soft_suspended(slot, instance, result, written);
            }
            Message::Synced { slot, result } => self.control.take(HostEvent::Synced { slot, result }, now),
            Message::MemoryPressure => self.control.take(HostEvent::MemoryPressure, now),
            Message::Question(question) => self.answer(question),
            Message::Election(news) => self.on_election(news),
        }
    }
}
