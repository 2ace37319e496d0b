//! Effects of a loop under test, each looked at once.

use super::super::{HostEffect, Notice, Send, SlotId, SpanEvent};
use super::harness::Harness;

impl Harness {
    fn take_effects<T>(&mut self, select: impl Fn(&HostEffect) -> bool, map: impl Fn(HostEffect) -> T) -> Vec<T> {
        let (selected, rest) = std::mem::take(&mut self.effects).into_iter().partition(|effect| select(effect));
        self.effects = rest;
        let selected: Vec<HostEffect> = selected;
        selected.into_iter().map(map).collect()
    }

    /// Requests that were sent since the last call.
    pub fn sends(&mut self) -> Vec<Send> {
        self.take_effects(
            |effect| matches!(effect, HostEffect::Send(_)),
            |effect| match effect {
                HostEffect::Send(send) => *send,
                _ => unreachable!(),
            },
        )
    }

    /// Numbers of the calls that were sent since the last call of this.
    pub fn sent(&mut self) -> Vec<u64> {
        self.sends().iter().map(|send| send.call).collect()
    }

    /// The only request that was sent.
    pub fn send(&mut self) -> Send {
        let mut sends = self.sends();
        assert_eq!(sends.len(), 1, "{sends:?}");
        sends.remove(0)
    }

    /// Numbers of calls whose requests were aborted.
    pub fn aborted(&mut self) -> Vec<u64> {
        self.take_effects(
            |effect| matches!(effect, HostEffect::Abort { .. }),
            |effect| match effect {
                HostEffect::Abort { call, .. } => call,
                _ => unreachable!(),
            },
        )
    }

    /// The same with the slots, and still to be looked at.
    pub fn aborts(&self) -> Vec<(SlotId, u64)> {
        let abort = |effect: &HostEffect| match effect {
            HostEffect::Abort { slot, call } => Some((*slot, *call)),
            _ => None,
        };
        self.effects.iter().filter_map(abort).collect()
    }

    pub fn discarded(&mut self) -> usize {
        self.take_effects(|effect| matches!(effect, HostEffect::Discard { .. }), drop).len()
    }

    pub fn given_up(&mut self) -> Vec<SlotId> {
        self.take_effects(
            |effect| matches!(effect, HostEffect::GivenUp { .. }),
            |effect| match effect {
                HostEffect::GivenUp { slot } => slot,
                _ => unreachable!(),
            },
        )
    }

    /// Events for owners.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.take_effects(
            |effect| matches!(effect, HostEffect::Publish(_)),
            |effect| match effect {
                HostEffect::Publish(notice) => *notice,
                _ => unreachable!(),
            },
        )
    }

    /// Reasons of the Events for owners.
    pub fn reasons(&mut self) -> Vec<&'static str> {
        self.notices().iter().map(|notice| notice.problem.reason()).collect()
    }

    pub fn spans(&mut self) -> Vec<SpanEvent> {
        self.take_effects(
            |effect| matches!(effect, HostEffect::Span(_)),
            |effect| match effect {
                HostEffect::Span(span) => span,
                _ => unreachable!(),
            },
        )
    }
}
