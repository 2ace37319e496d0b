//! Runs one step: takes the host's events, then runs tasks until none can make progress.
//!
//! The tasks run on tokio's current-thread runtime. A step is over when the runtime has parked its thread three times:
//!
//! 1. The first park returns at once, because delivering the events leaves an unpark token. Timers that are due fire.
//! 2. The second park may return at once too. A task that registers a timer earlier than all others leaves a token.
//! 3. The third park finds no runnable task and no token, so it sleeps. On wasm, a sleep calls `poll_oneoff`. The
//! host's
//!    adapter turns this call into `park` with the deadline of the next timer.
//!
//! The runtime wakes the root future after the third park, and the step returns. No timer can become due in between,
//! because the clock does not advance during a step.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use crate::abi::{self, Event, EventKind};
use crate::{calls, panic_help, registry, tasks};

/// Parks in a step without runnable tasks; see the module documentation.
const PARKS_WHEN_IDLE: u32 = 3;

/// The time driver always needs a deadline. Without one, tokio waits on a condition variable, which traps on a target
/// without threads.
const SENTINEL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Creates the future of a `main`. The future never completes: a program that ends has failed.
pub type Main = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

/// What a program consists of.
pub struct Program {
    /// The user's `main`.
    pub main: Main,
    /// Runs before `main`.
    pub on_start: fn(&Start),
}

/// The payload of the event `start`. Arguments come through WASI, which `std::env::args` uses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The package's name.
    pub name: String,
    /// The environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The controller's log level in the host's configuration.
    #[serde(default)]
    pub log_level: Option<String>,
}

thread_local! {
    /// The program, until the host's `start` event.
    static PROGRAM: RefCell<Option<Program>> = const { RefCell::new(None) };
    /// Number of parks since the last event was delivered.
    static PARKS: Cell<u32> = const { Cell::new(0) };
    /// The waker of this step's root future.
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

static NAME: OnceLock<String> = OnceLock::new();

/// Returns the controller's name.
///
/// In a wasmop host this is `name` in `wasmop.toml`. Natively it is the name of the crate whose `main` has the attribute
/// `#[wasmop::main]`.
pub fn name() -> &'static str {
    NAME.get().map_or("", String::as_str)
}

/// Keeps the program for the host's `start` event.
pub fn set_program(program: Program) {
    log_panics();
    PROGRAM.set(Some(program));
}

/// Makes a [`Main`] of a function.
pub fn main_of<F>(main: fn() -> F) -> Main
where
    F: Future<Output: Termination> + 'static,
{
    Box::new(move || Box::pin(run_to_end(async move { main().await.report() })))
}

/// Awaits a `main` and fails when it ends, because the host restarts a program that has ended, as Kubernetes restarts a
/// container that exits.
pub(crate) async fn run_to_end(main: impl Future<Output = ExitCode>) {
    // `report` has printed an error to stderr.
    if main.await == ExitCode::SUCCESS {
        panic!("the function main has returned");
    }
    panic!("the function main has returned an error");
}

/// Logs panics with help.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a value that is not a string");
        let mut fields = serde_json::Map::new();
        if let Some(location) = panic.location() {
            fields.insert("location".to_owned(), location.to_string().into());
        }
        if let Some(help) = panic_help::help_for(message) {
            fields.insert("help".to_owned(), help.into());
        }
        abi::log(4, "panic", message, &serde_json::Value::Object(fields).to_string());
    }));
}

/// The function that the host calls for each step.
#[unsafe(export_name = "wasmop:controller/guest@0.1.0#step")]
extern "C" fn step() {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(new_runtime);
        #[cfg(feature = "unmodified")]
        tokio::wasmop::begin_step();
        while let Some(event) = abi::next() {
            on_event(runtime, event);
        }
        run_until_idle(runtime);
    });
}

fn new_runtime() -> Runtime {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .on_thread_park(|| PARKS.set(PARKS.get() + 1))
        // Waking the root future leaves an unpark token, which would make the next park return at once. So wake it only
        // at the end.
        .on_thread_unpark(|| {
            if PARKS.get() >= PARKS_WHEN_IDLE
                && let Some(root) = ROOT.take()
            {
                root.wake();
            }
        })
        .build()
        .expect("a current-thread runtime needs no system resources");
    runtime.spawn(async {
        loop {
            tokio::time::sleep(SENTINEL).await;
        }
    });
    runtime
}

fn run_until_idle(runtime: &Runtime) {
    PARKS.set(0);
    runtime.block_on(poll_fn(|context| {
        if PARKS.get() >= PARKS_WHEN_IDLE {
            return Poll::Ready(());
        }
        ROOT.set(Some(context.waker().clone()));
        Poll::Pending
    }));
}

fn on_event(runtime: &Runtime, event: Event) {
    let Event { kind, id, aux, payload } = event;
    if kind == EventKind::Start {
        // A program creates runtimes of its own, which must not happen inside another one.
        return start(runtime, &payload);
    }
    let _inside = runtime.enter();
    match kind {
        EventKind::Start => {}
        EventKind::Reconcile => registry::on_reconcile(id, aux, &payload),
        EventKind::Map => registry::on_map(id, aux, payload),
        EventKind::Head => calls::on_head(id, aux, &payload),
        EventKind::Body => calls::on_body(id, payload),
        EventKind::End => calls::on_end(id),
        EventKind::Failed => calls::on_failed(id, &payload),
        EventKind::Cancel => tasks::cancel(id),
    }
}

fn start(runtime: &Runtime, payload: &[u8]) {
    let start = serde_json::from_slice::<Start>(payload).unwrap_or_else(|error| {
        let fields = serde_json::json!({ "error": error.to_string() }).to_string();
        abi::log(4, "wasmop", "cannot parse the start event of the host", &fields);
        Start::default()
    });
    for (name, value) in &start.env {
        // SAFETY: the guest has a single thread.
        unsafe { std::env::set_var(name, value) };
    }
    let _ = NAME.set(start.name.clone());
    if let Some(Program { main, on_start }) = PROGRAM.take() {
        let _inside = runtime.enter();
        on_start(&start);
        runtime.spawn(OneThread(main()));
        return;
    }
    #[cfg(feature = "unmodified")]
    runtime.spawn(OneThread(crate::unmodified::start(&start)));
}

/// A future that counts as `Send` because the target has a single thread.
struct OneThread(Pin<Box<dyn Future<Output = ()>>>);

// SAFETY: a target without atomics has no threads, so the future never moves between threads.
#[cfg(not(target_feature = "atomics"))]
unsafe impl Send for OneThread {}

impl Future for OneThread {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}
