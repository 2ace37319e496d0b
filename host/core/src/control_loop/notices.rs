//! What owners are told of controllers that misbehave: the last error, and a Kubernetes Event now and then.

use super::effect::Notice;
use super::parts::SlotId;
use super::{ControlLoop, Environment, HostEffect};
use crate::limits::problem::{Problem, how_to_raise};
use crate::registration_id::RegistrationId;
use crate::step::Call;
use crate::work_queue::Key;

use super::effect::SpanEvent;

impl<E: Environment> ControlLoop<E> {
    /// Reports what a controller did to its owner: as its last error, and as an Event unless there was one within the
    /// last minute. `object`: the registration and object concerned.
    pub(super) fn report_problem(
        &mut self,
        id: SlotId,
        problem: Problem,
        object: Option<(RegistrationId, Key)>,
        message: &str,
    ) {
        let now = self.now.host;
        let slot = &mut self.slots[id];
        let remedy = problem.limit_key().and_then(|key| how_to_raise(key, &slot.package.limits, &self.limit_caps));
        let message = remedy.map_or_else(|| message.to_owned(), |remedy| format!("{message}; {remedy}"));
        let key = object.as_ref().map_or("", |(_, key)| &**key);
        slot.counters.problem(now, key, problem, &message);
        let Some(more) = self.published.happened(id.0, problem, now) else { return };
        let object = object.and_then(|(registration, key)| {
            let kind = slot.controller.registration(registration)?.spec.primary.clone();
            Some((Box::new(kind), key))
        });
        let message = match more {
            0 => message,
            n => format!("{message} (and {n} times before, since the last event)"),
        };
        let notice = Notice { controller: slot.name.clone(), problem, object, message };
        self.effects.push(HostEffect::Publish(Box::new(notice)));
    }

    /// A call is answered by the host itself: `what` became of it.
    pub(super) fn span_unsent(&mut self, id: SlotId, call: &Call, what: &'static str) {
        if self.is_traced {
            let path = call.target.is_empty().then(|| call.path.clone());
            let event = SpanEvent::Event { slot: id, task: call.task, name: what, method: call.method.clone(), path };
            self.effects.push(HostEffect::Span(event));
        }
    }
}
