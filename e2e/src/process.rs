//! Memory and descriptors of a process, from `/proc`.

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
