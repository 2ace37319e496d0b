//! The election's files in the state directory: the host's name, and the tenure of each controller's snapshot.
//!
//! ```text
//! STATE_DIR/leases/
//! ├── identity      this host's name, which processes on this directory use one after another
//! └── tenures/NAME  uid and transitions of the controller's Lease when it last ran here
//! ```
//!
//! A host resumes a snapshot only if the Lease names its tenure as the last one. Then no other host has run the
//! controller since.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use wasmop_core::election::Tenure;
use wasmop_snapshot::disk::Disk;

/// Keeps the names of Leases, which include the group's name, within Kubernetes' limit.
const MAX_HOSTNAME: usize = 40;

/// The election's part of a state directory.
pub struct LocalState {
    dir: PathBuf,
    identity: Arc<str>,
}

impl LocalState {
    /// Opens the files in a state directory that this process has locked. `hostname` is the machine's or Pod's.
    ///
    /// # Errors
    /// The directory or the identity cannot be written.
    pub fn open(state_dir: &Path, hostname: &str) -> io::Result<LocalState> {
        let dir = state_dir.join("leases");
        fs::create_dir_all(dir.join("tenures"))?;
        let path = dir.join("identity");
        let prefix = format!("{}-", label(hostname));
        let kept = fs::read_to_string(&path).unwrap_or_default();
        // A directory copied from another machine has another prefix.
        let is_own = |kept: &str| kept.strip_prefix(&prefix).is_some_and(is_suffix);
        let identity = match kept.trim() {
            kept if is_own(kept) => kept.into(),
            _ => {
                let identity = format!("{prefix}{:08x}", rand::random::<u32>());
                Disk::default().replace(&path, identity.as_bytes())?;
                identity.into()
            }
        };
        Ok(LocalState { dir, identity })
    }

    /// This host's name, unique in its group.
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// The tenure of a controller's snapshot, if it is known.
    pub fn tenure(&self, controller: &str) -> Option<Tenure> {
        serde_json::from_slice(&fs::read(self.path(controller)).ok()?).ok()
    }

    /// Records the tenure of the controller's next snapshots.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_tenure(&self, controller: &str, tenure: &Tenure) -> io::Result<()> {
        Disk::default().replace(&self.path(controller), &serde_json::to_vec(tenure)?)
    }

    fn path(&self, controller: &str) -> PathBuf {
        self.dir.join("tenures").join(controller)
    }
}

fn is_suffix(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A DNS label in which a person recognises the machine.
fn label(hostname: &str) -> String {
    let mapped = hostname.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let label: String = mapped.take(MAX_HOSTNAME).collect();
    match label.trim_matches('-') {
        "" => "host".into(),
        label => label.into(),
    }
}

#[cfg(test)]
mod tests {
    use wasmop_package::manifest::is_dns_label;

    use super::*;

    #[test]
    fn host_keeps_its_name_across_restarts_but_not_on_another_machine() {
        let dir = tempfile::tempdir().unwrap();
        let identity = |hostname| LocalState::open(dir.path(), hostname).unwrap().identity().clone();
        let first = identity("Node_1.example.com");
        assert!(first.starts_with("node-1-example-com-") && is_dns_label(&first), "{first}");
        assert_eq!(identity("Node_1.example.com"), first);
        let other = identity("node-1");
        assert!(other.starts_with("node-1-") && other.len() == "node-1-".len() + 8, "{other}");
        fs::write(dir.path().join("leases/identity"), "").unwrap();
        assert_ne!(identity("node-1"), other);
    }

    #[test]
    fn every_hostname_becomes_a_label() {
        for hostname in ["", "-", "UPPER", "a.b", "ü", &"x".repeat(300)] {
            assert!(is_dns_label(&label(hostname)), "{hostname}: {}", label(hostname));
        }
    }

    #[test]
    fn tenure_is_read_as_written_and_a_damaged_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let state = LocalState::open(dir.path(), "a").unwrap();
        assert_eq!(state.tenure("website"), None);
        let tenure = Tenure { uid: "u".into(), transitions: 3 };
        state.set_tenure("website", &tenure).unwrap();
        assert_eq!(state.tenure("website"), Some(tenure));
        fs::write(dir.path().join("leases/tenures/website"), "{\"uid\":").unwrap();
        assert_eq!(state.tenure("website"), None);
    }
}
