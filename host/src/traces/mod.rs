//! Records reconciles as OpenTelemetry spans, from the work queue to the outcome, with the resumes, steps, requests and
//! suspends in between.
//!
//! ```text
//! reconcile                     the task, from the work queue to its outcome
//! ├── resume                    the instance resumes for the next step
//! ├── step                      the guest runs with the delivered events
//! ├── GET, PATCH, …             a request, until the last byte of its response: see `request`
//! └── suspend, checkpoint       the instance is written to disk
//! suspend                       ... with nothing in flight: a separate trace, linked to the reconciles before it
//! ```
//!
//! Reconciles outlast steps and are interleaved, so this module keeps their spans by task, and never as the current
//! span of a thread. It keeps only sampled spans in flight, and a few ids of reconciles since the last resume. A
//! suspended idle controller has none.

mod request;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::global::BoxedSpan;
pub use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{Link, Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use wasmop_core::controller::Outcome;
use wasmop_core::excerpt::excerpt;
use wasmop_package::Tier;
use wasmop_package::manifest::ControllerSpec;

pub use self::request::{Peer, RequestSpan};

/// Most reconciles in flight that get a span for a step or suspend shared by all, and most links of a suspend.
const MAX_SHARED: usize = 16;

/// A reconcile that starts.
pub struct Begin<'a> {
    pub controller: &'a str,
    pub package: (&'a str, &'a str),
    pub tier: Tier,
    pub registration: &'a ControllerSpec,
    /// `namespace/name`, or `name`.
    pub object: &'a str,
    pub at: Instant,
    /// 1, and one more for each failure in a row.
    pub attempt: u32,
    /// Time in the work queue; `None` if it continues after a restart of the host.
    pub waited: Option<Duration>,
}

/// The work of one delivery of events to an instance.
pub struct Stepped {
    pub begun: Instant,
    /// Duration of the resume, if the instance was suspended.
    pub resume: Option<Duration>,
    /// Duration of the steps.
    pub step: Duration,
    /// CPU time of resume and steps.
    pub cpu: Duration,
    pub events: usize,
    /// Number of steps rolled back.
    pub rolled_back: usize,
    /// Cause of the last rollback.
    pub cause: Option<&'static str>,
}

/// An instance that was written to disk.
pub struct Suspended<'a> {
    pub controller: &'a str,
    /// The instance stays in memory.
    pub checkpoint: bool,
    pub reason: &'static str,
    pub begun: Instant,
    pub took: Duration,
    pub result: Result<SuspendedBytes, String>,
}

/// Sizes of a snapshot, bytes.
pub struct SuspendedBytes {
    /// Bytes of pages that differ from the base image; in the soft tier, of pages that were only in memory.
    pub dirty: u64,
    pub written: u64,
    /// Size of the snapshot.
    pub on_disk: u64,
}

/// Times of one trace from a single reading of the wall clock, so that spans nest even if the clock is set.
#[derive(Clone, Copy)]
struct Clock {
    wall: SystemTime,
    at: Instant,
}

impl Clock {
    fn now() -> Clock {
        Clock { wall: SystemTime::now(), at: Instant::now() }
    }

    fn time(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(later) => self.wall + later,
            None => self.wall - self.at.duration_since(at),
        }
    }
}

/// A reconcile whose span is open.
struct Flight {
    span: BoxedSpan,
    clock: Clock,
    /// Whether its status has the reason of the failure.
    blamed: bool,
}

/// A delivery that is with a worker.
struct Batch {
    tasks: Vec<u64>,
    snapshot_bytes: Option<u64>,
}

/// The spans of a host. A slot identifies a controller; slot and task identify a reconcile.
pub struct Traces {
    tracer: BoxedTracer,
    api_server: http::Uri,
    flights: BTreeMap<(u32, u64), Flight>,
    batches: BTreeMap<u32, Batch>,
    /// The last reconciles that ended since the resume.
    served: BTreeMap<u32, VecDeque<SpanContext>>,
}

impl Traces {
    /// `api_server`: its URL.
    pub fn new(tracer: BoxedTracer, api_server: http::Uri) -> Traces {
        Traces { tracer, api_server, flights: BTreeMap::new(), batches: BTreeMap::new(), served: BTreeMap::new() }
    }

    /// A reconcile starts, or continues after a restart of the host.
    pub fn begin(&mut self, slot: u32, task: u64, begin: &Begin<'_>) {
        let clock = Clock::now();
        let Begin { registration, .. } = begin;
        let (namespace, name) = match begin.object.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, begin.object),
        };
        let primary = &registration.primary;
        let api_version = match &*primary.group {
            "" => primary.version.clone(),
            group => format!("{group}/{}", primary.version),
        };
        let mut attributes = vec![
            text("wasmop.controller", begin.controller),
            text("wasmop.package.name", begin.package.0),
            text("wasmop.package.version", begin.package.1),
            KeyValue::new("wasmop.tier", if begin.tier == Tier::Soft { "soft" } else { "full" }),
            text("wasmop.registration", &registration.name),
            text("wasmop.object.api_version", &api_version),
            text("wasmop.object.kind", &primary.kind),
            text("wasmop.object.name", name),
            KeyValue::new("wasmop.reconcile.attempt", i64::from(begin.attempt)),
        ];
        attributes.extend(namespace.map(|namespace| text("k8s.namespace.name", namespace)));
        attributes.push(match begin.waited {
            Some(waited) => KeyValue::new("wasmop.queue.wait", waited.as_secs_f64()),
            None => KeyValue::new("wasmop.continued", true),
        });
        let builder =
            SpanBuilder::from_name("reconcile").with_start_time(clock.time(begin.at)).with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &Context::new());
        if span.is_recording() {
            self.flights.insert((slot, task), Flight { span, clock, blamed: false });
        }
    }

    /// A worker gets events of these tasks. Without tasks only time has passed, which concerns all. `snapshot_bytes`: size
    /// of the snapshot to resume from.
    pub fn stepping(&mut self, slot: u32, tasks: impl Iterator<Item = u64>, snapshot_bytes: Option<u64>) {
        let mut tasks: Vec<u64> = tasks.collect();
        if tasks.is_empty() {
            tasks = self.flights_of(slot).map(|(task, _)| task).take(MAX_SHARED).collect();
        }
        tasks.sort_unstable();
        tasks.dedup();
        tasks.retain(|task| self.flights.contains_key(&(slot, *task)));
        if !tasks.is_empty() {
            self.batches.insert(slot, Batch { tasks, snapshot_bytes });
        }
    }

    /// The worker has finished.
    pub fn stepped(&mut self, slot: u32, stepped: &Stepped) {
        let Some(Batch { tasks, snapshot_bytes }) = self.batches.remove(&slot) else { return };
        let running = stepped.begun + stepped.resume.unwrap_or_default();
        for task in tasks {
            let Some(flight) = self.flights.get(&(slot, task)) else { continue };
            if stepped.resume.is_some() {
                let bytes = snapshot_bytes.map(|bytes| count("wasmop.snapshot.size", bytes));
                let mut span = self.child(flight, "resume", stepped.begun, bytes.into_iter().collect());
                span.end_with_timestamp(flight.clock.time(running));
            }
            let mut attributes = vec![
                count("wasmop.step.events", stepped.events as u64),
                KeyValue::new("wasmop.step.cpu_time", stepped.cpu.as_secs_f64()),
            ];
            if let Some(cause) = stepped.cause {
                attributes.push(count("wasmop.step.rolled_back", stepped.rolled_back as u64));
                attributes.push(KeyValue::new("error.type", cause));
            }
            let mut span = self.child(flight, "step", running, attributes);
            if let Some(cause) = stepped.cause {
                span.set_status(Status::error(format!("a step failed: {cause}")));
            }
            span.end_with_timestamp(flight.clock.time(running + stepped.step));
        }
    }

    /// An event without a duration.
    pub fn event(&mut self, slot: u32, task: u64, name: &'static str, method: &str, path: Option<&str>) {
        let Some(flight) = self.flights.get_mut(&(slot, task)) else { return };
        let mut attributes = vec![request::method(method)];
        attributes.extend(path.map(request::path));
        flight.span.add_event_with_timestamp(name, flight.clock.time(Instant::now()), attributes);
    }

    /// A request of a reconcile starts; `None` if it is not traced.
    pub fn request(&self, slot: u32, task: u64, method: &str, peer: &Peer<'_>) -> Option<Box<RequestSpan>> {
        let flight = self.flights.get(&(slot, task))?;
        let builder =
            request::builder(method, peer, &self.api_server).with_start_time(flight.clock.time(Instant::now()));
        let span = self.tracer.build_with_context(builder, &parent(flight));
        Some(Box::new(RequestSpan::new(span, flight.clock)))
    }

    /// Records why a reconcile is about to be cancelled. `cause`: one of a fixed set.
    pub fn blame(&mut self, slot: u32, task: u64, cause: &'static str, why: &str) {
        let Some(flight) = self.flights.get_mut(&(slot, task)) else { return };
        flight.span.set_attribute(KeyValue::new("error.type", cause));
        flight.span.set_status(Status::error(excerpt(why)));
        flight.blamed = true;
    }

    /// A reconcile ends.
    pub fn end(&mut self, slot: u32, task: u64, outcome: &Outcome) {
        let Some(mut flight) = self.flights.remove(&(slot, task)) else { return };
        let (result, again) = match outcome {
            Outcome::Ok => ("success", None),
            Outcome::Requeue(after) => ("requeue_after", Some(after)),
            Outcome::Error { message, retry_after } => {
                flight.fail("reconcile-error", message);
                ("error", retry_after.as_ref())
            }
            Outcome::Cancelled { retry_after } => {
                flight.fail("cancelled", "cancelled");
                ("cancelled", Some(retry_after))
            }
        };
        flight.span.set_attribute(KeyValue::new("wasmop.reconcile.result", result));
        if let Some(after) = again {
            flight.span.set_attribute(KeyValue::new("wasmop.reconcile.requeue_after", after.as_secs_f64()));
        }
        flight.span.end_with_timestamp(flight.clock.time(Instant::now()));
        let served = self.served.entry(slot).or_default();
        if served.len() == MAX_SHARED {
            served.pop_front();
        }
        served.push_back(flight.span.span_context().clone());
    }

    /// The instance is lost with its reconciles.
    pub fn lost(&mut self, slot: u32, why: &str) {
        self.batches.remove(&slot);
        self.served.remove(&slot);
        for mut flight in self.take(slot) {
            flight.fail("instance-lost", why);
            flight.finish("lost");
        }
    }

    /// Another host may run the controller, and restarts its reconciles.
    pub fn stopped(&mut self, slot: u32) {
        self.batches.remove(&slot);
        self.served.remove(&slot);
        self.take(slot).into_iter().for_each(|flight| flight.finish("interrupted"));
    }

    /// The instance was written to disk, or could not be.
    pub fn suspended(&mut self, slot: u32, suspended: &Suspended<'_>) {
        let Suspended { controller, checkpoint, reason, begun, took, result } = suspended;
        let name = if *checkpoint { "checkpoint" } else { "suspend" };
        let mut attributes =
            vec![text("wasmop.controller", controller), KeyValue::new("wasmop.suspend.reason", *reason)];
        match result {
            Ok(bytes) => attributes.extend([
                count("wasmop.snapshot.dirty", bytes.dirty),
                count("wasmop.snapshot.written", bytes.written),
                count("wasmop.snapshot.size", bytes.on_disk),
            ]),
            Err(_) => attributes.push(KeyValue::new("error.type", "not-written")),
        }
        let served = match result {
            Ok(_) if !checkpoint => self.served.remove(&slot).unwrap_or_default(),
            _ => self.served.get(&slot).cloned().unwrap_or_default(),
        };
        let finish = |mut span: BoxedSpan, clock: Clock| {
            if let Err(why) = result {
                span.set_status(Status::error(excerpt(why)));
            }
            span.end_with_timestamp(clock.time(*begun + *took));
        };
        let mut alone = true;
        for (_, flight) in self.flights_of(slot).take(MAX_SHARED) {
            alone = false;
            finish(self.child(flight, name, *begun, attributes.clone()), flight.clock);
        }
        if alone {
            let clock = Clock::now();
            let links = served.into_iter().map(Link::with_context).collect();
            let builder = SpanBuilder::from_name(name)
                .with_start_time(clock.time(*begun))
                .with_attributes(attributes)
                .with_links(links);
            finish(self.tracer.build_with_context(builder, &Context::new()), clock);
        }
    }

    /// The host ends; the next one continues the reconciles in flight.
    pub fn interrupt(&mut self) {
        std::mem::take(&mut self.flights).into_values().for_each(|flight| flight.finish("interrupted"));
    }

    fn take(&mut self, slot: u32) -> Vec<Flight> {
        self.flights.extract_if((slot, 0)..=(slot, u64::MAX), |_, _| true).map(|(_, flight)| flight).collect()
    }

    fn flights_of(&self, slot: u32) -> impl Iterator<Item = (u64, &Flight)> {
        self.flights.range((slot, 0)..=(slot, u64::MAX)).map(|((_, task), flight)| (*task, flight))
    }

    fn child(&self, flight: &Flight, name: &'static str, at: Instant, attributes: Vec<KeyValue>) -> BoxedSpan {
        let start = flight.clock.time(at);
        let builder = SpanBuilder::from_name(name).with_start_time(start).with_attributes(attributes);
        self.tracer.build_with_context(builder, &parent(flight))
    }
}

impl Flight {
    fn finish(mut self, result: &'static str) {
        self.span.set_attribute(KeyValue::new("wasmop.reconcile.result", result));
        self.span.end_with_timestamp(self.clock.time(Instant::now()));
    }

    /// Records the failure, unless one is recorded already.
    fn fail(&mut self, cause: &'static str, why: &str) {
        if !std::mem::replace(&mut self.blamed, true) {
            self.span.set_attribute(KeyValue::new("error.type", cause));
            self.span.set_status(Status::error(excerpt(why)));
        }
    }
}

/// The context for children of a reconcile's span.
fn parent(flight: &Flight) -> Context {
    Context::new().with_remote_span_context(flight.span.span_context().clone())
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, excerpt(value))
}

fn count(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, Value::I64(i64::try_from(value).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests;
