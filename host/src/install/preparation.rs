//! Compiles and initialises packages on their own threads, before the control loop starts.
//!
//! A compilation cannot be interrupted. So the host abandons a package after the time of [`patience`]: it leaves the
//! thread behind and the package out. Only CPU time of this process counts, so that a small CPU share does not cause
//! time-outs. The host can still end at any moment.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::StateDir;
use wasmop_vm::compiled_package::{InstallError, InstalledPackage};
use wasmop_vm::engine::Engine;

use crate::options::HostError;

/// A SHA-256.
type Digest = [u8; 32];

/// The result for each package.
pub(crate) type Prepared = Results<InstalledPackage>;

type Results<T> = HashMap<Digest, Result<T, InstallError>>;

/// Most packages at once. A compilation uses all cores, but not all of the time.
const AT_ONCE: usize = 4;
/// Time between two reads of the clocks.
const TICK: Duration = Duration::from_secs(1);
/// Time between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Least time for a package, since an initialisation may take 10 s.
const LEAST_PATIENCE: Duration = Duration::from_secs(60);
/// Time for each MiB of a package. A slow machine compiles half a megabyte a second.
const PATIENCE_PER_MIB: Duration = Duration::from_secs(15);
/// Multiple of [`patience`] after which the host abandons a package that gets no CPU, for example because of a disk.
const WITHOUT_CPU: u32 = 20;

/// CPU time that a package of this size may take.
fn patience(bytes: usize) -> Duration {
    LEAST_PATIENCE + PATIENCE_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20))
}

/// A reading of the clocks.
#[derive(Clone, Copy, Debug, Default)]
struct Tick {
    /// Time since the preparation started.
    now: Duration,
    /// CPU time of this process.
    cpu: Duration,
}

/// Packages that are not ready.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    packages: Vec<String>,
    /// The longest time that one of them has taken.
    longest: Duration,
    ready: usize,
    of: usize,
}

/// Installs each package once, at most `room` at the same time.
///
/// # Errors
/// The operating system refuses a thread.
pub(crate) async fn prepare(
    engine: &Engine,
    state: &Arc<StateDir>,
    packages: impl Iterator<Item = Arc<Package>>,
    cap: &Limits,
    room: usize,
) -> Result<Prepared, HostError> {
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let at_once = AT_ONCE.min(cores).min(room).max(1);
    let (engine, state, cap) = (engine.clone(), state.clone(), *cap);
    let install = move |package: &Package| InstalledPackage::install(&engine, &state, package, &cap);
    let tell = |progress: Progress| {
        tracing::info!(
            packages = progress.packages.join(", "),
            seconds = progress.longest.as_secs(),
            ready = progress.ready,
            of = progress.of,
            "still compiling"
        );
    };
    let ticks = std::pin::pin!(ticks());
    prepare_with(packages.collect(), at_once, install, ticks, tell).await
}

fn ticks() -> impl Stream<Item = Tick> {
    let begun = Instant::now();
    let interval = tokio::time::interval_at(begun + TICK, TICK);
    futures::stream::unfold(interval, move |mut interval| async move {
        let at = interval.tick().await;
        Some((Tick { now: at - begun, cpu: process_cpu_time() }, interval))
    })
}

fn process_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

async fn prepare_with<T: Send + 'static>(
    packages: Vec<Arc<Package>>,
    at_once: usize,
    install: impl Fn(&Package) -> Result<T, InstallError> + Clone + Send + 'static,
    mut ticks: impl Stream<Item = Tick> + Unpin,
    mut tell: impl FnMut(Progress),
) -> Result<Results<T>, HostError> {
    let mut waiting = packages;
    // Sorted by decreasing size and taken from the end, so that small packages do not wait for large ones.
    waiting.sort_by_key(|package| (std::cmp::Reverse(package.bytes().len()), package.digest));
    waiting.dedup_by_key(|package| package.digest);
    let total = waiting.len();
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut begun: HashMap<Digest, Begun> = HashMap::new();
    let mut ready = Results::new();
    let mut last = Tick { now: Duration::ZERO, cpu: process_cpu_time() };
    let mut tell_at = PROGRESS_INTERVAL;
    while ready.len() < total {
        while begun.len() < at_once
            && let Some(package) = waiting.pop()
        {
            begun.insert(package.digest, Begun::at(last.now, &package));
            let (install, tx) = (install.clone(), tx.clone());
            let install = move || {
                let result = catch_unwind(AssertUnwindSafe(|| install(&package)));
                let panicked = |_| {
                    let name = package.manifest.name.clone();
                    Err(InstallError::Compile { name, message: "the compiler panicked".into() })
                };
                let _ = tx.send((package.digest, result.unwrap_or_else(panicked)));
            };
            thread::Builder::new().name("wasmop-install".into()).spawn(install).map_err(HostError::Threads)?;
        }
        tokio::select! {
            Some((digest, result)) = rx.recv() => {
                // Otherwise it was abandoned.
                if begun.remove(&digest).is_some() {
                    ready.insert(digest, result);
                }
            }
            Some(tick) = ticks.next() => {
                let (wall, cpu) = (tick.now.saturating_sub(last.now), tick.cpu.saturating_sub(last.cpu));
                let had = had(wall, cpu, begun.len());
                last = tick;
                for begun in begun.values_mut() {
                    begun.had += had;
                }
                for (digest, late) in begun.extract_if(|_, begun| begun.is_late(tick.now)) {
                    let (after, had) = (tick.now - late.at, late.had);
                    ready.insert(digest, Err(InstallError::TooSlow { name: late.name, after, had }));
                }
                if tick.now >= tell_at && !begun.is_empty() {
                    tell_at = tick.now + PROGRESS_INTERVAL;
                    let mut names: Vec<String> = begun.values().map(|begun| begun.name.clone()).collect();
                    names.sort_unstable();
                    let longest = begun.values().map(|begun| tick.now - begun.at).max().unwrap_or_default();
                    tell(Progress { packages: names, longest, ready: ready.len(), of: total });
                }
            }
        }
    }
    Ok(ready)
}

/// CPU time of each of `packages` in an interval of `wall`, in which the process had `cpu`. A compilation on several
/// cores counts at most `wall`.
fn had(wall: Duration, cpu: Duration, packages: usize) -> Duration {
    wall.min(cpu / packages.max(1) as u32)
}

/// A package that is being compiled.
struct Begun {
    name: String,
    at: Duration,
    /// CPU time so far.
    had: Duration,
    patience: Duration,
}

impl Begun {
    fn at(at: Duration, package: &Package) -> Begun {
        let patience = patience(package.component().len());
        Begun { name: package.manifest.name.clone(), at, had: Duration::ZERO, patience }
    }

    fn is_late(&self, now: Duration) -> bool {
        self.had >= self.patience || now.saturating_sub(self.at) >= self.patience * WITHOUT_CPU
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc as channel};

    use futures::stream;
    use wasmop_package::manifest::{Language, Manifest, Sdk, Toolchain};

    use super::*;

    fn package(name: &str) -> Arc<Package> {
        let core = r#"(module (memory (export "memory") 1) (func (export "wasmop:controller/guest@0.1.0#step")))"#;
        let manifest = Manifest::new(name, "0.0.0", Language::Rust, Toolchain::Cargo, Sdk::new("wasmop", "0.1.0"));
        let bytes = wasmop_package::assemble(&wat::parse_str(core).unwrap(), &manifest).unwrap();
        Arc::new(Package::parse(bytes).unwrap())
    }

    /// Prepares packages while only these ticks pass. `install` gets the name.
    async fn run(
        packages: Vec<Arc<Package>>,
        ticks: Vec<(u64, u64)>,
        install: impl Fn(&str) -> Result<(), InstallError> + Clone + Send + 'static,
        tell: impl FnMut(Progress),
    ) -> Results<()> {
        let base = process_cpu_time() + Duration::from_secs(3600);
        let tick = move |(now, cpu)| Tick { now: Duration::from_secs(now), cpu: base + Duration::from_secs(cpu) };
        // The first tick sets the CPU clock.
        let ticks = stream::iter([(0, 0)].into_iter().chain(ticks).map(tick)).chain(stream::pending());
        prepare_with(packages, 4, move |package| install(&package.manifest.name), ticks, tell).await.unwrap()
    }

    #[tokio::test]
    async fn endless_compilation_is_abandoned_after_its_time() {
        for (what, ticks, after, had) in [
            ("all of a core", vec![(30, 30), (61, 61)], 61, 61),
            ("many cores", vec![(30, 300), (61, 610)], 61, 61),
            ("a tenth of a core", vec![(300, 30), (590, 59), (620, 62)], 620, 62),
            ("no CPU at all", vec![(1000, 0), (1300, 1)], 1300, 1),
        ] {
            // The channel never delivers.
            let (keep, never) = channel::channel::<()>();
            let never = Arc::new(Mutex::new(never));
            let install = move |_: &str| {
                let _ = never.lock().map(|never| never.recv());
                Ok(())
            };
            let package = package("slow");
            let found = run(vec![package.clone()], ticks, install, |_| ()).await.remove(&package.digest);
            let Some(Err(InstallError::TooSlow { name, after: waited, had: worked })) = &found else {
                panic!("{what}: {found:?}");
            };
            let expected = ("slow", Duration::from_secs(after), Duration::from_secs(had));
            assert_eq!((&**name, *waited, *worked), expected, "{what}");
            drop(keep);
        }
    }

    #[tokio::test]
    async fn panic_of_the_compiler_fails_its_package_only() {
        let (good, bad) = (package("good"), package("bad"));
        let install = |name: &str| if name == "bad" { panic!("the compiler's own") } else { Ok(()) };
        let found = run(vec![good.clone(), bad.clone(), good.clone()], vec![], install, |_| ()).await;
        assert!(matches!(found.get(&good.digest), Some(Ok(()))) && found.len() == 2, "{found:?}");
        let error = found[&bad.digest].as_ref().unwrap_err().to_string();
        assert!(error.contains("compiling bad: the compiler panicked"), "{error}");
    }

    #[tokio::test]
    async fn slow_packages_are_reported_at_intervals() {
        let (go, gate) = channel::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let install = move |_: &str| {
            // Each package waits for a message.
            let _ = gate.lock().map(|gate| gate.recv());
            Ok(())
        };
        let mut reported = Vec::new();
        let tell = |progress| {
            reported.push(progress);
            if reported.len() == 2 {
                let _ = (go.send(()), go.send(()));
            }
        };
        let ticks = (1..=11).map(|second| (second, second)).collect();
        run(vec![package("b"), package("a")], ticks, install, tell).await;
        let at = |seconds| {
            let longest = Duration::from_secs(seconds);
            Progress { packages: vec!["a".into(), "b".into()], longest, ready: 0, of: 2 }
        };
        assert_eq!(reported, [at(5), at(10)]);
    }
}
