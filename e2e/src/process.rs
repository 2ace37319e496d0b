//! Memory and descriptors of a process, from `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// Figures of `smaps_rollup` in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub pss: u64,
    pub anonymous: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).context(path)?;
    let field = |name: &str| field(&text, name).with_context(|| format!("no {name} in smaps_rollup"));
    Ok(Memory { pss: field("Pss:")?, anonymous: field("Anonymous:")? })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The processor time that a process has used so far, in user and kernel mode.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).context(path)?;
    cpu_ticks(&text).map(|ticks| Duration::from_secs(1) * ticks / TICKS_PER_SECOND).context("malformed stat")
}

/// `USER_HZ`, which Linux fixes at 100 for `/proc`: proc_pid_stat(5).
const TICKS_PER_SECOND: u32 = 100;

/// `utime` and `stime`: fields 14 and 15. The name in field 2 may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
}

/// The numbers of open file descriptors and memory mappings of a process.
pub fn descriptors_and_mappings(pid: u32) -> Result<(u64, u64)> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count() as u64;
    Ok((fds, maps))
}

/// Resets the peak of this process, so that [`rss_and_peak`] returns the peak since then.
pub fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")
}

/// The current and the peak resident set size of this process, in bytes.
pub fn rss_and_peak() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let get = |name| field(&text, name).with_context(|| format!("no {name} in /proc/self/status"));
    Ok((get("VmRSS:")?, get("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 40 2 13 14 15";
        for name in ["host", "a b", "a) S 1", "(x)"] {
            assert_eq!(cpu_ticks(&format!("17 ({name}) {rest}")), Some(42), "{name}");
        }
        assert_eq!(cpu_ticks("17 (host"), None);
    }
}
