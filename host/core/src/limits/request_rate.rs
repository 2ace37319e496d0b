//! Throttles a controller's calls: some a second, and some in flight.
//!
//! The controller's account limits how many calls may wait.

use std::collections::VecDeque;
use std::time::Duration;

use wasmop_package::manifest::Limits;

use super::problem::Limit;
use super::token_bucket::{Bucket, Rate};
use crate::step::Call;

/// The calls of one controller that wait to be sent. Holds no memory while empty.
#[derive(Default)]
pub struct RequestThrottle {
    waiting: VecDeque<Waiting>,
    bucket: Bucket,
    /// Calls that have passed the limits and wait for a time, by that time.
    held_back: Vec<(Duration, Call)>,
    /// The limit that the first call waits for, and since when.
    held: Option<(Limit, Duration)>,
}

struct Waiting {
    call: Call,
    /// A watch or a followed log, which does not count against the calls in flight.
    stream: bool,
}

/// What to do with the first waiting call.
#[derive(Debug)]
pub enum Next {
    /// Send it.
    Make(Call),
    /// Send it: it was held back, and passed everything before.
    MakeHeldBack(Call),
    /// It keeps waiting.
    Wait {
        /// The limit that it waits for.
        limit: Limit,
        /// Whether it did not wait for this limit before.
        is_new: bool,
    },
    /// No call waits.
    Nothing,
}

fn rate(limits: &Limits) -> Rate {
    Rate { per_second: limits.api_requests_per_second, burst: limits.api_burst }
}

impl RequestThrottle {
    /// Queues a call. `stream`: a watch or a followed log.
    pub fn push(&mut self, call: Call, stream: bool) {
        self.waiting.push_back(Waiting { call, stream });
    }

    /// The next call to send, if one may be sent now. `in_flight` calls are in flight. Also returns the limit and
    /// duration of a wait that has just ended.
    pub fn next(&mut self, limits: &Limits, in_flight: usize, now: Duration) -> (Next, Option<(Limit, Duration)>) {
        if let Some(at) = self.held_back.iter().position(|(until, _)| *until <= now) {
            return (Next::MakeHeldBack(self.held_back.remove(at).1), None);
        }
        let Some(first) = self.waiting.front() else { return (Next::Nothing, None) };
        let limit = if !first.stream && in_flight as u64 >= limits.api_in_flight {
            Limit::RequestsInFlight
        } else if self.bucket.try_take(rate(limits), 1, now) {
            let Some(Waiting { call, .. }) = self.waiting.pop_front() else { return (Next::Nothing, None) };
            if self.waiting.is_empty() {
                self.waiting = VecDeque::new();
            }
            return (Next::Make(call), self.end_wait(now));
        } else {
            Limit::RequestRate
        };
        let is_new = self.held.is_none_or(|(held, _)| held != limit);
        let over = if is_new { self.end_wait(now) } else { None };
        self.held.get_or_insert((limit, now));
        (Next::Wait { limit, is_new }, over)
    }

    fn end_wait(&mut self, now: Duration) -> Option<(Limit, Duration)> {
        self.held.take().map(|(limit, since)| (limit, now.saturating_sub(since)))
    }

    /// Holds a call back that [`RequestThrottle::next`] has returned.
    pub fn hold_back(&mut self, call: Call, until: Duration) {
        self.held_back.push((until, call));
    }

    /// When time alone lets [`RequestThrottle::next`] return a call.
    pub fn next_at(&self, limits: &Limits) -> Option<Duration> {
        let rate_is_why = self.held.is_some_and(|(limit, _)| limit == Limit::RequestRate);
        let rate = (rate_is_why && !self.waiting.is_empty()).then(|| self.bucket.ready_at(rate(limits), 1));
        self.held_back.iter().map(|(until, _)| *until).chain(rate).min()
    }

    /// Removes a call that the guest dropped.
    pub fn forget(&mut self, id: u64) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.call.id == id) {
            self.waiting.remove(at);
        }
        self.held_back.retain(|(_, call)| call.id != id);
        if self.waiting.is_empty() {
            (self.waiting, self.held) = (VecDeque::new(), None);
        }
    }

    /// Removes all calls, because the instance is gone.
    pub fn clear(&mut self) {
        (self.waiting, self.held) = (VecDeque::new(), None);
        self.held_back = Vec::new();
    }

    /// Waiting calls that are streams.
    pub fn streams(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.stream).count()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held_back.is_empty()
    }

    /// Frees unused memory.
    pub fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
        self.held_back.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: Limits = Limits { api_requests_per_second: 10, api_burst: 2, api_in_flight: 3, ..Limits::NONE };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn call(id: u64) -> Call {
        let text = String::new;
        Call { id, task: 0, target: text(), method: text(), path: text(), headers: text(), body: Bytes::new() }
    }

    fn waiting(ids: impl IntoIterator<Item = u64>) -> RequestThrottle {
        let mut requests = RequestThrottle::default();
        ids.into_iter().for_each(|id| requests.push(call(id), false));
        requests
    }

    /// Calls sent at one moment, and the limit that the rest waits for.
    fn made(requests: &mut RequestThrottle, in_flight: usize, now: u64) -> (Vec<u64>, Option<Limit>) {
        let mut ids = Vec::new();
        loop {
            match requests.next(&LIMITS, in_flight + ids.len(), ms(now)).0 {
                Next::Make(call) | Next::MakeHeldBack(call) => ids.push(call.id),
                Next::Wait { limit, .. } => return (ids, Some(limit)),
                Next::Nothing => return (ids, None),
            }
        }
    }

    #[test]
    fn calls_are_sent_in_order_as_fast_as_the_limits_allow() {
        let mut requests = waiting(1..=6);
        assert_eq!(made(&mut requests, 0, 0), (vec![1, 2], Some(Limit::RequestRate)));
        assert_eq!(requests.next_at(&LIMITS), Some(ms(100)));
        assert_eq!(made(&mut requests, 2, 100), (vec![3], Some(Limit::RequestsInFlight)));
        assert_eq!(requests.next_at(&LIMITS), None, "time alone does not help");
        assert_eq!(made(&mut requests, 2, 150), (vec![], Some(Limit::RequestRate)));
        assert_eq!(made(&mut requests, 0, 1000), (vec![4, 5], Some(Limit::RequestRate)));
        assert_eq!(made(&mut requests, 0, 2000), (vec![6], None));
        assert_eq!(requests.next_at(&LIMITS), None);
    }

    #[test]
    fn a_stream_waits_for_the_rate_alone() {
        let mut requests = RequestThrottle::default();
        requests.push(call(1), true);
        requests.push(call(2), false);
        assert_eq!(requests.streams(), 1);
        assert_eq!(made(&mut requests, 3, 0), (vec![1], Some(Limit::RequestsInFlight)));
    }

    #[test]
    fn a_wait_is_new_once_and_its_duration_is_returned_at_its_end() {
        let mut requests = waiting(1..=3);
        made(&mut requests, 3, 0);
        let (next, over) = requests.next(&LIMITS, 3, ms(50));
        assert!(matches!(next, Next::Wait { limit: Limit::RequestsInFlight, is_new: false }) && over.is_none());
        let (next, over) = requests.next(&LIMITS, 0, ms(70));
        assert!(matches!(next, Next::Make(_)));
        assert_eq!(over, Some((Limit::RequestsInFlight, ms(70))));
    }

    #[test]
    fn a_call_that_is_held_back_waits_for_its_time_alone() {
        let mut requests = waiting([2]);
        requests.hold_back(call(1), ms(500));
        assert_eq!(made(&mut requests, 0, 0), (vec![2], None));
        assert!(!requests.is_empty());
        assert_eq!(requests.next_at(&LIMITS), Some(ms(500)));
        assert_eq!(made(&mut requests, 9, 499), (vec![], None));
        assert!(matches!(requests.next(&LIMITS, 9, ms(500)).0, Next::MakeHeldBack(_)));
        assert!(requests.is_empty());
        requests.hold_back(call(3), ms(500));
        requests.forget(3);
        assert!(requests.is_empty());
        requests.hold_back(call(3), ms(500));
        requests.clear();
        assert_eq!((requests.is_empty(), requests.next_at(&LIMITS)), (true, None));
    }

    #[test]
    fn a_dropped_call_is_not_sent() {
        let mut requests = waiting(1..=3);
        requests.forget(2);
        requests.forget(9);
        assert_eq!(made(&mut requests, 0, 0).0, [1, 3]);
        let mut requests = waiting(1..=3);
        requests.clear();
        assert!(requests.is_empty() && made(&mut requests, 0, 0).0.is_empty());
    }
}
