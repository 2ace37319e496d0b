//! The resource limits of one controller: `[limits]` in wasmop.toml, capped by the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of one controller. `u64::MAX` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// CPU time of one step, in nanoseconds.
    pub cpu_per_step_ns: u64,
    /// Sustained CPU time, in thousandths of a core.
    pub cpu_share_millis: u64,
    /// Duration of a reconcile, in nanoseconds. The time during which the controller is suspended counts.
    pub reconcile_timeout_ns: u64,
    /// Sustained rate of requests to the API server, per second.
    pub api_requests_per_second: u64,
    /// Burst of requests to the API server.
    pub api_burst: u64,
    /// Concurrent requests. The same number again applies to long-lived requests, such as watches and followed logs.
    pub api_in_flight: u64,
    /// Body of one response, in bytes. Does not apply to long-lived requests.
    pub response_bytes: u64,
    /// Sustained log output, in bytes per second.
    pub log_bytes_per_second: u64,
    /// The snapshot, including an own base image, in bytes.
    pub disk_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits::USUAL
    }
}

impl Limits {
    /// The defaults. A well-behaved controller stays far below them.
    pub const USUAL: Limits = Limits {
        memory_bytes: 256 << 20,
        cpu_per_step_ns: 2_000_000_000,
        cpu_share_millis: 500,
        reconcile_timeout_ns: 24 * 3_600_000_000_000,
        api_requests_per_second: 200,
        api_burst: 1000,
        api_in_flight: 32,
        response_bytes: 64 << 20,
        log_bytes_per_second: 256 << 10,
        disk_bytes: 1 << 30,
    };
    /// Everything is unlimited.
    pub const NONE: Limits = Limits {
        memory_bytes: u64::MAX,
        cpu_per_step_ns: u64::MAX,
        cpu_share_millis: u64::MAX,
        reconcile_timeout_ns: u64::MAX,
        api_requests_per_second: u64::MAX,
        api_burst: u64::MAX,
        api_in_flight: u64::MAX,
        response_bytes: u64::MAX,
        log_bytes_per_second: u64::MAX,
        disk_bytes: u64::MAX,
    };

    /// Returns the minimum of each limit.
    pub fn capped(self, cap: &Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.min(cap.memory_bytes),
            cpu_per_step_ns: self.cpu_per_step_ns.min(cap.cpu_per_step_ns),
            cpu_share_millis: self.cpu_share_millis.min(cap.cpu_share_millis),
            reconcile_timeout_ns: self.reconcile_timeout_ns.min(cap.reconcile_timeout_ns),
            api_requests_per_second: self.api_requests_per_second.min(cap.api_requests_per_second),
            api_burst: self.api_burst.min(cap.api_burst),
            api_in_flight: self.api_in_flight.min(cap.api_in_flight),
            response_bytes: self.response_bytes.min(cap.response_bytes),
            log_bytes_per_second: self.log_bytes_per_second.min(cap.log_bytes_per_second),
            disk_bytes: self.disk_bytes.min(cap.disk_bytes),
        }
    }

    /// Returns the limit on the duration of a reconcile.
    pub fn reconcile_timeout(&self) -> Duration {
        Duration::from_nanos(self.reconcile_timeout_ns)
    }

    /// Returns a limit in the notation of wasmop.toml, or `None` if it is unlimited or `key` is unknown.
    pub fn in_file(&self, key: &str) -> Option<String> {
        let (_, value) = self.by_key().into_iter().find(|(name, _)| *name == key)?;
        if value == u64::MAX {
            return None;
        }
        const TIMES: [(u64, &str); 4] =
            [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms")];
        const SIZES: [(u64, &str); 4] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
        let with_unit = |units: &[(u64, &str)]| {
            let (size, unit) = units.iter().find(|(size, _)| value.is_multiple_of(*size))?;
            Some(format!("\"{}{unit}\"", value / size))
        };
        match key {
            "cpu-per-step" | "reconcile-timeout" => {
                with_unit(&TIMES).or_else(|| Some(format!("\"{}s\"", Duration::from_nanos(value).as_secs_f64())))
            }
            "cpu-share" => Some(format!("\"{value}m\"")),
            "api-rate" | "api-burst" | "api-in-flight" => Some(value.to_string()),
            _ => with_unit(&SIZES),
        }
    }

    /// Returns each limit with its key in wasmop.toml.
    pub fn by_key(&self) -> [(&'static str, u64); 10] {
        [
            ("memory", self.memory_bytes),
            ("cpu-per-step", self.cpu_per_step_ns),
            ("cpu-share", self.cpu_share_millis),
            ("reconcile-timeout", self.reconcile_timeout_ns),
            ("api-rate", self.api_requests_per_second),
            ("api-burst", self.api_burst),
            ("api-in-flight", self.api_in_flight),
            ("response", self.response_bytes),
            ("log-rate", self.log_bytes_per_second),
            ("disk", self.disk_bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct numbers, so that a test detects mixed-up fields.
    fn limits(factor: u64) -> Limits {
        Limits {
            memory_bytes: factor,
            cpu_per_step_ns: 2 * factor,
            cpu_share_millis: 3 * factor,
            reconcile_timeout_ns: 4 * factor,
            api_requests_per_second: 5 * factor,
            api_burst: 6 * factor,
            api_in_flight: 7 * factor,
            response_bytes: 8 * factor,
            log_bytes_per_second: 9 * factor,
            disk_bytes: 10 * factor,
        }
    }

    #[test]
    fn a_cap_lowers_limits_and_never_raises_them() {
        assert_eq!(limits(10).capped(&limits(3)), limits(3));
        assert_eq!(limits(3).capped(&limits(10)), limits(3));
        assert_eq!(Limits::default().capped(&Limits::NONE), Limits::default());
        let one = Limits { disk_bytes: 1, ..Limits::NONE };
        assert_eq!(Limits::default().capped(&one), Limits { disk_bytes: 1, ..Limits::default() });
    }

    #[test]
    fn limits_are_formatted_as_in_wasmop_toml() {
        let limits =
            Limits { memory_bytes: 96 << 20, cpu_per_step_ns: 1_500_000_000, disk_bytes: u64::MAX, ..Limits::USUAL };
        for (key, shown) in [
            ("memory", Some("\"96MiB\"")),
            ("cpu-per-step", Some("\"1500ms\"")),
            ("cpu-share", Some("\"500m\"")),
            ("reconcile-timeout", Some("\"24h\"")),
            ("api-rate", Some("200")),
            ("response", Some("\"64MiB\"")),
            ("log-rate", Some("\"256KiB\"")),
            ("disk", None),
            ("other", None),
        ] {
            assert_eq!(limits.in_file(key).as_deref(), shown, "{key}");
        }
    }

    #[test]
    fn keys_are_distinct() {
        let by_key = limits(1).by_key();
        assert_eq!(by_key.map(|(_, value)| value), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let keys = by_key.map(|(key, _)| key);
        assert!(keys.iter().all(|key| keys.iter().filter(|other| *other == key).count() == 1));
    }

    #[test]
    fn missing_limits_have_their_defaults() {
        let read: Limits = serde_json::from_str(r#"{"memoryBytes": 1048576, "apiBurst": 5}"#).unwrap();
        assert_eq!(read, Limits { memory_bytes: 1 << 20, api_burst: 5, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"memory": 1}"#).is_err());
    }
}
