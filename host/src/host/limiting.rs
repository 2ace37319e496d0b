//! Who is held back: instances that use more than their share, requests above the rate, reconciles that
//! take too long, lines of log.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tracing::level_filters::LevelFilter;
use wasmop_core::limits::cpu_share::Held;
use wasmop_core::limits::disk_quota::OverQuota;
use wasmop_core::limits::log_rate::Line;
use wasmop_core::limits::problem::{Limit, Problem};
use wasmop_core::limits::request_rate::Next;
use wasmop_core::limits::self_trigger::Loop;
use wasmop_core::permissions::is_stream;
use wasmop_core::step::{Call, Event, EventKind, LogLine};

use super::{Host, Phase, Slot};

impl Slot {
    /// When something is to be done because of a limit.
    pub(super) fn limits_wake(&self) -> Option<Duration> {
        let limits = self.package.limits();
        let at_home = !matches!(self.phase, Phase::Busy);
        let overdue = at_home.then(|| self.controller.next_timeout(limits.reconcile_timeout())).flatten();
        self.waiting.next_at(limits).into_iter().chain(overdue).min()
    }

    /// Whether a line of so many bytes may be written, and whether it is the first one that may not.
    fn line(&mut self, bytes: usize, now: Duration) -> (bool, bool) {
        let limits = self.package.limits();
        match self.lines.line(limits, bytes, now) {
            Line::Dropped => {
                self.counters.limit_hit(Limit::LogRate);
                (false, !self.lines.has_dropped_before())
            }
            Line::Written { dropped } => {
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

    /// Writes lines of the guest to the host's log, as detailed as they may be. `default_level`: where nobody gave the
    /// controller a level. Returns whether the first line that is too much is among them.
    pub(super) fn write_logs(&mut self, logs: &[LogLine], default_level: Option<LevelFilter>, now: Duration) -> bool {
        let level = self.startup.passes(default_level);
        let mut is_news = false;
        for line in logs.iter().filter(|line| line.level <= level) {
            let (may, is_first) = self.line(line.bytes(), now);
            is_news |= is_first;
            if may {
                line.emit(&self.name);
            }
        }
        is_news
    }
}

/// What a line of the host has besides texts of the guest: time, keys, names.
const LINE_BYTES: usize = 200;

impl Host {
    /// Whether the host may write a line that is the guest's doing: it counts as one of the guest's own. `bytes`: of
    /// what the guest has a say in.
    pub(super) fn may_log(&mut self, index: u32, bytes: usize) -> bool {
        let now = self.now();
        let (may, is_first) = self.slots[index as usize].line(LINE_BYTES + bytes, now);
        if is_first {
            self.tell_log_limit(index);
        }
        may
    }

    /// The first line was dropped.
    pub(super) fn tell_log_limit(&mut self, index: u32) {
        let per_second = self.slots[index as usize].package.limits().log_bytes_per_second;
        let message = format!("writes more than {per_second} bytes of log a second: lines are dropped");
        self.tell(index, Problem::Limit(Limit::LogRate), None, &message);
    }

    /// Takes in a call: it is made when the controller's limits allow it.
    pub(super) fn limit_request(&mut self, index: u32, call: Call) {
        let slot = &mut self.slots[index as usize];
        let most = slot.package.limits().api_in_flight;
        let stream = call.target.is_empty() && is_stream(&call.method, &call.path);
        if stream && (slot.requests.values().filter(|r| r.stream).count() + slot.waiting.streams()) as u64 >= most {
            let why =
                format!("wasmop: {most} watches or logs are open, which is as many as limits.api-in-flight allows");
            self.refuse(index, call, why);
        } else {
            slot.waiting.push(call, stream);
        }
    }

    fn refuse(&mut self, index: u32, call: Call, why: String) {
        let slot = &mut self.slots[index as usize];
        slot.counters.limit_hit(Limit::RequestsInFlight);
        let object = slot.controller.task_object(call.task);
        slot.controller.answer(call.id, EventKind::Failed, 0, Bytes::from(why.clone()));
        self.trace_unsent(index, &call, "request refused");
        self.tell(index, Problem::Limit(Limit::RequestsInFlight), object, &why);
    }

    /// Makes as many of the calls that wait as may be made now.
    pub(super) fn make_requests(&mut self, index: u32) {
        let now = self.now();
        while !self.shutting_down {
            let slot = &mut self.slots[index as usize];
            if slot.waiting.is_empty() {
                return;
            }
            let limits = *slot.package.limits();
            let in_flight = slot.requests.values().filter(|r| !r.stream).count();
            let (next, over) = slot.waiting.next(&limits, in_flight, now);
            if let Some((limit, time)) = over {
                slot.counters.throttled(limit, time);
            }
            match next {
                Next::Make(call) => self.request(index, call),
                Next::Nothing => return,
                Next::Wait { limit, anew } => {
                    if anew {
                        slot.counters.limit_hit(limit);
                    }
                    // To be at the limit of what is under way is nothing unusual.
                    if anew && limit == Limit::RequestRate {
                        let message =
                            format!("makes more than {} requests a second: they wait", limits.api_requests_per_second);
                        self.tell(index, Problem::Limit(limit), None, &message);
                    }
                    return;
                }
            }
        }
    }

    /// Cancels reconciles and map tasks that have taken too long.
    pub(super) fn end_overdue(&mut self, index: u32) {
        let now = self.now();
        let mut has_ended = false;
        loop {
            let slot = &mut self.slots[index as usize];
            if matches!(slot.phase, Phase::Busy) || self.shutting_down {
                return;
            }
            let timeout = slot.package.limits().reconcile_timeout();
            let Some(task) = slot.controller.overdue(timeout, now) else { break };
            let object = slot.controller.task_object(task);
            // What waits for an answer says nothing about the instance.
            if !slot.controller.is_waiting(task) {
                slot.failed(slot.controller.blamed(task), None, now);
            }
            slot.counters.limit_hit(Limit::ReconcileTimeout);
            let what = if object.is_some() { "reconcile" } else { "map function" };
            let message = format!("the {what} was cancelled: it took longer than {timeout:?}");
            if let Some(traces) = &mut self.traces {
                traces.blame(index, task, "timeout", &message);
            }
            for effect in slot.controller.time_out(task, now) {
                self.on_effect(index, effect);
            }
            self.tell(index, Problem::Limit(Limit::ReconcileTimeout), object, &message);
            has_ended = true;
        }
        if has_ended {
            self.check_liveness(index);
        }
    }

    /// Until when a controller with something to do is held back; `None`: it may run.
    pub(super) fn held_back(&mut self, index: u32) -> Option<Duration> {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        if !slot.controller.is_runnable(now) {
            return None;
        }
        let was_waiting = slot.pace.is_waiting();
        let Some(held) = slot.pace.held(slot.package.limits(), now) else {
            if let Some((time, Held::CpuShare(_))) = slot.pace.runs(now) {
                slot.counters.throttled(Limit::CpuShare, time);
            }
            return None;
        };
        if let (Held::CpuShare(_), false) = (held, was_waiting) {
            slot.counters.limit_hit(Limit::CpuShare);
            let share = slot.package.limits().cpu_share_millis;
            let message = format!("has used more than its share of the CPU, {share}m of a core: it is held back");
            self.tell(index, Problem::Limit(Limit::CpuShare), None, &message);
        }
        Some(held.until())
    }

    /// Tells of reconciles in a batch that are caused by nothing but the reconcile before.
    pub(super) fn tell_of_loops(&mut self, index: u32, events: &[Event]) {
        let now = self.now();
        let slot = &mut self.slots[index as usize];
        let Some(triggers) = &mut slot.self_triggers else { return };
        let reconciles = events.iter().filter(|event| event.kind == EventKind::Reconcile);
        let objects = reconciles.filter_map(|event| slot.controller.task_object(event.task));
        let loops: Vec<Loop> = objects.filter_map(|object| triggers.began(&object, now)).collect();
        for found in loops {
            let slot = &self.slots[index as usize];
            let remedy =
                slot.controller.registration(found.object.0).map(|r| found.remedy(&r.spec)).unwrap_or_default();
            let Loop { object, streak, lasts, target } = found;
            let message = format!(
                "its reconciles cause each other, {streak} in a row within {lasts:.1?}: each writes {target}, whose change \
                 has it reconciled again; {remedy}"
            );
            self.tell(index, Problem::SelfTriggered, Some(object), &message);
        }
    }

    /// A snapshot was refused because it is larger than the controller may have.
    pub(super) fn tell_if_over_quota(&mut self, index: u32, error: &io::Error) {
        if error.get_ref().is_some_and(|inner| inner.is::<OverQuota>()) {
            self.slots[index as usize].counters.limit_hit(Limit::Disk);
            self.tell(index, Problem::Limit(Limit::Disk), None, &error.to_string());
        }
    }
}
