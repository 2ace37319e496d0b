//! Reaction time of controllers: alone, and beside one that uses its limits to the full.
//!
//! Host and API server run in this process. The benchmark creates a ConfigMap, and each controller reconciles it. It measures
//! the time from the creation to the end of the reconcile: a watch event, a step and its effects.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use wasmop_e2e::fake_cluster::FakeCluster;
use wasmop_e2e::rows::{Rows, percentile};
use wasmop_e2e::wat_guest::Code;
use wasmop_host::{ControllerSettings, Deployment, Options};
use wasmop_package::Package;
use wasmop_package::manifest::Limits;
use wasmop_policy::Policy;

/// The number of measured controllers.
const OTHERS: usize = 10;
/// Between two changes. A controller in backoff retries in this time.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

const FINISH: &str = "(call $finish (local.get $task))";

/// The code of the neighbour. All have the default limits.
#[rustfmt::skip]
fn neighbours() -> [(&'static str, Option<Code>); 6] {
    let finishing = || Code { reconcile: FINISH, ..Code::default() };
    [
        ("alone", None),
        ("spins", Some(Code { reconcile: "(loop $ever (br $ever))", ..Code::default() })),
        ("calls", Some(Code {
            end: "(local $n i64) (loop $more (call $get (local.get $n) (i64.const 0)) (br_if $more (i64.lt_u (local.tee $n (i64.add (local.get $n) (i64.const 1))) (i64.const 2000)))) (call $park (i64.const 0))",
            ..finishing()
        })),
        ("logs", Some(Code {
            end: "(local $n i32) (loop $more (call $log (i32.const 2) (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 200) (i32.const 0) (i32.const 0)) (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000)))) (call $park (i64.const 0))",
            ..finishing()
        })),
        ("grows", Some(Code {
            fields: "(global $at (mut i32) (i32.const 0))".into(),
            reconcile: "(loop $more (global.set $at (memory.grow (i32.const 16))) (if (i32.eq (global.get $at) (i32.const -1)) (then (unreachable))) (memory.fill (i32.shl (global.get $at) (i32.const 16)) (i32.const 7) (i32.const 1048576)) (br $more))",
            ..Code::default()
        })),
        ("requeues", Some(Code {
            reconcile: "(call $done (local.get $task) (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            ..Code::default()
        })),
    ]
}

/// Watches all ConfigMaps.
const SPEC: &str = r#"{"name":"maps","primary":{"version":"v1","kind":"ConfigMap","plural":"configmaps"}}"#;

fn package(name: &str, code: Code) -> Result<Arc<Package>> {
    Ok(Arc::new(Code { spec: Some(SPEC.into()), ..code }.package(name, Limits::default())?))
}

/// A reconcile that ended: when, of which controller, of which object.
struct Reconciled(Instant, String, String);

/// Extracts those from the host's log.
struct Watching(Sender<Reconciled>);

#[derive(Default)]
struct Fields {
    message: String,
    controller: String,
    object: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "controller" => self.controller = value.into(),
            "object" => self.object = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Watching {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let now = Instant::now();
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.message == "reconciled" {
            let _ = self.0.send(Reconciled(now, fields.controller, fields.object));
        }
    }
}

pub fn run(quick: bool, rows: &mut Rows) -> Result<()> {
    let changes = if quick { 100 } else { 1000 };
    let (tx, reconciled) = mpsc::channel();
    // Formatting log lines is part of the cost, as in a host that writes them to stderr.
    let text = tracing_subscriber::fmt::layer().json().with_writer(std::io::sink);
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    tracing_subscriber::registry().with(level).with(text).with(Watching(tx)).try_init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut alone = None;
    for (name, neighbour) in neighbours() {
        eprintln!("neighbours: {name}");
        let neighbour = neighbour.map(|code| package("neighbour", code)).transpose()?;
        let mut latencies = measure(&runtime, &reconciled, neighbour, changes).with_context(|| name)?;
        latencies.sort_by(f64::total_cmp);
        let at = (Some(OTHERS as u64), None);
        let (p50, p99) = (percentile(&latencies, 50), percentile(&latencies, 99));
        rows.push(name, at, "event_to_reconciled_p50", "µs", p50);
        rows.push(name, at, "event_to_reconciled_p99", "µs", p99);
        let (alone_p50, alone_p99) = *alone.get_or_insert((p50, p99));
        rows.push(name, at, "p50_to_alone", "ratio", p50 / alone_p50);
        rows.push(name, at, "p99_to_alone", "ratio", p99 / alone_p99);
    }
    Ok(())
}

/// Reaction times in microseconds, one for each controller and change.
fn measure(
    runtime: &tokio::runtime::Runtime,
    reconciled: &Receiver<Reconciled>,
    neighbour: Option<Arc<Package>>,
    changes: usize,
) -> Result<Vec<f64>> {
    let dir = tempfile::tempdir()?;
    let cluster = runtime.block_on(FakeCluster::start(true))?;
    let other = package("other", Code { reconcile: FINISH, ..Code::default() })?;
    let deployment = |name: String, package: Arc<Package>| {
        let settings = ControllerSettings { policy: Some(Policy::Never), ..ControllerSettings::default() };
        Deployment { name, package, settings }
    };
    let mut controllers: Vec<_> = (0..OTHERS).map(|i| deployment(format!("other-{i}"), other.clone())).collect();
    controllers.extend(neighbour.map(|package| deployment("neighbour".into(), package)));
    let options = Options::new(controllers, kube::Config::new(cluster.url().parse()?), dir.path().into());
    let (end, ended) = oneshot::channel::<()>();
    let host = runtime.spawn(wasmop_host::run(options, async {
        let _ = ended.await;
    }));
    let mut latencies = Vec::with_capacity(OTHERS * changes);
    // Controllers are still starting when the first changes arrive.
    let warm_up = changes / 10;
    for change in 0..warm_up + changes {
        let object = format!("map-{change}");
        let begun = Instant::now();
        cluster.put(&object);
        let key = format!("default/{object}");
        let mut missing = OTHERS;
        while missing > 0 {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let Ok(Reconciled(at, controller, of)) = reconciled.recv_timeout(left) else {
                bail!("change {change} was not reconciled by {missing} of {OTHERS} controllers");
            };
            if of == key && controller.starts_with("other-") {
                missing -= 1;
                if change >= warm_up {
                    latencies.push(at.saturating_duration_since(begun).as_secs_f64() * 1e6);
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    let _ = end.send(());
    runtime.block_on(host)??;
    while reconciled.try_recv().is_ok() {}
    Ok(latencies)
}
