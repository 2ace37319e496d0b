//! The objects of one controller: their wanted state, and whether the cluster has reached it.
//!
//! ```text
//! step     changes an object, and remembers the change as wanted once the API server has acknowledged it
//! observe  reads the counter that the controller's memory must not fall behind
//! pending  lists objects that have not reached their wanted state
//! settled  checks the counter, and removes leftovers of deleted objects
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use wasmop_testbed::log::Log;

use super::log_summary::LogSummary;
use crate::guests::Guest;
use crate::probe::{Probe, ProbeSpec, spec};
use crate::test_cluster::TIMEOUT;

/// The interval at which a run polls for a condition.
pub const POLL: Duration = Duration::from_millis(15);
/// Objects that exist for the whole run, one for each kind of memory and timer.
const PERMANENT: [&str; 4] = ["child", "requeue", "random", "heap"];
/// Actions of objects that come and go.
const PASSING: [&str; 6] = ["child", "child", "child", "sleep", "error", "conflict"];
const MOST_OBJECTS: usize = 9;
const FEWEST_OBJECTS: usize = 5;
/// Consecutive changes before a pause.
const BURST: u64 = 4;
/// The longest pause. Pauses are longer and shorter than the idle time before a suspend.
const PAUSE: Duration = Duration::from_millis(350);
/// Memory that the guest holds, in MiB. With this much, its first snapshot becomes its own base image.
const MOST_HEAP: u64 = 6;
/// Delays longer than `--suspend-after`, and long enough to make a suspend worthwhile.
const REQUEUE_MS: std::ops::Range<u64> = 250..500;
const SLEEP_MS: std::ops::Range<u64> = 20..300;

/// The wanted state of an object.
#[derive(Clone, Debug)]
struct Wanted {
    spec: ProbeSpec,
    /// The object had the guest's finalizer, so its deletion must run a cleanup.
    has_finalizer: bool,
    deleted: bool,
}

/// One controller and its objects.
pub struct Workload {
    pub guest: Guest,
    probes: Api<Probe>,
    config_maps: Api<ConfigMap>,
    objects: BTreeMap<String, Wanted>,
    /// Makes names and values unique.
    next: u64,
    /// The highest counter that a snapshot contains. The guest must not count from less.
    floor: u64,
    /// Counters read from the API server, each with the length of the log after the read.
    observed: Vec<(usize, u64)>,
    /// Counters that the previous host wrote. They may come from memory that was lost.
    stale: HashMap<String, u64>,
}

impl Workload {
    /// Creates the permanent objects.
    pub async fn create(client: &Client, guest: Guest) -> Result<Workload> {
        let mut workload = Workload {
            probes: Api::namespaced(client.clone(), guest.name),
            config_maps: Api::namespaced(client.clone(), guest.name),
            guest,
            objects: BTreeMap::new(),
            next: 0,
            floor: 0,
            observed: Vec::new(),
            stale: HashMap::new(),
        };
        workload.create_permanent().await?;
        Ok(workload)
    }

    async fn create_permanent(&mut self) -> Result<()> {
        for action in PERMANENT {
            let spec = ProbeSpec { delay_ms: REQUEUE_MS.start, count: 1, ..spec(action, "first") };
            self.add(action.to_owned(), spec).await?;
        }
        Ok(())
    }

    async fn add(&mut self, name: String, spec: ProbeSpec) -> Result<()> {
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            labels: Some([("guest".to_owned(), self.guest.name.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let probe = Probe { metadata, spec: spec.clone(), status: None };
        self.probes.create(&PostParams::default(), &probe).await.with_context(|| format!("creating {name}"))?;
        self.objects.insert(name, Wanted { spec, has_finalizer: false, deleted: false });
        Ok(())
    }

    /// Creates, changes or deletes an object.
    pub async fn step(&mut self, rng: &mut impl Rng) -> Result<()> {
        self.next += 1;
        let live: Vec<String> =
            self.objects.iter().filter(|(_, wanted)| !wanted.deleted).map(|(name, _)| name.clone()).collect();
        let passing: Vec<&String> = live.iter().filter(|name| !PERMANENT.contains(&name.as_str())).collect();
        let dice = rng.random_range(0..100);
        if live.len() < FEWEST_OBJECTS || (live.len() < MOST_OBJECTS && dice < 25) {
            let action = PASSING.choose(rng).copied().unwrap_or("child");
            let spec = self.draw(action, None, rng);
            return self.add(format!("{action}-{}", self.next), spec).await;
        }
        if let Some(name) = passing.choose(rng).filter(|_| dice >= 80 && live.len() > FEWEST_OBJECTS) {
            self.probes.delete(name, &DeleteParams::default()).await.with_context(|| format!("deleting {name}"))?;
            self.objects.entry((*name).clone()).and_modify(|wanted| wanted.deleted = true);
            return Ok(());
        }
        let name = live.choose(rng).context("no objects")?;
        self.change(name, rng).await
    }

    async fn change(&mut self, name: &str, rng: &mut impl Rng) -> Result<()> {
        self.next += 1;
        let before = self.objects.get(name).with_context(|| format!("{name} is not ours"))?.spec.clone();
        let spec = self.draw(&before.action, Some(&before), rng);
        let patch = Patch::Merge(serde_json::json!({ "spec": spec }));
        self.probes.patch(name, &PatchParams::default(), &patch).await.with_context(|| format!("changing {name}"))?;
        self.objects.entry(name.to_owned()).and_modify(|wanted| wanted.spec = spec);
        Ok(())
    }

    fn draw(&self, action: &str, before: Option<&ProbeSpec>, rng: &mut impl Rng) -> ProbeSpec {
        let (delay_ms, count) = match action {
            "requeue" => (rng.random_range(REQUEUE_MS), 0),
            "sleep" => (rng.random_range(SLEEP_MS), 0),
            // Errors that the guest has already returned count.
            "error" => (0, before.map_or(1, |before| before.count) + rng.random_range(0..2)),
            "heap" => (0, rng.random_range(1..=MOST_HEAP)),
            _ => (0, 0),
        };
        ProbeSpec { delay_ms, count, ..spec(action, &format!("value {}", self.next)) }
    }

    /// Changes the permanent child, which resumes a suspended controller.
    pub async fn nudge(&mut self, rng: &mut impl Rng) -> Result<()> {
        self.change(PERMANENT[0], rng).await
    }

    /// Runs bursts of steps with pauses between them until `stop` is set.
    pub async fn load(&mut self, rng: &mut impl Rng, log: &Mutex<Log>, mut stop: watch::Receiver<bool>) -> Result<()> {
        while !*stop.borrow() {
            for _ in 0..rng.random_range(1..=BURST) {
                self.step(rng).await?;
            }
            self.observe(log).await?;
            tokio::select! {
                () = tokio::time::sleep(PAUSE.mul_f64(rng.random())) => {}
                _ = stop.changed() => break,
            }
            self.observe(log).await?;
        }
        Ok(())
    }

    /// Reads all counters that this host's guest has written.
    pub async fn observe(&mut self, log: &Mutex<Log>) -> Result<()> {
        let probes = self.probes.list(&ListParams::default()).await?;
        // Read after the counters: later records belong to later events.
        let position = log.lock().unwrap_or_else(PoisonError::into_inner).position()?;
        for probe in &probes {
            let total = probe.observed().total;
            if self.stale.get(&probe.name_any()) != Some(&total) {
                self.observed.push((position, total));
            }
            if let Some(wanted) = self.objects.get_mut(&probe.name_any())
                && !wanted.deleted
            {
                wanted.has_finalizer |= !probe.finalizers().is_empty();
            }
        }
        Ok(())
    }

    /// The host was killed. Every count from before the controller's last suspension is in a snapshot: a step ends before
    /// its requests are sent, and no step runs during a save.
    pub fn killed(&mut self, summary: &LogSummary) {
        let suspended = summary.suspended.get(self.guest.name);
        let counted = self.observed.drain(..).filter(|(position, _)| suspended.is_some_and(|last| position <= last));
        self.floor = counted.map(|(_, total)| total).chain([self.floor]).max().unwrap_or_default();
    }

    /// The host has suspended everything and stopped: no count may be lost.
    pub async fn finished(&mut self) -> Result<()> {
        self.observed.clear();
        let probes = self.probes.list(&ListParams::default()).await?;
        let counted = probes.iter().map(|probe| (probe.name_any(), probe.observed().total));
        let counted = counted.filter(|(name, total)| self.stale.get(name) != Some(total)).map(|(_, total)| total);
        self.floor = counted.chain([self.floor]).max().unwrap_or_default();
        Ok(())
    }

    /// A new host starts. It need not know the counters of the previous one.
    pub async fn begun(&mut self) -> Result<()> {
        let probes = self.probes.list(&ListParams::default()).await?;
        self.stale = probes.iter().map(|probe| (probe.name_any(), probe.observed().total)).collect();
        Ok(())
    }

    /// The controller's directory was removed.
    pub fn forget(&mut self) {
        self.floor = 0;
    }

    /// Whether a snapshot contains a counter.
    pub fn has_memory(&self) -> bool {
        self.floor > 0
    }

    /// Objects that have not reached their wanted state, by the API server now and the log before.
    pub async fn pending(&mut self, summary: &LogSummary) -> Result<Vec<String>> {
        let guest = self.guest.name;
        if !summary.ready.contains_key(guest) {
            return Ok(vec![format!("{guest} is not ready")]);
        }
        // Children and cleanup ConfigMaps precede a status or a finalizer, so they are read later.
        let probes = self.probes.list(&ListParams::default()).await?;
        let config_maps = self.config_maps.list(&ListParams::default()).await?;
        let probes: HashMap<String, Probe> = probes.into_iter().map(|probe| (probe.name_any(), probe)).collect();
        let values: HashMap<String, String> = config_maps
            .into_iter()
            .map(|child| (child.name_any(), child.data.and_then(|mut data| data.remove("value")).unwrap_or_default()))
            .collect();
        let mut pending = Vec::new();
        for (name, wanted) in &self.objects {
            let probe = probes.get(name);
            let value = values.get(name);
            let reconciled = summary.reconciled.get(&format!("{guest}/{name}")).copied().unwrap_or_default();
            match why_pending(wanted, probe, value, values.get(&cleanup_name(name)), reconciled) {
                Ok(None) => {}
                Ok(Some(why)) => pending.push(format!("{guest}/{name}: {why}")),
                Err(error) => return Err(error.context(format!("{guest}/{name}"))),
            }
        }
        Ok(pending)
    }

    /// Checks that the guest's memory continues from its counters, once every object has its wanted state.
    ///
    /// Returns the number of objects, and removes leftovers of deleted ones.
    pub async fn settled(&mut self, rng: &mut impl Rng, timeout: Duration) -> Result<usize> {
        let (name, guest) = (PERMANENT[0], self.guest.name);
        self.nudge(rng).await?;
        let deadline = tokio::time::Instant::now() + timeout;
        let status = loop {
            let probe = self.probes.get(name).await?;
            if probe.is_current() {
                break probe.observed();
            }
            ensure!(tokio::time::Instant::now() < deadline, "{guest}/{name}: not reconciled after {timeout:?}");
            tokio::time::sleep(POLL).await;
        };
        ensure!(
            status.total > self.floor,
            "{guest} has lost counts from before its last suspension: {} then, {} now",
            self.floor,
            status.total
        );
        let objects = self.objects.len();
        let gone = self.objects.extract_if(.., |_, wanted| wanted.deleted).collect::<Vec<_>>();
        for (name, wanted) in gone {
            match self.config_maps.delete(&cleanup_name(&name), &DeleteParams::default()).await {
                // The object was deleted before the guest added its finalizer.
                Err(kube::Error::Api(status)) if status.is_not_found() && !wanted.has_finalizer => {}
                result => {
                    result?;
                }
            }
        }
        Ok(objects)
    }

    /// ConfigMaps of deleted objects. The cluster's garbage collector removes them later.
    pub async fn orphans(&self) -> Result<Vec<String>> {
        let config_maps = self.config_maps.list(&ListParams::default()).await?;
        let is_ours = |name: &String| self.objects.contains_key(name) || name == "kube-root-ca.crt";
        Ok(config_maps.iter().map(ResourceExt::name_any).filter(|name| !is_ours(name)).collect())
    }

    /// Deletes all objects without a host, and creates the permanent ones again.
    pub async fn reset(&mut self) -> Result<()> {
        for probe in self.probes.list(&ListParams::default()).await? {
            let name = probe.name_any();
            let patch = Patch::Merge(serde_json::json!({ "metadata": { "finalizers": null } }));
            self.probes.patch(&name, &PatchParams::default(), &patch).await?;
            match self.probes.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                result => {
                    result?;
                }
            }
        }
        self.config_maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        self.objects.clear();
        self.observed.clear();
        self.floor = 0;
        self.create_permanent().await
    }
}

/// [`Workload::pending`] of all workloads.
pub async fn all_pending(workloads: &mut [Workload], summary: &LogSummary) -> Result<Vec<String>> {
    Ok(try_join_all(workloads.iter_mut().map(|workload| workload.pending(summary))).await?.concat())
}

/// [`Workload::settled`] of all workloads. Returns the number of all objects.
pub async fn all_settled(workloads: &mut [Workload], rng: &mut StdRng) -> Result<u64> {
    let settled = workloads.iter_mut().map(|workload| {
        let mut rng = StdRng::from_rng(rng);
        async move { workload.settled(&mut rng, TIMEOUT).await }
    });
    let settled: Vec<_> = settled.collect();
    let objects = join_all(settled).await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(objects.into_iter().sum::<usize>() as u64)
}

/// The ConfigMap that the guest leaves behind after a cleanup.
fn cleanup_name(name: &str) -> String {
    format!("{name}-deleted")
}

/// Why the object has not reached its wanted state. An error if it never will.
fn why_pending(
    wanted: &Wanted,
    probe: Option<&Probe>,
    child: Option<&String>,
    trace: Option<&String>,
    reconciled: u64,
) -> Result<Option<String>> {
    let Wanted { spec, has_finalizer, deleted } = wanted;
    let (probe, status) = match probe {
        Some(probe) if *deleted => return Ok(Some(format!("still there, with finalizers {:?}", probe.finalizers()))),
        None if !deleted => bail!("it is gone without a deletion"),
        None => {
            // The object is gone, so its cleanup has run or never will.
            let clean = !has_finalizer || trace == Some(&spec.value);
            ensure!(clean, "it is gone, and its cleanup has left {trace:?} instead of {:?}", spec.value);
            return Ok(None);
        }
        Some(probe) => (probe, probe.observed()),
    };
    ensure!(probe.spec.value == spec.value, "its spec is {:?} instead of {:?}", probe.spec.value, spec.value);
    if !probe.is_current() {
        return Ok(Some(format!("generation {:?}, status {status:?}", probe.metadata.generation)));
    }
    if status.value != spec.value {
        return Ok(Some(format!("its status is about {:?} instead of {:?}", status.value, spec.value)));
    }
    // The echo reports damaged memory of the guest.
    ensure!(spec.action != "random" || status.echo.ends_with(",ok"), "the guest's memory is damaged: {}", status.echo);
    if spec.action == "child" && child != Some(&spec.value) {
        return Ok(Some(format!("its child is {child:?} instead of {:?}", spec.value)));
    }
    // A host need not reconcile an unchanged object, but a timer must continue.
    let least = u64::from(spec.action == "requeue");
    Ok((reconciled < least).then(|| format!("{reconciled} reconciles since the host was started")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ProbeStatus;

    fn wanted(action: &str) -> Wanted {
        Wanted { spec: spec(action, "two"), has_finalizer: true, deleted: false }
    }

    fn probe(action: &str, status: &str) -> Probe {
        let metadata = ObjectMeta { generation: Some(2), ..ObjectMeta::default() };
        let status = ProbeStatus { observed_generation: 2, value: status.into(), ..ProbeStatus::default() };
        Probe { metadata, spec: spec(action, "two"), status: Some(status) }
    }

    #[test]
    fn an_object_is_pending_until_status_child_and_log_agree() {
        let two = "two".to_owned();
        let why = |status, child, reconciled| {
            why_pending(&wanted("child"), Some(&probe("child", status)), child, None, reconciled).unwrap()
        };
        assert_eq!(why("two", Some(&two), 1), None);
        assert!(why("one", Some(&two), 1).unwrap().contains("status"));
        assert!(why("two", None, 1).unwrap().contains("child"));
        assert_eq!(why("two", Some(&two), 0), None);
        let timer = why_pending(&wanted("requeue"), Some(&probe("requeue", "two")), None, None, 0).unwrap();
        assert!(timer.unwrap().contains("0 reconciles"));
    }

    #[test]
    fn an_unreachable_state_is_an_error() {
        let (one, two) = ("one".to_owned(), "two".to_owned());
        let deleted = Wanted { deleted: true, ..wanted("child") };
        let fails = |wanted: &Wanted, probe: Option<&Probe>, trace| why_pending(wanted, probe, None, trace, 1).is_err();
        assert!(fails(&wanted("child"), None, None), "gone without being deleted");
        assert!(fails(&deleted, None, None), "no cleanup");
        assert!(fails(&deleted, None, Some(&one)), "cleanup of an older state");
        assert!(!fails(&deleted, None, Some(&two)));
        let damaged = probe("random", "two");
        assert!(fails(&wanted("random"), Some(&damaged), None), "its echo does not end with `ok`");
    }
}
