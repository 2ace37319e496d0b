//! Traces of reconciles on a real API server, and hosts whose OpenTelemetry collector fails.

mod collector;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use collector::{Collector, Span};
use futures::FutureExt;
use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
use wasmop_e2e::guests::{self, Guest};
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::probe::{ProbeSpec, spec};
use wasmop_e2e::probe_object::ProbeObject;
use wasmop_e2e::test_cluster::{SUSPEND_AFTER, TIMEOUT, TestCluster};
use wasmop_e2e::tls_identity::TlsIdentity;
use wasmop_testbed::host::{Host, HostOptions};

const COLUMNS: [&str; 2] = ["rust", "go"];
/// The deadline for a host to become ready. It compiles packages first.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// Milliseconds after which the host exports spans.
const EXPORT_INTERVAL: &str = "100";
/// A timeout that no other reconcile of this part reaches.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that a busy machine may add to the shutdown.
const SLACK: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    part::main("traces", &COLUMNS, run)
}

/// The cluster, the proxy, the guests and the host options that all rows use.
struct Fixture {
    cluster: TestCluster,
    proxy: FaultProxy,
    guests: Vec<Guest>,
    options: HostOptions,
}

impl Fixture {
    /// Starts a host with all guests. `name`: the name of its log.
    fn host(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Host> {
        let mut options = HostOptions { log: self.cluster.dir().join(format!("{name}.log")), ..self.options.clone() };
        options.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        options.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), PathBuf::from(value))));
        let names: Vec<&str> = self.guests.iter().map(|guest| guest.name).collect();
        let mut host = Host::spawn(&options)?;
        tokio::task::block_in_place(|| host.wait_ready(&names, READY_TIMEOUT))?;
        Ok(host)
    }

    fn object(&self, guest: &Guest, name: &'static str) -> ProbeObject {
        ProbeObject::new(&self.cluster, guest, name)
    }
}

async fn run(part: &Part) -> Result<()> {
    let cluster = TestCluster::start().await?;
    let guests = COLUMNS.map(|column| tokio::task::block_in_place(|| guests::build(column, cluster.dir())));
    let guests = guests.into_iter().collect::<Result<Vec<_>>>()?;
    cluster.create_crd().await?;
    for guest in &guests {
        cluster.create_namespace(guest.name).await?;
    }
    let proxy = FaultProxy::start(cluster.client.clone()).await?;
    let packages = guests.iter().map(|guest| guest.package.clone()).collect();
    let mut options = cluster.proxied_options(&proxy, "host", packages)?;
    options.args.extend(["--shutdown-timeout".into(), format!("{}s", SHUTDOWN_TIMEOUT.as_secs())]);
    let config = cluster.dir().join("host.toml");
    std::fs::write(&config, format!("[limits]\nreconcile-timeout = \"{}s\"\n", RECONCILE_TIMEOUT.as_secs()))?;
    options.args.extend(["--config".into(), config.display().to_string()]);
    options.env.push(("OTEL_BSP_SCHEDULE_DELAY".into(), EXPORT_INTERVAL.into()));
    let fixture = Fixture { cluster, proxy, guests, options };

    let collector = Collector::start().await?;
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%20key"), ("OTEL_RESOURCE_ATTRIBUTES", "site=edge")];
    let mut host = fixture.host("traced", &["--otlp-endpoint", &collector.endpoint()], &variables)?;
    for guest in &fixture.guests {
        let column = guest.column;
        let row = "suspended during a request: all spans are there, nested";
        part.row(row, column, suspended(&fixture, &collector, guest)).await;
        let row = "suspended when idle: a separate trace, linked to earlier ones";
        part.row(row, column, idle(&fixture, &collector, guest)).await;
        part.row("an error and its retry have spans", column, error(&fixture, &collector, guest)).await;
        part.row("an endless loop is rolled back and cancelled", column, endless(&fixture, &collector, guest)).await;
        part.row("a reconcile beyond its timeout is cancelled", column, overdue(&fixture, &collector, guest)).await;
        part.row("a cached read is an event, not a span", column, cached(&fixture, &collector, guest)).await;
    }
    for column in COLUMNS {
        let row = "headers and resource attributes come from the environment";
        part.row(row, column, async { environment(&collector) }).await;
    }
    for guest in &fixture.guests {
        let row = "a host restart interrupts a reconcile and continues it";
        part.row(row, guest.column, restarted(&fixture, &collector, guest, &mut host)).await;
    }
    tokio::task::block_in_place(|| host.terminate())?;
    // These rows concern the host alone: one run serves all columns.
    for (row, check) in [
        ("collector down: reconciles go on, one warning, timely shutdown", away(&fixture).boxed_local()),
        ("collector hangs: reconciles go on, timely shutdown", hanging(&fixture).boxed_local()),
        ("collector with a certificate of a configured authority", secure(&fixture).boxed_local()),
        ("OTEL_SDK_DISABLED: nothing is sent", disabled(&fixture, &collector).boxed_local()),
        ("an invalid endpoint is rejected with a remedy", async { refused(&fixture) }.boxed_local()),
    ] {
        if !part.wants(row) {
            continue;
        }
        let result = check.await.map_err(|error| format!("{error:#}"));
        for column in COLUMNS {
            part.record(row, column, result.clone().map_err(anyhow::Error::msg));
        }
    }
    if part.has_failures() {
        part.keep(fixture.cluster.keep_files());
    }
    Ok(())
}

fn is_reconcile<'a>(guest: &'a Guest, name: &'a str) -> impl Fn(&Span) -> bool + 'a {
    move |span| {
        span.name == "reconcile"
            && span.is("wasmop.controller", guest.name)
            && span.is("wasmop.object.name", name)
            && span.is("k8s.namespace.name", guest.name)
    }
}

/// A reconcile waits for a response while its guest is suspended.
async fn suspended(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let name = "slow";
    let path = format!("/api/v1/namespaces/{}/configmaps/{name}", guest.name);
    let fault = Fault::Delay(SUSPEND_AFTER * 3);
    let delay = fixture.proxy.add(Rule::new("GET", &path, fault).times(1));
    fixture.object(guest, name).create_with(spec("hold", "")).await?;
    drop(delay);
    let root = collector
        .until("the reconcile", |span| {
            is_reconcile(guest, name)(span) && collector.below(span).iter().any(|below| below.name == "suspend")
        })
        .await?;
    ensure!(root.parent.is_empty() && root.error.is_none() && !root.is_client, "{root:?}");
    for (key, value) in [
        ("wasmop.package.name", guest.name),
        ("wasmop.object.kind", "Probe"),
        ("wasmop.object.api_version", "e2e.wasmop.dev/v1"),
        ("wasmop.reconcile.attempt", "1"),
        ("wasmop.reconcile.result", "success"),
        ("wasmop.tier", "full"),
    ] {
        ensure!(root.is(key, value), "{key} is not {value}: {root:?}");
    }
    let waited: f64 = root.attributes.get("wasmop.queue.wait").context("no wasmop.queue.wait")?.parse()?;
    ensure!((0.0..TIMEOUT.as_secs_f64()).contains(&waited), "waited {waited} s");
    let below = collector.below(&root);
    ensure!(below.iter().all(|span| span.trace == root.trace), "{below:?}");
    for span in &below {
        ensure!(span.is_within(&root), "{} is not within its reconcile: {span:?} {root:?}", span.name);
    }
    let one = |what: &str, wanted: &dyn Fn(&Span) -> bool| {
        below.iter().find(|span| wanted(span)).cloned().with_context(|| format!("no {what} in {below:#?}"))
    };
    let get = one("GET", &|span| span.name == "GET" && span.is("url.path", &path))?;
    ensure!(get.is_client && get.is("http.response.status_code", "404") && get.error.is_some(), "{get:?}");
    ensure!(get.is("server.port", &fixture.proxy.address().port().to_string()), "{get:?}");
    let suspend = one("suspend", &|span| span.name == "suspend")?;
    // Other processes may leave the machine with little memory.
    let is_why = ["idle", "pressure"].into_iter().any(|reason| suspend.is("wasmop.suspend.reason", reason));
    ensure!(is_why && suspend.is_within(&get), "{suspend:?} {get:?}");
    ensure!(suspend.attributes.contains_key("wasmop.snapshot.written"), "{suspend:?}");
    let resume = one("resume", &|span| span.name == "resume" && span.start > suspend.end)?;
    ensure!(resume.attributes.contains_key("wasmop.snapshot.size"), "{resume:?}");
    let steps: Vec<_> = below.iter().filter(|span| span.name == "step").collect();
    let after = steps.iter().find(|step| step.start == resume.end);
    ensure!(after.is_some() && steps.len() >= 2, "no step follows the resume: {below:#?}");
    one("PATCH or PUT of the status", &|span| {
        ["PATCH", "PUT"].contains(&&*span.name) && span.is("http.response.status_code", "200")
    })?;
    let traceparent = format!("00-{}-{}-01", get.trace, get.id);
    ensure!(fixture.proxy.traceparents().contains(&traceparent), "the API server got no {traceparent}");
    Ok(())
}

async fn idle(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let name = "idle";
    fixture.object(guest, name).create().await?;
    let root = collector.until("the reconcile", is_reconcile(guest, name)).await?;
    let suspend = collector
        .until("the suspend that follows", |span| {
            span.name == "suspend" && span.parent.is_empty() && span.links.contains(&root.id)
        })
        .await?;
    ensure!(suspend.trace != root.trace && suspend.start >= root.end, "{suspend:?} {root:?}");
    ensure!(suspend.is("wasmop.controller", guest.name) && suspend.error.is_none(), "{suspend:?}");
    Ok(())
}

async fn error(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let name = "failing";
    fixture.object(guest, name).create_with(ProbeSpec { count: 1, ..spec("error", "") }).await?;
    let failed = collector.until("the failure", |span| is_reconcile(guest, name)(span) && span.error.is_some()).await?;
    ensure!(failed.error.as_ref().is_some_and(|error| error.contains("error 1 of 1")), "{failed:?}");
    ensure!(failed.is("wasmop.reconcile.result", "error") && failed.is("error.type", "reconcile-error"), "{failed:?}");
    ensure!(failed.is("wasmop.reconcile.attempt", "1"), "{failed:?}");
    collector
        .until("the second attempt", |span| {
            is_reconcile(guest, name)(span) && span.is("wasmop.reconcile.attempt", "2") && span.error.is_none()
        })
        .await?;
    Ok(())
}

async fn endless(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let (name, cause) = ("endless", "cpu-limit");
    let probe = fixture.object(guest, name);
    probe.create().await?;
    probe.change_without_waiting(spec("loop", "")).await?;
    let cancelled =
        collector.until("the loop", |span| is_reconcile(guest, name)(span) && span.is("error.type", cause)).await?;
    ensure!(cancelled.is("wasmop.reconcile.result", "cancelled") && cancelled.error.is_some(), "{cancelled:?}");
    let step = collector.below(&cancelled).into_iter().find(|span| span.is("error.type", cause));
    let step = step.context("no step failed")?;
    ensure!(step.name == "step" && step.attributes.contains_key("wasmop.step.rolled_back"), "{step:?}");
    probe.change("harmless").await
}

async fn overdue(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let (name, cause) = ("overdue", "timeout");
    let probe = fixture.object(guest, name);
    probe.create().await?;
    probe.change_without_waiting(ProbeSpec { delay_ms: 600_000, ..spec("sleep", "") }).await?;
    let cancelled =
        collector.until("the time-out", |span| is_reconcile(guest, name)(span) && span.is("error.type", cause)).await?;
    ensure!(cancelled.is("wasmop.reconcile.result", "cancelled") && cancelled.error.is_some(), "{cancelled:?}");
    ensure!(cancelled.end - cancelled.start >= RECONCILE_TIMEOUT.as_nanos() as u64, "{cancelled:?}");
    probe.change("no sleep").await
}

/// A read from the cache sends no request.
async fn cached(fixture: &Fixture, collector: &Collector, guest: &Guest) -> Result<()> {
    let name = "cached";
    let probe = fixture.object(guest, name);
    probe.create().await?;
    probe.change_to(spec("cached", "0")).await?;
    let event = "read from the cache".to_owned();
    collector.until("the cached read", |span| is_reconcile(guest, name)(span) && span.events.contains(&event)).await?;
    Ok(())
}

/// A reconcile outlasts its host.
async fn restarted(fixture: &Fixture, collector: &Collector, guest: &Guest, host: &mut Host) -> Result<()> {
    let name = "outlasting";
    let path = format!("/api/v1/namespaces/{}/configmaps/{name}", guest.name);
    let hold = fixture.proxy.hold(&path);
    let probe = fixture.object(guest, name);
    let created = probe.create_with(spec("hold", ""));
    let restart = async {
        hold.until_waiting(1).await?;
        tokio::task::block_in_place(|| host.terminate())?;
        let interrupted = collector.until("the interrupted reconcile", |span| {
            is_reconcile(guest, name)(span) && span.is("wasmop.reconcile.result", "interrupted")
        });
        let interrupted = interrupted.await?;
        let request = collector.below(&interrupted).into_iter().find(|span| span.is("url.path", &path));
        ensure!(
            request.is_some_and(|request| request.is("error.type", "cancelled")),
            "the span of its request is missing"
        );
        drop(hold);
        let log = format!("traced-{}", guest.column);
        *host = fixture.host(&log, &["--otlp-endpoint", &collector.endpoint()], &[])?;
        Ok(())
    };
    tokio::try_join!(created, restart)?;
    let continued = collector
        .until("the continued reconcile", |span| is_reconcile(guest, name)(span) && span.is("wasmop.continued", "true"))
        .await?;
    ensure!(!continued.attributes.contains_key("wasmop.queue.wait"), "{continued:?}");
    ensure!(collector.below(&continued).iter().any(|span| span.name == "resume"), "it was not resumed");
    Ok(())
}

fn environment(collector: &Collector) -> Result<()> {
    let resource = collector.resource();
    ensure!(resource.get("service.name").is_some_and(|name| name == "wasmop"), "{resource:?}");
    ensure!(resource.contains_key("service.version"), "{resource:?}");
    ensure!(resource.get("site").is_some_and(|site| site == "edge"), "{resource:?}");
    let requests = collector.requests();
    ensure!(requests.iter().all(|(path, _)| path == "/v1/traces"), "{requests:?}");
    ensure!(requests.first().is_some_and(|(_, key)| key == "a key"), "{requests:?}");
    Ok(())
}

/// Creates and changes a Probe of each guest.
async fn changes(fixture: &Fixture, name: &'static str) -> Result<()> {
    for guest in &fixture.guests {
        let probe = fixture.object(guest, name);
        probe.create().await?;
        for change in 0..3 {
            probe.change(&change.to_string()).await?;
        }
    }
    Ok(())
}

/// Stops the host, and returns how long that took.
fn end(host: &mut Host) -> Result<Duration> {
    let start = Instant::now();
    let status = tokio::task::block_in_place(|| host.terminate())?;
    ensure!(status.success(), "it ended with {status}:\n{}", host.log.tail(15));
    Ok(start.elapsed())
}

async fn away(fixture: &Fixture) -> Result<()> {
    // The port was free a moment ago, so nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut host = fixture.host("away", &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])?;
    changes(fixture, "away").await?;
    let is_warning = |record: &wasmop_testbed::log::Record| record.message() == "traces cannot be sent";
    let deadline = Instant::now() + TIMEOUT;
    while !host.log.records()?.iter().any(is_warning) {
        ensure!(Instant::now() < deadline, "no warning about the collector:\n{}", host.log.tail(15));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for guest in &fixture.guests {
        fixture.object(guest, "away").change("more").await?;
    }
    let took = end(&mut host)?;
    ensure!(took < SHUTDOWN_TIMEOUT + SLACK, "the shutdown took {took:?}");
    let records = host.log.records()?;
    let times = records.iter().filter(|record| is_warning(record)).count();
    ensure!(times == 1, "{times} warnings about the collector");
    let record = records.iter().find(|record| is_warning(record)).context("no warning")?;
    ensure!(record.text("error").contains("refused") && !record.text("help").is_empty(), "{record:?}");
    let others: Vec<_> = records.iter().filter(|record| record.text("target").starts_with("opentelemetry")).collect();
    ensure!(others.len() <= 1, "records of the SDK: {others:?}");
    Ok(())
}

async fn hanging(fixture: &Fixture) -> Result<()> {
    let collector = Collector::hanging().await?;
    let mut host = fixture.host("hanging", &["--otlp-endpoint", &collector.endpoint()], &[])?;
    changes(fixture, "hanging").await?;
    ensure!(!collector.requests().is_empty(), "nothing was sent to it");
    let took = end(&mut host)?;
    ensure!(took < SHUTDOWN_TIMEOUT + SLACK, "the shutdown took {took:?}");
    Ok(())
}

async fn secure(fixture: &Fixture) -> Result<()> {
    let identity = TlsIdentity::new()?;
    let authority = fixture.cluster.dir().join("authority.pem");
    std::fs::write(&authority, &identity.authority)?;
    let collector = Collector::secure(&identity).await?;
    let endpoint = format!("https://localhost:{}", collector.port);
    let args = ["--otlp-endpoint", &endpoint, "--external-ca-file", &authority.display().to_string()];
    let mut host = fixture.host("secure", &args, &[])?;
    changes(fixture, "secure").await?;
    for guest in &fixture.guests {
        collector.until("a reconcile", is_reconcile(guest, "secure")).await?;
    }
    end(&mut host)?;
    Ok(())
}

fn refused(fixture: &Fixture) -> Result<()> {
    let log = fixture.cluster.dir().join("refused.log");
    let mut options = HostOptions { log: log.clone(), ..fixture.options.clone() };
    options.args.extend(["--otlp-endpoint".into(), "127.0.0.1:4318".into()]);
    let status = tokio::task::block_in_place(|| Host::spawn(&options)?.wait(TIMEOUT))?;
    let said = std::fs::read_to_string(&log)?;
    ensure!(status.code() == Some(1), "it ended with {status}: {said}");
    for word in ["--otlp-endpoint: `127.0.0.1:4318`", "no scheme", "help: write it like `http://127.0.0.1:4318`"] {
        ensure!(said.contains(word), "{word:?} is not in {said}");
    }
    Ok(())
}

async fn disabled(fixture: &Fixture, collector: &Collector) -> Result<()> {
    let (before, traced) = (collector.requests().len(), fixture.proxy.traceparents().len());
    let args = ["--otlp-endpoint", &collector.endpoint()];
    let mut host = fixture.host("disabled", &args, &[("OTEL_SDK_DISABLED", "true")])?;
    changes(fixture, "disabled").await?;
    end(&mut host)?;
    ensure!(collector.requests().len() == before, "spans were sent");
    ensure!(fixture.proxy.traceparents().len() == traced, "the API server got a traceparent header");
    Ok(())
}
