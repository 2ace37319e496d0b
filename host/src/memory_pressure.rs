//! The cgroup's memory limit, and a thread that waits for memory pressure (PSI).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

/// Triggers when tasks wait for memory for 150 ms within 2 s. Newer kernels require no privileges if the window is a
/// multiple of 2 s (Documentation/accounting/psi.rst).
const TRIGGER: &[u8] = b"some 150000 2000000\0";
/// Share of the cgroup's limit for instances. The host itself, compiled code and the page cache need the rest.
const BUDGET_SHARE: f64 = 0.6;

/// The default memory budget in bytes: 60% of the memory limit of the process' cgroup; `None` without a limit.
pub fn default_budget() -> Option<u64> {
    limit_of(&own_cgroup()?, Path::new("/sys/fs/cgroup")).map(|limit| (limit as f64 * BUDGET_SHARE) as u64)
}

/// The smallest limit of a cgroup and its ancestors.
fn limit_of(cgroup: &Path, root: &Path) -> Option<u64> {
    let ancestors = cgroup.ancestors().take_while(|dir| dir.starts_with(root));
    ancestors.filter_map(|dir| fs::read_to_string(dir.join("memory.max")).ok()?.trim().parse().ok()).min()
}

/// The directory of the process' cgroup (v2).
fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

/// Calls `on_pressure` on its own thread whenever memory is short, until it returns `false`.
///
/// # Errors
/// The kernel does not report memory pressure.
pub fn watch(mut on_pressure: impl FnMut() -> bool + Send + 'static) -> io::Result<()> {
    let own = own_cgroup().map(|dir| dir.join("memory.pressure"));
    let places = own.iter().map(PathBuf::as_path).chain([Path::new("/proc/pressure/memory")]);
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for place in places {
        match trigger(place) {
            Ok(file) => {
                thread::Builder::new().name("wasmop-pressure".into()).spawn(move || {
                    loop {
                        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
                        match poll(&mut fds, None) {
                            Ok(_) if fds[0].revents().contains(PollFlags::ERR) => return,
                            Ok(_) if !on_pressure() => return,
                            Ok(_) | Err(rustix::io::Errno::INTR) => {}
                            Err(_) => return,
                        }
                    }
                })?;
                return Ok(());
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn trigger(place: &Path) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).open(place)?;
    file.write_all(TRIGGER)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_limit_of_all_ancestors_counts() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("kubepods/pod");
        let container = pod.join("container");
        fs::create_dir_all(&container).unwrap();
        assert_eq!(limit_of(&container, root.path()), None);
        fs::write(container.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit_of(&container, root.path()), None);
        fs::write(pod.join("memory.max"), "67108864\n").unwrap();
        assert_eq!(limit_of(&container, root.path()), Some(64 << 20));
        fs::write(container.join("memory.max"), "33554432\n").unwrap();
        assert_eq!(limit_of(&container, root.path()), Some(32 << 20));
    }
}
