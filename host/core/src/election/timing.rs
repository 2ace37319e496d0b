//! The three durations of an election, with client-go's names.

use std::time::Duration;

/// Tolerated delay of a renewal, in tenths of the period.
const JITTER_TENTHS: u32 = 12;
/// Leases have durations in whole seconds.
const LEAST_LEASE: Duration = Duration::from_secs(1);
const LEAST_RETRY: Duration = Duration::from_millis(100);

/// Durations of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time after which other hosts take over from a host that does not renew its Lease.
    pub lease_duration: Duration,
    /// Time after which a host that could not renew its Lease stops.
    pub renew_deadline: Duration,
    /// Time between two renewals, and between two looks at other hosts.
    pub retry_period: Duration,
}

/// The defaults of kube-controller-manager.
impl Default for Timing {
    fn default() -> Timing {
        Timing {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// An unsafe duration. The message names the setting as people write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error(
        "leader-elect-lease-duration is {0:?}: Leases have whole seconds\nhelp: give 1s or more, and at least a second more than leader-elect-renew-deadline, like 15s"
    )]
    /// `lease_duration` is not in whole seconds, or is shorter than one.
    Lease(Duration),
    #[error(
        "leader-elect-renew-deadline is {deadline:?}, which is not less than leader-elect-lease-duration, {lease:?}: another host could begin before this one has stopped\nhelp: give a shorter leader-elect-renew-deadline, like two thirds of leader-elect-lease-duration"
    )]
    /// `renew_deadline` is not less than `lease_duration`.
    Deadline {
        /// `renew_deadline`
        deadline: Duration,
        /// `lease_duration`
        lease: Duration,
    },
    #[error(
        "leader-elect-retry-period is {retry:?}: a renewal would come too late for leader-elect-renew-deadline, {deadline:?}\nhelp: give a leader-elect-retry-period of less than 5/6 of leader-elect-renew-deadline, better a fifth"
    )]
    /// `retry_period` is too long for `renew_deadline`.
    Retry {
        /// `retry_period`
        retry: Duration,
        /// `renew_deadline`
        deadline: Duration,
    },
    /// `retry_period` is too short.
    #[error("leader-elect-retry-period is {0:?}\nhelp: give 100ms or more, like 2s")]
    Busy(Duration),
}

impl Timing {
    /// Checks that an election with these durations is safe and live.
    ///
    /// # Errors The first duration that is not.
    pub fn check(&self) -> Result<(), TimingError> {
        let Timing { lease_duration: lease, renew_deadline: deadline, retry_period: retry } = *self;
        if lease < LEAST_LEASE || lease.subsec_nanos() != 0 {
            return Err(TimingError::Lease(lease));
        }
        if deadline >= lease {
            return Err(TimingError::Deadline { deadline, lease });
        }
        if retry < LEAST_RETRY {
            return Err(TimingError::Busy(retry));
        }
        if deadline <= retry * JITTER_TENTHS / 10 {
            return Err(TimingError::Retry { retry, deadline });
        }
        Ok(())
    }

    /// Timeout of one request: two may fail before the deadline.
    pub fn request_timeout(&self) -> Duration {
        self.renew_deadline / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_durations_are_rejected_with_the_setting_and_a_remedy() {
        let check = |lease: u64, deadline: u64, retry: u64| {
            let ms = Duration::from_millis;
            Timing { lease_duration: ms(lease), renew_deadline: ms(deadline), retry_period: ms(retry) }.check()
        };
        assert_eq!(Timing::default().check(), Ok(()));
        assert_eq!(check(3000, 2000, 500), Ok(()));
        for ((lease, deadline, retry), names) in [
            ((0, 0, 0), "leader-elect-lease-duration is 0ns"),
            ((1500, 1000, 500), "leader-elect-lease-duration is 1.5s"),
            ((10_000, 10_000, 2000), "leader-elect-renew-deadline is 10s, which is not less"),
            ((15_000, 2400, 2000), "leader-elect-retry-period is 2s: a renewal"),
            ((15_000, 10_000, 50), "leader-elect-retry-period is 50ms"),
            ((15_000, 0, 100), "leader-elect-retry-period is 100ms: a renewal"),
        ] {
            let error = check(lease, deadline, retry).unwrap_err().to_string();
            assert!(error.contains(names) && error.contains("\nhelp: give "), "{error}");
        }
    }
}
