//! Reads the status of the host's own process from `/proc`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::values::ProcessStatus;

/// The status of this process. Unknown values are zero.
pub fn read() -> ProcessStatus {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let page = rustix::param::page_size() as u64;
    let tick = rustix::param::clock_ticks_per_second() as f64;
    // The name, in parentheses, may contain any characters.
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // proc_pid_stat(5) numbers fields from 1; `fields` starts with the third, the state.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    ProcessStatus {
        resident_memory_bytes: field(24) * page,
        virtual_memory_bytes: field(23),
        cpu_seconds: (field(14) + field(15)) as f64 / tick,
        threads: field(20),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(0),
        start_time_seconds: boot_seconds().map_or(0.0, |boot| boot + field(22) as f64 / tick),
    }
}

/// Boot time of the machine, Unix time in seconds.
fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Unix time in seconds.
pub fn wall_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_this_process_is_plausible() {
        let status = read();
        assert!(status.resident_memory_bytes > 1 << 20 && status.virtual_memory_bytes > status.resident_memory_bytes);
        assert!(status.open_fds >= 3 && status.max_fds >= status.open_fds);
        let age = wall_seconds() - status.start_time_seconds;
        // The boot time has whole seconds.
        assert!((-2.0..86_400.0).contains(&age), "{age} s");
        assert!(status.threads >= 1);
    }
}
