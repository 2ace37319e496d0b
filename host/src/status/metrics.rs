//! Writes the status as Prometheus or OpenMetrics text. `docs/metrics.md` lists every metric; a test compares.
//!
//! Metrics have the names of controller-runtime and client-go where those exist, so that dashboards and alerts work.

use std::fmt::{Error, Write};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};
use wasmop_api::request_counts::RequestCounts;
use wasmop_core::limits::problem::Limit;
use wasmop_core::status::counters::{
    CachedRead, HOST_BOUNDS, IgnoredChange, RECONCILE_BOUNDS, RESUME_BOUNDS, ReconcileResult, Trouble, total,
};
use wasmop_core::status::observed::{Controller, Observed};
use wasmop_core::status::state::State;

use super::values::ProcessStatus;

/// The format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Prometheus,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format for an `Accept` header: OpenMetrics if the scraper accepts it, as Prometheus does.
    pub fn of(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All values of one scrape.
#[derive(Clone)]
pub struct Page {
    pub observed: Arc<Observed>,
    pub requests: Arc<RequestCounts>,
    pub external_requests: Arc<RequestCounts>,
    pub process: ProcessStatus,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// Writes the text in pieces of some kilobytes.
    pub fn write(self, format: Format, out: &mut impl Write) -> Result<(), Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        match format {
            Format::Prometheus => prometheus_text::encode(out, &registry),
            Format::OpenMetrics => text::encode(out, &registry),
        }
    }
}

/// Writes metric families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauge<L: EncodeLabelSet>(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        values: impl Iterator<Item = (L, impl EncodeGaugeValue)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// `name` is without `_total`.
    fn counter<L: EncodeLabelSet>(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        values: impl Iterator<Item = (L, impl EncodeCounterValue)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in values {
            let none: Option<&Exemplar<NoLabelSet, f64>> = None;
            family.encode_family(&labels)?.encode_counter(&value, none)?;
        }
        Ok(())
    }

    /// Leaves out histograms without observations.
    fn histogram<'v, L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        bounds: &[f64],
        values: impl Iterator<Item = (L, (&'v [u32], f64))>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, (counts, sum)) in values.filter(|(_, (counts, _))| total(counts) > 0) {
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(counts.iter().map(|n| u64::from(*n))).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, total(counts), &buckets, None)?;
        }
        Ok(())
    }
}

/// No labels.
const NONE: [(&str, &str); 0] = [];

fn one<V>(value: V) -> impl Iterator<Item = ([(&'static str, &'static str); 0], V)> {
    std::iter::once((NONE, value))
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), Error> {
        let mut out = Families(encoder);
        self.reconciling(&mut out)?;
        self.instances(&mut out)?;
        self.snapshots(&mut out)?;
        self.troubles(&mut out)?;
        self.host(&mut out)?;
        self.watching(&mut out)?;
        self.process(&mut out)
    }
}

impl Page {
    fn each<'a, V>(
        &'a self,
        value: impl Fn(&'a Controller) -> V + 'a,
    ) -> impl Iterator<Item = ([(&'static str, &'a str); 1], V)> {
        self.observed.controllers.iter().map(move |c| ([("controller", &*c.name)], value(c)))
    }

    /// A series for each value of `all` of each controller.
    fn each_of<'a, K: Copy + 'static, V>(
        &'a self,
        label: &'static str,
        all: &'static [K],
        text: impl Fn(K) -> &'static str + Copy + 'a,
        value: impl Fn(&'a Controller, K) -> V + Copy + 'a,
    ) -> impl Iterator<Item = ([(&'static str, &'a str); 2], V)> {
        self.observed.controllers.iter().flat_map(move |c| {
            all.iter().map(move |kind| ([("controller", &*c.name), (label, text(*kind))], value(c, *kind)))
        })
    }

    /// The controllers that have had trouble.
    fn in_trouble(&self) -> impl Iterator<Item = (&str, &Trouble)> {
        self.observed.controllers.iter().filter_map(|c| Some((&*c.name, c.counters.trouble()?)))
    }

    fn reconciling(&self, out: &mut Families<'_>) -> Result<(), Error> {
        out.counter(
            ("controller_runtime_reconcile", None, "Reconciles that ended, by result"),
            self.each_of("result", &ReconcileResult::ALL, ReconcileResult::as_str, |c, result| {
                c.counters.reconciles_with(result)
            }),
        )?;
        out.counter(
            ("controller_runtime_reconcile_errors", None, "Reconciles that ended with an error or were cancelled"),
            self.each(|c| c.counters.reconciles_with(ReconcileResult::Error)),
        )?;
        out.histogram(
            (
                "controller_runtime_reconcile_time",
                "Time from delivering an object to a controller to its result, including time on disk",
            ),
            &RECONCILE_BOUNDS,
            self.each(|c| c.counters.reconciles()),
        )?;
        out.gauge(
            ("controller_runtime_active_workers", None, "Objects being reconciled"),
            self.each(|c| c.active as u64),
        )?;
        out.gauge(("workqueue_depth", None, "Objects ready to be reconciled"), self.each(|c| c.queue.depth as u64))?;
        out.gauge(
            ("wasmop_workqueue_delayed", None, "Objects that wait for their time: requeues and backoff"),
            self.each(|c| c.queue.delayed as u64),
        )?;
        out.counter(
            ("workqueue_adds", None, "Objects added to the work queue, except for those already in it"),
            self.each(|c| c.queue.adds),
        )?;
        out.counter(("workqueue_retries", None, "Objects put back with backoff"), self.each(|c| c.queue.retries))?;
        out.counter(
            ("wasmop_changes_ignored", None, "Changes of watched objects that caused no reconcile, by reason"),
            self.each_of("reason", &IgnoredChange::ALL, IgnoredChange::as_str, |c, why| {
                c.counters.changes_ignored(why)
            }),
        )?;
        out.counter(
            ("wasmop_cached_reads", None, "Reads that may come from the host's cache, by result"),
            self.observed.controllers.iter().flat_map(|c| {
                let labels = |result: CachedRead| [("controller", &*c.name), ("result", result.as_str())];
                c.counters.cached_reads().map(move |(result, n)| (labels(result), n))
            }),
        )
    }

    fn instances(&self, out: &mut Families<'_>) -> Result<(), Error> {
        out.gauge(
            ("wasmop_controller_state", None, "Where the controller's instance is: 1 for that state"),
            self.each_of("state", &State::ALL, State::as_str, |c, state| u64::from(c.state == state)),
        )?;
        out.gauge(
            ("wasmop_controller_resident", Some(Unit::Bytes), "Memory that suspending the controller gives back"),
            self.each(|c| c.resident_bytes),
        )?;
        out.gauge(
            ("wasmop_controller_disk", Some(Unit::Bytes), "Size of the newest snapshot on disk"),
            self.each(|c| c.counters.disk_bytes()),
        )?;
        out.histogram(
            ("wasmop_resume", "Time to resume the controller from its snapshot"),
            &RESUME_BOUNDS,
            self.each(|c| c.counters.resumes()),
        )?;
        out.counter(("wasmop_resumes", None, "Resumes from a snapshot"), self.each(|c| total(c.counters.resumes().0)))?;
        out.counter(
            ("wasmop_suspends", None, "Times the controller was suspended to disk"),
            self.each(|c| u64::from(c.counters.suspends)),
        )?;
        out.counter(
            ("wasmop_steps", None, "Runs of the controller's code"),
            self.each(|c| u64::from(c.counters.steps)),
        )?;
        out.counter(
            ("wasmop_step", Some(Unit::Seconds), "Time the controller's code ran, which is its CPU time"),
            self.each(|c| c.counters.step_seconds()),
        )
    }

    fn snapshots(&self, out: &mut Families<'_>) -> Result<(), Error> {
        out.counter(
            ("wasmop_snapshot_written", Some(Unit::Bytes), "Bytes written to disk for snapshots"),
            self.each(|c| c.counters.written_bytes),
        )?;
        out.gauge(
            (
                "wasmop_snapshot_failing",
                None,
                "1 while the controller's snapshots cannot be written or flushed to disk; absent otherwise",
            ),
            self.in_trouble().filter_map(|(name, trouble)| {
                let failing = trouble.failing.as_ref()?;
                Some(([("controller", name), ("reason", failing.reason.as_str())], 1))
            }),
        )?;
        out.counter(
            ("wasmop_snapshot_failures", None, "Snapshots that could not be written or flushed to disk, by reason"),
            self.in_trouble().flat_map(|(name, trouble)| {
                trouble.save_failures().map(move |(reason, n)| ([("controller", name), ("reason", reason.as_str())], n))
            }),
        )
    }

    fn troubles(&self, out: &mut Families<'_>) -> Result<(), Error> {
        out.counter(
            ("wasmop_restarts", None, "Times the controller's instance was lost and restarted"),
            self.each(|c| c.counters.trouble().map_or(0, |t| u64::from(t.restarts))),
        )?;
        out.counter(
            ("wasmop_step_failures", None, "Steps that trapped and were rolled back, by cause"),
            self.in_trouble().flat_map(|(name, trouble)| {
                trouble.step_failures().map(move |(cause, n)| ([("controller", name), ("cause", cause.as_str())], n))
            }),
        )?;
        out.counter(
            ("wasmop_limit_hits", None, "Times a limit of the controller was met, other than by steps that failed"),
            self.in_trouble().flat_map(|(name, trouble)| {
                trouble.limit_hits().map(move |(limit, n)| ([("controller", name), ("limit", limit.as_str())], n))
            }),
        )?;
        out.counter(
            ("wasmop_throttled", Some(Unit::Seconds), "Time for which the controller or its requests were throttled"),
            self.in_trouble().flat_map(|(name, trouble)| {
                let labels = move |limit: Limit| [("controller", name), ("limit", limit.as_str())];
                trouble.throttled().map(move |(limit, seconds)| (labels(limit), seconds))
            }),
        )
    }

    fn host(&self, out: &mut Families<'_>) -> Result<(), Error> {
        let Observed { controllers, totals, spare_bytes, code_bytes, memory_budget, cached, cache_memory, .. } =
            &*self.observed;
        out.gauge(
            ("wasmop_controllers", None, "Controllers by where their instances are"),
            State::ALL.iter().map(|state| {
                let n = controllers.iter().filter(|c| c.state == *state).count();
                ([("state", state.as_str())], n as u64)
            }),
        )?;
        let election = self.observed.election.is_some();
        let leads = |c: &Controller| u64::from(!matches!(c.state, State::Standby | State::Failed));
        out.gauge(
            (
                "leader_election_master_status",
                None,
                "1 if this host holds the controller's Lease; absent if it shares controllers with no other host",
            ),
            controllers.iter().filter(|_| election).map(|c| ([("name", &*c.name)], leads(c))),
        )?;
        out.gauge(
            ("wasmop_spare_memory", Some(Unit::Bytes), "Memory of suspended instances kept for the next resumes"),
            one(*spare_bytes),
        )?;
        out.gauge(("wasmop_code", Some(Unit::Bytes), "Compiled code of all packages, on disk"), one(*code_bytes))?;
        out.gauge(
            (
                "wasmop_memory_budget",
                Some(Unit::Bytes),
                "Memory limit of all resident controllers; absent if unlimited",
            ),
            memory_budget.iter().map(|budget| (NONE, *budget)),
        )?;
        out.gauge(
            ("wasmop_cached_objects", Some(Unit::Bytes), "Whole objects that watches keep, as JSON"),
            one(cached.bytes),
        )?;
        out.gauge(
            ("wasmop_cache_memory", Some(Unit::Bytes), "Memory limit of whole objects of watches; absent if unlimited"),
            cache_memory.iter().map(|limit| (NONE, *limit)),
        )?;
        out.counter(
            ("wasmop_uncached_objects", None, "Times a watched object was not kept whole because of the limit"),
            one(cached.refused),
        )?;
        out.histogram(
            ("wasmop_step_duration", "Duration of steps of all controllers"),
            &HOST_BOUNDS,
            one((&totals.steps.buckets[..], totals.steps.seconds())),
        )?;
        out.histogram(
            ("wasmop_suspend_duration", "Time to write a snapshot, of all controllers, fsync not included"),
            &HOST_BOUNDS,
            one((&totals.suspends.buckets[..], totals.suspends.seconds())),
        )?;
        let requests = self.requests.all();
        out.counter(
            (
                "rest_client_requests",
                None,
                "Requests to the API server, by the host and by controllers, by method and code",
            ),
            requests.iter().map(|(method, code, n)| ([("code", &**code), ("method", *method)], *n)),
        )?;
        let requests = self.external_requests.all();
        out.counter(
            ("wasmop_external_requests", None, "Requests of controllers to external hosts, by method and code"),
            requests.iter().map(|(method, code, n)| ([("code", &**code), ("method", *method)], *n)),
        )?;
        out.gauge(
            ("wasmop_build_info", None, "1, labelled with the version of wasmop"),
            std::iter::once(([("version", env!("CARGO_PKG_VERSION"))], 1)),
        )
    }

    fn watching(&self, out: &mut Families<'_>) -> Result<(), Error> {
        // Watches of one resource may differ in namespace, selectors and identity.
        let mut resources: Vec<(&str, [u64; 5])> = Vec::new();
        for watch in &self.observed.watches {
            let follows = u64::from(watch.follows);
            let more = [1 - follows, u64::from(watch.waiting.is_some()), watch.objects as u64, watch.lists, follows];
            match resources.iter_mut().find(|(resource, _)| *resource == watch.resource) {
                Some((_, sums)) => sums.iter_mut().zip(more).for_each(|(sum, n)| *sum += n),
                None => resources.push((&watch.resource, more)),
            }
        }
        let sum = |at: usize| resources.iter().map(move |(resource, sums)| ([("resource", *resource)], sums[at]));
        out.gauge(("wasmop_watches", None, "Watches on the API server"), sum(0))?;
        out.gauge(
            (
                "wasmop_watches_derived",
                None,
                "Watches derived from a wider one, without a connection to the API server",
            ),
            sum(4),
        )?;
        out.gauge(("wasmop_watches_waiting", None, "Watches that cannot list or watch now"), sum(1))?;
        out.gauge(("wasmop_watched_objects", None, "Objects the host keeps the metadata of"), sum(2))?;
        out.counter(("wasmop_watch_lists", None, "Lists started: the first of each watch, and relists"), sum(3))?;
        out.counter(
            ("wasmop_watch_events", None, "Changes of watched objects, before any predicate"),
            one(self.observed.totals.watch_events),
        )?;
        let guests = self.observed.guest_watches;
        out.gauge(("wasmop_guest_watches", None, "Watches of guest-driven packages"), one(guests.watches as u64))?;
        out.gauge(
            ("wasmop_guest_watch_connections", None, "Connections to the API server that serve them"),
            one(guests.connections as u64),
        )
    }

    fn process(&self, out: &mut Families<'_>) -> Result<(), Error> {
        let process = &self.process;
        out.counter(("process_cpu", Some(Unit::Seconds), "User and system CPU time"), one(process.cpu_seconds))?;
        out.gauge(
            ("process_resident_memory", Some(Unit::Bytes), "Resident set size, shared pages included"),
            one(process.resident_memory_bytes),
        )?;
        out.gauge(
            ("process_virtual_memory", Some(Unit::Bytes), "Virtual memory size"),
            one(process.virtual_memory_bytes),
        )?;
        out.gauge(("process_open_fds", None, "Open file descriptors"), one(process.open_fds))?;
        out.gauge(("process_max_fds", None, "Most file descriptors that may be open"), one(process.max_fds))?;
        out.gauge(("process_threads", None, "Threads"), one(process.threads))?;
        out.gauge(
            ("process_start_time", Some(Unit::Seconds), "When the process started, Unix time"),
            one(process.start_time_seconds),
        )
    }
}

#[cfg(test)]
mod tests;
