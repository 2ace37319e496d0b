//! Packages made ready to run, before the loop begins: compiled and initialised on threads of their own.
//!
//! Nothing interrupts a compiler. So the host does not wait longer for a package than [`patience`] says: its thread is
//! left behind, and the package is left out. The host can end at any moment, whatever its threads do.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;

use super::HostError;
use crate::code::{InstallError, InstalledPackage};
use crate::engine::Engine;
use crate::snapshot::StateDir;

/// A SHA-256.
type Digest = [u8; 32];

/// What came of each package.
pub(super) type Prepared = HashMap<Digest, Result<InstalledPackage, InstallError>>;

/// Packages at once. A compiler uses all cores by itself, but not all of the time.
const AT_ONCE: usize = 4;
/// Between two lines about those that are not ready.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// A slow machine compiles half a megabyte a second, and an initialisation may take 10 s.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_PER_MIB: Duration = Duration::from_secs(15);

/// How long the host waits for a package of so many bytes.
fn patience(bytes: usize) -> Duration {
    LEAST_PATIENCE + PATIENCE_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20))
}

/// Installs packages, each once, `room` at once at most. Fails only if there can be no threads.
pub(super) async fn prepare(
    engine: &Engine,
    state: &Arc<StateDir>,
    packages: impl Iterator<Item = Arc<Package>>,
    cap: &Limits,
    room: usize,
) -> Result<Prepared, HostError> {
    let mut waiting: Vec<Arc<Package>> = packages.collect();
    // Largest first, and taken from the end: the small ones do not wait for the large ones.
    waiting.sort_by_key(|package| (std::cmp::Reverse(package.bytes().len()), package.digest));
    waiting.dedup_by_key(|package| package.digest);
    let total = waiting.len();
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let at_once = AT_ONCE.min(cores).min(room).max(1);
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut begun: HashMap<Digest, Begun> = HashMap::new();
    let mut ready = Prepared::new();
    let mut progress = tokio::time::interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    while ready.len() < total {
        while begun.len() < at_once
            && let Some(package) = waiting.pop()
        {
            begun.insert(package.digest, Begun::now(&package));
            let (engine, state, cap, tx) = (engine.clone(), state.clone(), *cap, tx.clone());
            let install = move || {
                let result =
                    catch_unwind(AssertUnwindSafe(|| InstalledPackage::install(&engine, &state, &package, &cap)));
                let panicked = |_| {
                    let name = package.manifest.name.clone();
                    Err(InstallError::Compile { name, message: "the compiler panicked".into() })
                };
                let _ = tx.send((package.digest, result.unwrap_or_else(panicked)));
            };
            thread::Builder::new().name("wasmop-install".into()).spawn(install).map_err(HostError::Threads)?;
        }
        let next = begun.values().map(|begun| begun.until).min().unwrap_or_else(Instant::now);
        tokio::select! {
            Some((digest, result)) = rx.recv() => {
                // Else it was given up.
                if begun.remove(&digest).is_some() {
                    ready.insert(digest, result);
                }
            }
            () = tokio::time::sleep_until(next) => {
                let now = Instant::now();
                for (digest, late) in begun.extract_if(|_, begun| begun.until <= now) {
                    ready.insert(digest, Err(InstallError::TooSlow { name: late.name, after: late.until - late.at }));
                }
            }
            _ = progress.tick() => {
                let mut names: Vec<&str> = begun.values().map(|begun| &*begun.name).collect();
                names.sort_unstable();
                let oldest = begun.values().map(|begun| begun.at.elapsed().as_secs()).max().unwrap_or_default();
                tracing::info!(
                    packages = names.join(", "),
                    seconds = oldest,
                    ready = ready.len(),
                    of = total,
                    "still compiling"
                );
            }
        }
    }
    Ok(ready)
}

/// A package that a thread works on.
struct Begun {
    name: String,
    at: Instant,
    until: Instant,
}

impl Begun {
    fn now(package: &Package) -> Begun {
        let at = Instant::now();
        Begun { name: package.manifest.name.clone(), at, until: at + patience(package.component().len()) }
    }
}
