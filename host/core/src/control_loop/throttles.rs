//! Limits that hold a controller back: its share of the CPU, the time of a reconcile, and lines of log.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::parts::{Phase, SlotId};
use super::slot::Slot;
use super::{ControlLoop, Credit, Environment, HostEffect, SpanEvent};
use crate::guest_log::{self, is_printed};
use crate::limits::cpu_share::Held;
use crate::limits::log_rate::LogVerdict;
use crate::limits::problem::{Limit, Problem};
use crate::limits::self_trigger::Loop;
use crate::step::{Event, EventKind, LogLine};

/// What a line of the host's log has besides texts of the guest: time, keys, names.
const LINE_BYTES: usize = 200;

impl<C: Credit> Slot<C> {
    /// When something is to be done because of a limit.
    pub fn limits_wake(&self) -> Option<Duration> {
        let limits = self.limits();
        let is_at_home = !matches!(self.phase, Phase::Busy);
        let overdue = is_at_home.then(|| self.controller.next_timeout(limits.reconcile_timeout())).flatten();
        self.requests.waiting.next_at(limits).into_iter().chain(overdue).min()
    }

    /// Whether a line of so many bytes may be logged, and whether it is the first one that may not.
    fn log_line(&mut self, bytes: usize, now: Duration) -> (bool, bool) {
        let limits = &self.package.limits;
        match self.throttles.lines.line(limits, bytes, now) {
            LogVerdict::Dropped => {
                self.counters.limit_hit(Limit::LogRate);
                (false, !self.throttles.lines.has_dropped_before())
            }
            LogVerdict::Written { dropped } => {
                if dropped > 0 {
                    tracing::warn!(
                        controller = &*self.name,
                        lines = dropped,
                        "lines of the controller's log were dropped: it may write {} bytes a second",
                        limits.log_bytes_per_second
                    );
                }
                (true, false)
            }
        }
    }

    /// Writes lines of the guest to the host's log, as detailed as they may be. `default_level`: for a controller
    /// without a level of its own. Returns whether the first line that is too much is among them.
    pub fn write_logs(&mut self, logs: &[LogLine], default_level: Option<LevelFilter>, now: Duration) -> bool {
        let level = self.startup.passes(default_level);
        // The level of a printed line is in its text.
        let passes = |line: &LogLine| line.level <= level || is_printed(line) && level != LevelFilter::OFF;
        let mut is_news = false;
        for line in logs.iter().filter(|line| passes(line)) {
            let (may, is_first) = self.log_line(line.bytes(), now);
            is_news |= is_first;
            if may {
                guest_log::read(line).iter().filter(|line| line.level <= level).for_each(|line| line.emit(&self.name));
            }
        }
        is_news
    }
}

impl<E: Environment> ControlLoop<E> {
    /// Whether the host may log a line that a guest causes: it counts as one of the guest's own. `bytes`: of what the
    /// guest decides about.
    pub(super) fn may_log(&mut self, id: SlotId, bytes: usize) -> bool {
        let (may, is_first) = self.slots[id].log_line(LINE_BYTES + bytes, self.now.host);
        if is_first {
            self.report_log_limit(id);
        }
        may
    }

    /// The first line was dropped.
    pub(super) fn report_log_limit(&mut self, id: SlotId) {
        let per_second = self.slots[id].limits().log_bytes_per_second;
        let message = format!("writes more than {per_second} bytes of log a second: lines are dropped");
        self.report_problem(id, Problem::Limit(Limit::LogRate), None, &message);
    }

    /// Cancels reconciles and map tasks that have taken too long.
    pub(super) fn end_overdue(&mut self, id: SlotId) {
        let now = self.now.host;
        let mut has_ended = false;
        loop {
            let slot = &mut self.slots[id];
            if matches!(slot.phase, Phase::Busy) || self.is_shutting_down {
                return;
            }
            let timeout = slot.limits().reconcile_timeout();
            let Some(task) = slot.controller.overdue(timeout, now) else { break };
            let object = slot.controller.task_object(task);
            // A task that waits for an answer says nothing about the instance.
            if !slot.controller.is_waiting(task) {
                slot.note_failure(slot.controller.blamed(task), None, now);
            }
            slot.counters.limit_hit(Limit::ReconcileTimeout);
            let what = if object.is_some() { "reconcile" } else { "map function" };
            let message = format!("the {what} was cancelled: it took longer than {timeout:?}");
            if self.is_traced {
                let blame = SpanEvent::Blame { slot: id, task, cause: "timeout", message: message.clone() };
                self.effects.push(HostEffect::Span(blame));
            }
            for effect in self.slots[id].controller.time_out(task, now) {
                self.on_effect(id, effect);
            }
            self.report_problem(id, Problem::Limit(Limit::ReconcileTimeout), object, &message);
            has_ended = true;
        }
        if has_ended {
            self.check_liveness(id);
        }
    }

    /// Until when a controller with something to do is held back; `None`: it may run.
    pub(super) fn held_back(&mut self, id: SlotId) -> Option<Duration> {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        if !slot.controller.is_runnable(now) {
            return None;
        }
        let limits = &slot.package.limits;
        let cpu_share = &mut slot.throttles.cpu_share;
        let was_waiting = cpu_share.is_waiting();
        let Some(held) = cpu_share.held(limits, now) else {
            if let Some((time, Held::CpuShare(_))) = cpu_share.runs(now) {
                slot.counters.throttled(Limit::CpuShare, time);
            }
            return None;
        };
        if let (Held::CpuShare(_), false) = (held, was_waiting) {
            slot.counters.limit_hit(Limit::CpuShare);
            let share = limits.cpu_share_millis;
            let message = format!("has used more than its share of the CPU, {share}m of a core: it is held back");
            self.report_problem(id, Problem::Limit(Limit::CpuShare), None, &message);
        }
        Some(held.until())
    }

    /// Reports reconciles in a batch that are caused by nothing but the reconcile before.
    pub(super) fn report_loops(&mut self, id: SlotId, events: &[Event]) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let Some(triggers) = &mut slot.requests.self_triggers else { return };
        let reconciles = events.iter().filter(|event| event.kind == EventKind::Reconcile);
        let objects = reconciles.filter_map(|event| slot.controller.task_object(event.task));
        let loops: Vec<Loop> = objects.filter_map(|object| triggers.began(&object, now)).collect();
        for found in loops {
            let registration = self.slots[id].controller.registration(found.object.0);
            let remedy = registration.map(|registration| found.remedy(&registration.spec)).unwrap_or_default();
            let Loop { object, streak, lasts, target } = found;
            let message = format!(
                "its reconciles cause each other, {streak} in a row within {lasts:.1?}: each writes {target}, whose \
                 change has it reconciled again; {remedy}"
            );
            self.report_problem(id, Problem::SelfTriggered, Some(object), &message);
        }
    }
}
