//! Throttles a controller that has used more than its share of a core, or has misused the runtime interface.

use std::time::Duration;

use wasmop_package::manifest::Limits;

use super::token_bucket::{Bucket, Rate};

/// Seconds of unused share that a controller may save up.
const WINDOW_SECONDS: u64 = 10;
/// Pause after a step that misused the runtime interface, so that constant misuse does not keep the host busy.
const MISUSE_HOLD: Duration = Duration::from_millis(100);

/// Why a controller is throttled, and until when on the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It has used more than its CPU share.
    CpuShare(Duration),
    /// It has misused the runtime interface.
    Misuse(Duration),
}

/// CPU time used by one controller, measured against its share of a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuShare {
    /// Nanoseconds of CPU time.
    cpu: Bucket,
    misused: Option<Duration>,
    /// Since when it has waited to run, and why.
    waiting: Option<(Duration, Held)>,
}

fn rate(limits: &Limits) -> Rate {
    let per_second = limits.cpu_share_millis.saturating_mul(1_000_000);
    Rate { per_second, burst: per_second.saturating_mul(WINDOW_SECONDS) }
}

impl CpuShare {
    /// Charges CPU time.
    pub fn used(&mut self, limits: &Limits, cpu: Duration, now: Duration) {
        self.cpu.take(rate(limits), cpu.as_nanos() as u64, now);
    }

    /// Whether its CPU time is used up.
    pub fn is_used_up(&self, limits: &Limits, now: Duration) -> bool {
        self.cpu.ready_at(rate(limits), 0) > now
    }

    /// Charges a misuse of the runtime interface.
    pub fn misused(&mut self, now: Duration) {
        self.misused = Some(now + MISUSE_HOLD);
    }

    /// Why the controller may not run now. To be called when it has work to do: its waiting time starts then.
    pub fn held(&mut self, limits: &Limits, now: Duration) -> Option<Held> {
        let paid = self.cpu.ready_at(rate(limits), 0);
        let held = match self.misused {
            _ if paid > now => Held::CpuShare(paid),
            Some(until) if until > now => Held::Misuse(until),
            _ => return None,
        };
        let since = self.waiting.map_or(now, |(since, _)| since);
        self.waiting = Some((since, held));
        Some(held)
    }

    /// The controller runs now. Returns how long it was throttled, and the last reason.
    pub fn runs(&mut self, now: Duration) -> Option<(Duration, Held)> {
        self.waiting.take().map(|(since, held)| (now.saturating_sub(since), held))
    }

    /// Whether it is throttled and has work to do.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Held {
    /// When the controller may run again, on the host's clock.
    pub fn until(self) -> Duration {
        match self {
            Held::CpuShare(until) | Held::Misuse(until) => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limits(cpu_share_millis: u64) -> Limits {
        Limits { cpu_share_millis, ..Limits::default() }
    }

    #[test]
    fn saved_cpu_time_is_usable_at_once_and_a_debt_throttles() {
        // A tenth of a core: 1 s of CPU time in reserve.
        for (used, held_until) in [(0, None), (999, None), (1000, None), (1100, Some(1000)), (3000, Some(20_000))] {
            let mut share = CpuShare::default();
            share.used(&limits(100), ms(used), ms(0));
            assert_eq!(share.is_used_up(&limits(100), ms(0)), held_until.is_some(), "{used} ms used");
            assert_eq!(share.held(&limits(100), ms(0)).map(Held::until), held_until.map(ms), "{used} ms used");
        }
    }

    #[test]
    fn waiting_time_counts_from_when_there_was_work() {
        let mut share = CpuShare::default();
        share.used(&limits(100), ms(1100), ms(0));
        assert_eq!(share.held(&limits(100), ms(200)), Some(Held::CpuShare(ms(1000))));
        assert_eq!(share.held(&limits(100), ms(300)), Some(Held::CpuShare(ms(1000))));
        assert_eq!(share.held(&limits(100), ms(1000)), None);
        assert_eq!(share.runs(ms(1001)), Some((ms(801), Held::CpuShare(ms(1000)))));
        assert!(share.runs(ms(1002)).is_none() && !share.is_waiting());
    }

    #[test]
    fn misuse_costs_a_pause() {
        let mut share = CpuShare::default();
        share.misused(ms(5));
        assert_eq!(share.held(&limits(100), ms(5)), Some(Held::Misuse(ms(105))));
        assert_eq!(share.held(&limits(100), ms(105)), None);
    }

    proptest! {
        /// In the long run it uses at most its share, plus the excess of one step.
        #[test]
        fn long_term_use_stays_within_the_share(share in 1u64..1000, steps in prop::collection::vec((1u64..300, 0u64..100), 1..200)) {
            let (limits, mut used_share, mut now, mut used) = (limits(share), CpuShare::default(), Duration::ZERO, 0);
            for (cpu, pause) in steps {
                now += ms(pause);
                if let Some(held) = used_share.held(&limits, now) {
                    now = held.until();
                }
                prop_assert_eq!(used_share.held(&limits, now), None);
                used_share.runs(now);
                used += cpu;
                now += ms(cpu);
                used_share.used(&limits, ms(cpu), now);
                let most = share as f64 / 1000.0 * (now.as_secs_f64() + WINDOW_SECONDS as f64) + 0.3;
                prop_assert!(used as f64 / 1e3 <= most, "{used} ms at {now:?}");
            }
        }
    }
}
