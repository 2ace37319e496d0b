use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, SpanKind, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use wasmop_core::reply::Reply;
use wasmop_package::external::ExternalTarget;

use super::request::traceparent;
use super::*;

const SPEC: &str = r#"{"name": "sites", "primary": {"group": "demo.dev", "version": "v1", "kind": "Site"}}"#;
const MS: Duration = Duration::from_millis(1);

/// Spans in the order in which they ended.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Spans {
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn traces(sampler: Sampler) -> (Traces, Spans) {
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(spans.clone()).build();
    let tracer = BoxedTracer::new(Box::new(provider.tracer("test")));
    (Traces::new(tracer, "https://[::1]:6443".parse().unwrap()), spans)
}

fn begin(traces: &mut Traces, slot: u32, task: u64, object: &str, waited: Option<Duration>) {
    let registration: ControllerSpec = serde_json::from_str(SPEC).unwrap();
    traces.begin(
        slot,
        task,
        &Begin {
            controller: "website",
            package: ("site", "1.2.3"),
            tier: Tier::Full,
            registration: &registration,
            object,
            at: Instant::now(),
            attempt: 3,
            waited,
        },
    );
}

fn stepped(resume: Option<Duration>, cause: Option<&'static str>) -> Stepped {
    let rolled_back = usize::from(cause.is_some());
    Stepped { begun: Instant::now(), resume, step: 2 * MS, cpu: MS, events: 1, rolled_back, cause }
}

fn suspended(reason: &'static str, checkpoint: bool, result: Result<SuspendedBytes, String>) -> Suspended<'static> {
    Suspended { controller: "website", checkpoint, reason, begun: Instant::now(), took: MS, result }
}

fn bytes() -> Result<SuspendedBytes, String> {
    Ok(SuspendedBytes { dirty: 1, written: 2, on_disk: 3 })
}

fn attributes(span: &SpanData) -> BTreeMap<&str, String> {
    span.attributes.iter().map(|kv| (kv.key.as_str(), kv.value.to_string())).collect()
}

fn names(spans: &[SpanData]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

#[test]
fn spans_of_a_reconcile_are_its_children() {
    let (mut traces, spans) = traces(Sampler::AlwaysOn);
    begin(&mut traces, 0, 7, "web/home", Some(5 * MS));
    traces.stepping(0, [7, 7, 0].into_iter(), Some(4096));
    traces.stepped(0, &stepped(Some(MS), None));
    let path = "/apis/demo.dev/v1/namespaces/web/sites/home?token=secret";
    let mut request = traces.request(0, 7, "PATCH", &Peer::ApiServer { path }).unwrap();
    let traceparent = request.traceparent().unwrap();
    traces.suspended(0, &suspended("idle", false, bytes()));
    request.on_reply(&Reply::Head { status: 200, headers: "x: secret\n".into() });
    request.on_reply(&Reply::Body("secret".into()));
    request.on_reply(&Reply::End);
    drop(request);
    traces.event(0, 7, "read from the cache", "GET", Some("/api/v1/pods?x=secret"));
    std::thread::sleep(4 * MS);
    traces.end(0, 7, &Outcome::Requeue(Duration::from_secs(30)));
    let spans = spans.take();
    assert_eq!(names(&spans), ["resume", "step", "suspend", "PATCH", "reconcile"]);
    let root = spans.last().unwrap();
    for child in &spans[..4] {
        assert_eq!(child.parent_span_id, root.span_context.span_id(), "{}", child.name);
        assert_eq!(child.span_context.trace_id(), root.span_context.trace_id());
        assert!(root.start_time <= child.start_time && child.end_time <= root.end_time, "{}", child.name);
        assert_eq!(child.status, Status::Unset);
    }
    assert_eq!(spans[0].end_time, spans[1].start_time);
    assert_eq!((root.parent_span_id, &root.status), (SpanId::INVALID, &Status::Unset));
    let expected = [
        ("k8s.namespace.name", "web"),
        ("wasmop.controller", "website"),
        ("wasmop.object.api_version", "demo.dev/v1"),
        ("wasmop.object.kind", "Site"),
        ("wasmop.object.name", "home"),
        ("wasmop.package.name", "site"),
        ("wasmop.package.version", "1.2.3"),
        ("wasmop.queue.wait", "0.005"),
        ("wasmop.reconcile.attempt", "3"),
        ("wasmop.reconcile.requeue_after", "30"),
        ("wasmop.reconcile.result", "requeue_after"),
        ("wasmop.registration", "sites"),
        ("wasmop.tier", "full"),
    ];
    assert_eq!(attributes(root), expected.map(|(key, value)| (key, value.to_owned())).into());
    assert_eq!(root.events.events[0].name, "read from the cache");
    assert_eq!(attributes(&spans[0]), [("wasmop.snapshot.size", "4096".into())].into());
    let request = &spans[3];
    assert_eq!(request.span_kind, SpanKind::Client);
    let expected = [
        ("http.request.method", "PATCH"),
        ("http.response.status_code", "200"),
        ("server.address", "::1"),
        ("server.port", "6443"),
        ("url.path", "/apis/demo.dev/v1/namespaces/web/sites/home"),
        ("url.scheme", "https"),
    ];
    assert_eq!(attributes(request), expected.map(|(key, value)| (key, value.to_owned())).into());
    let (trace, span) = (request.span_context.trace_id(), request.span_context.span_id());
    assert_eq!(traceparent, format!("00-{trace}-{span}-01"));
    assert!(!format!("{spans:?}").contains("secret"));
}

#[test]
fn shared_step_has_a_span_in_each_reconcile() {
    let (mut traces, spans) = traces(Sampler::AlwaysOn);
    for (slot, task) in [(0, 1), (0, 2), (0, 3), (1, 1)] {
        begin(&mut traces, slot, task, "home", None);
    }
    traces.stepping(0, [3, 1].into_iter(), None);
    traces.stepped(0, &stepped(None, None));
    assert_eq!(names(&spans.take()), ["step"; 2]);
    traces.stepping(0, std::iter::empty(), None);
    traces.stepped(0, &stepped(Some(MS), None));
    assert_eq!(names(&spans.take()), ["resume", "step", "resume", "step", "resume", "step"]);
    // A map task, and one that is over.
    traces.stepping(0, [9].into_iter(), None);
    traces.stepped(0, &stepped(None, None));
    traces.suspended(1, &suspended("idle", false, bytes()));
    traces.interrupt();
    let spans = spans.take();
    assert_eq!(names(&spans), ["suspend", "reconcile", "reconcile", "reconcile", "reconcile"]);
    assert!(spans[1..].iter().all(|span| attributes(span)["wasmop.reconcile.result"] == "interrupted"));
    assert!(spans[1..].iter().all(|span| attributes(span)["wasmop.continued"] == "true"));
}

#[test]
fn failures_are_the_status_of_their_spans() {
    let error = |why: &str| Status::error(why.to_owned());
    let retry_after = MS;
    let failed = Outcome::Error { message: "no such site".into(), retry_after: Some(retry_after) };
    let cancelled = Outcome::Cancelled { retry_after };
    for (blamed, outcome, result, cause, status) in [
        (None, &failed, "error", "reconcile-error", error("no such site")),
        (None, &cancelled, "cancelled", "cancelled", error("cancelled")),
        (Some("panic"), &cancelled, "cancelled", "panic", error("the reason")),
    ] {
        let (mut traces, spans) = traces(Sampler::AlwaysOn);
        begin(&mut traces, 0, 1, "home", None);
        traces.stepping(0, [1].into_iter(), None);
        traces.stepped(0, &stepped(None, blamed));
        if let Some(blamed) = blamed {
            traces.blame(0, 1, blamed, "the reason");
        }
        traces.end(0, 1, outcome);
        let [step, root] = spans.take().try_into().unwrap();
        assert_eq!((attributes(&root)["wasmop.reconcile.result"].as_str(), &root.status), (result, &status));
        assert_eq!(attributes(&root)["error.type"], cause);
        let rolled_back = attributes(&step).get("wasmop.step.rolled_back").cloned();
        assert_eq!(rolled_back, blamed.map(|_| "1".into()));
        assert_eq!(step.status != Status::Unset, blamed.is_some());
    }
    let (mut traces, spans) = traces(Sampler::AlwaysOn);
    for task in [1, 2] {
        begin(&mut traces, 0, task, "home", None);
    }
    begin(&mut traces, 1, 1, "home", None);
    traces.suspended(0, &suspended("idle", false, Err("the disk is full".into())));
    traces.lost(0, "no single reconcile could be blamed");
    let (spans, spans_of) = (spans.take(), spans);
    assert_eq!(names(&spans), ["suspend", "suspend", "reconcile", "reconcile"]);
    assert_eq!(spans[0].status, error("the disk is full"));
    assert_eq!(spans[3].status, error("no single reconcile could be blamed"));
    assert_eq!(attributes(&spans[3])["error.type"], "instance-lost");
    // A restart on another host is not a failure.
    traces.stopped(1);
    let [moved] = spans_of.take().try_into().unwrap();
    assert_eq!((&*moved.name, &moved.status), ("reconcile", &Status::Unset));
    assert_eq!(attributes(&moved)["wasmop.reconcile.result"], "interrupted");
}

#[test]
fn end_of_a_request_is_recorded_once() {
    let head = |status| Reply::Head { status, headers: String::new() };
    for (replies, cause) in [
        (vec![head(204), Reply::End], None),
        (vec![head(409), Reply::End], Some("409")),
        (vec![head(200), Reply::Failed("cut".into())], Some("no-response")),
        (vec![head(200), Reply::TooLarge], Some("response-too-large")),
        (vec![head(200)], Some("cancelled")),
    ] {
        let (mut traces, spans) = traces(Sampler::AlwaysOn);
        begin(&mut traces, 0, 1, "home", None);
        let target: ExternalTarget = "https://hooks.example.com".parse().unwrap();
        let mut request = traces.request(0, 1, "GE T", &Peer::External(&target)).unwrap();
        replies.iter().for_each(|reply| request.on_reply(reply));
        drop(request);
        let [span] = spans.take().try_into().unwrap();
        assert_eq!(attributes(&span).get("error.type").map(String::as_str), cause, "{replies:?}");
        assert_eq!(span.status != Status::Unset, cause.is_some(), "{replies:?}");
        assert_eq!((&*span.name, attributes(&span)["http.request.method"].as_str()), ("HTTP", "_OTHER"));
        assert_eq!(attributes(&span)["server.address"], "hooks.example.com");
        assert_eq!(attributes(&span).get("url.path"), None);
    }
}

#[test]
fn suspend_of_an_idle_instance_links_reconciles_since_its_resume() {
    let (mut traces, spans) = traces(Sampler::AlwaysOn);
    for task in 1..=20 {
        begin(&mut traces, 0, task, "home", None);
        traces.end(0, task, &Outcome::Ok);
    }
    let served: Vec<_> = spans.take()[20 - MAX_SHARED..].iter().map(|span| span.span_context.clone()).collect();
    let write = |traces: &mut Traces, reason, checkpoint, result| {
        traces.suspended(0, &suspended(reason, checkpoint, result));
        let [span] = spans.take().try_into().unwrap();
        let links: Vec<_> = span.links.links.iter().map(|link| link.span_context.clone()).collect();
        (span, links)
    };
    for (reason, checkpoint, result) in [("log-full", true, bytes()), ("idle", false, Err("full".into()))] {
        let (span, links) = write(&mut traces, reason, checkpoint, result);
        assert_eq!(&*span.name, if checkpoint { "checkpoint" } else { "suspend" });
        assert_eq!((links, span.parent_span_id), (served.clone(), SpanId::INVALID), "it is still there");
    }
    let (span, links) = write(&mut traces, "budget", false, bytes());
    assert_eq!(links, served);
    let expected = [
        ("wasmop.controller", "website"),
        ("wasmop.snapshot.dirty", "1"),
        ("wasmop.snapshot.size", "3"),
        ("wasmop.snapshot.written", "2"),
        ("wasmop.suspend.reason", "budget"),
    ];
    assert_eq!(attributes(&span), expected.map(|(key, value)| (key, value.to_owned())).into());
    assert!(write(&mut traces, "idle", false, bytes()).1.is_empty());
    assert!(traces.served.is_empty(), "nothing is kept of what is suspended");
}

#[test]
fn unsampled_reconciles_leave_no_state_or_header() {
    let (mut traces, spans) = traces(Sampler::AlwaysOff);
    begin(&mut traces, 0, 1, "home", None);
    traces.stepping(0, [1].into_iter(), None);
    traces.event(0, 1, "request denied", "GET", None);
    assert!(traces.flights.is_empty() && traces.batches.is_empty());
    assert!(traces.request(0, 1, "GET", &Peer::ApiServer { path: "/" }).is_none());
    traces.stepped(0, &stepped(None, None));
    traces.end(0, 1, &Outcome::Ok);
    traces.suspended(0, &suspended("idle", false, bytes()));
    assert!(traces.served.is_empty() && spans.take().is_empty());
    assert_eq!(traceparent(&SpanContext::empty_context()), None);
}
