//! The retry policy of an upstream: backoff, when to list again, and which failures to report.

use std::time::Duration;

use wasmop_core::watch::WaitReason;

use crate::timeouts::RESPONSE_TIMEOUT;
use crate::watch::failure::{Failure, FailureCause};

/// Consecutive failures after which the upstream reports a failure that may pass by itself.
const FAILURES_TO_REPORT: u32 = 3;
/// Consecutive failures after which the upstream lists again. The API server may have returned with an older state, or
/// may not serve that version.
const FAILURES_TO_RELIST: u32 = 5;
/// Most delay caused by a `Retry-After` of the API server.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The delays and time-outs of an upstream, before jitter. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub(in crate::watch) struct UpstreamTimings {
    /// Delay after the first failure; doubles with each further one.
    pub first_delay: Duration,
    /// Longest delay after a failure.
    pub max_delay: Duration,
    /// Delay between two attempts to find a missing CRD.
    pub missing_delay: Duration,
    /// A watch that ends sooner than this without an event counts as failed.
    pub short_watch: Duration,
    /// A watch that lasts this long ends a series of failures.
    pub good_watch: Duration,
    /// A watch that has had a bookmark restarts after this time without a line. The API server sends one about every
    /// minute. PINGs are not enough, since a load balancer may answer them.
    pub bookmark_silence: Duration,
    /// A streamed list stalls after this time without a line.
    pub list_silence: Duration,
}

impl Default for UpstreamTimings {
    fn default() -> Self {
        UpstreamTimings {
            first_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(5),
            missing_delay: Duration::from_secs(1),
            short_watch: Duration::from_secs(1),
            good_watch: Duration::from_secs(10),
            bookmark_silence: Duration::from_secs(90),
            list_silence: RESPONSE_TIMEOUT,
        }
    }
}

/// Counts consecutive failures. Lists and watches count apart, because a successful list says nothing about the watch
/// after it.
#[derive(Debug)]
pub struct Retry {
    timings: UpstreamTimings,
    list_failures: u32,
    watch_failures: u32,
}

/// How to continue after a failure.
#[derive(Debug)]
pub struct Next {
    /// Time to wait, before jitter.
    pub delay: Duration,
    /// Least time to wait, as the API server asked.
    pub at_least: Duration,
    /// Forget the position, and list.
    pub relist: bool,
    /// Forget the resource, and run discovery.
    pub rediscover: bool,
    /// Report the failure to the subscribers.
    pub report: bool,
}

impl Retry {
    pub fn new(timings: UpstreamTimings) -> Retry {
        Retry { timings, list_failures: 0, watch_failures: 0 }
    }

    /// Counts a failure of a list or a watch.
    pub fn failed(&mut self, failure: &Failure, is_list: bool) -> Next {
        let counter = if is_list { &mut self.list_failures } else { &mut self.watch_failures };
        *counter = counter.saturating_add(1);
        let is_stuck = self.watch_failures > 0 && self.watch_failures.is_multiple_of(FAILURES_TO_RELIST);
        let failures = self.list_failures.saturating_add(self.watch_failures);
        let backoff = self.timings.first_delay.saturating_mul(1 << (failures - 1).min(10)).min(self.timings.max_delay);
        let is_missing = failure.cause == FailureCause::Because(WaitReason::Missing);
        let lasts = matches!(
            failure.cause,
            FailureCause::Because(WaitReason::Missing | WaitReason::Unauthorized | WaitReason::Forbidden)
        );
        Next {
            delay: if is_missing { self.timings.missing_delay } else { backoff },
            at_least: failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            relist: is_stuck || is_missing || failure.cause == FailureCause::Expired,
            rediscover: is_missing,
            report: lasts || failures >= FAILURES_TO_REPORT,
        }
    }

    /// A list was complete.
    pub fn listed(&mut self) {
        self.list_failures = 0;
    }

    /// A watch brought something, or lasted.
    pub fn watched(&mut self) {
        self.watch_failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_lasting_failures_are_reported_at_once() {
        let ms = Duration::from_millis;
        let mut retry = Retry::new(UpstreamTimings::default());
        let unreachable = Failure::new(WaitReason::Unreachable, "");
        let failures: Vec<Next> = (0..6).map(|_| retry.failed(&unreachable, false)).collect();
        let delays: Vec<Duration> = failures.iter().map(|next| next.delay).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 5000].map(ms));
        let each = |of: fn(&Next) -> bool| failures.iter().map(of).collect::<Vec<_>>();
        assert_eq!(each(|next| next.report), [false, false, true, true, true, true]);
        assert_eq!(each(|next| next.relist), [false, false, false, false, true, false]);
        retry.watched();
        let next = retry.failed(&Failure::new(WaitReason::Forbidden, ""), true);
        assert!(next.delay == ms(200) && next.report && !next.relist, "{next:?}");
        let next = retry.failed(&Failure::new(WaitReason::Missing, ""), true);
        assert!(next.delay == ms(1000) && next.report && next.relist && next.rediscover, "{next:?}");
    }
}
