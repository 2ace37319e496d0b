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

use kube::client::DynBody;
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Layer, ServiceExt};

use super::abi::{self, Event, EventKind};
use super::{calls, event_name, log, panic_help, registry, tasks};

/// Parks in a step without runnable tasks; see the module documentation.
const PARKS_WHEN_IDLE: u32 = 3;

/// The time driver always needs a deadline. Without one, tokio waits on a condition variable, which traps on a target
/// without threads.
const SENTINEL: Duration = Duration::from_secs(365 * 24 * 3600);

type Main = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

thread_local! {
    /// The user's `main`, until the host's `start` event.
    static MAIN: RefCell<Option<Main>> = const { RefCell::new(None) };
    /// Number of parks since the last event was delivered.
    static PARKS: Cell<u32> = const { Cell::new(0) };
    /// The waker of this step's root future.
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

static NAME: OnceLock<String> = OnceLock::new();

/// Returns the controller's name.
///
/// In a wasmop host this is `name` in `wasmop.toml`. Natively it is the name of the crate whose `main` has
/// [`macro@crate::main`].
pub fn name() -> &'static str {
    NAME.get().map_or("", String::as_str)
}

/// Keeps the user's `main` for the host's `start` event.
///
/// This runs when the base image is created, where neither time nor random numbers are available.
pub fn run<F>(main: fn() -> F)
where
    F: Future<Output: Termination> + 'static,
{
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
    let main = move || {
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            // `report` prints the error to stderr. In either case the program has ended, and the host restarts it, as
            // Kubernetes restarts a container that exits.
            if main().await.report() == ExitCode::SUCCESS {
                panic!("the function main has returned");
            }
            panic!("the function main has returned an error");
        });
        future
    };
    MAIN.set(Some(Box::new(main)));
}

/// The function that the host calls for each step.
#[unsafe(export_name = "wasmop:controller/guest@0.1.0#step")]
extern "C" fn step() {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(new_runtime);
        {
            let _inside = runtime.enter();
            while let Some(event) = abi::next() {
                on_event(runtime, event);
            }
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
    match kind {
        EventKind::Start => start(runtime, &payload),
        EventKind::Reconcile => registry::on_reconcile(id, aux, &payload),
        EventKind::Map => registry::on_map(id, aux, payload),
        EventKind::Head => calls::on_head(id, aux, &payload),
        EventKind::Body => calls::on_body(id, payload),
        EventKind::End => calls::on_end(id),
        EventKind::Failed => calls::on_failed(id, &payload),
        EventKind::Cancel => tasks::cancel(id),
    }
}

/// The payload of `start`. Arguments come through WASI, which `std::env::args` uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    name: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    log_level: Option<String>,
}

fn start(runtime: &Runtime, payload: &[u8]) {
    let mut log_level = None;
    match serde_json::from_slice::<Start>(payload) {
        Ok(start) => {
            log_level = start.log_level;
            for (name, value) in start.env {
                // SAFETY: the guest has a single thread.
                unsafe { std::env::set_var(name, value) };
            }
            let _ = NAME.set(start.name);
        }
        Err(error) => {
            let fields = serde_json::json!({ "error": error.to_string() }).to_string();
            abi::log(4, "wasmop", "cannot parse the start event of the host", &fields);
        }
    }
    log::init_with_default(log_level.as_deref());
    // Setting fails after the first start, which is fine: the values are the same.
    let _ = kube::client::HOST_SERVICE.set(host_service);
    let _ = kube::runtime::events::EVENT_NAME.set(event_name::generate);
    if let Some(main) = MAIN.take() {
        runtime.spawn(OneThread(main()));
    }
}

/// Creates the service of a client from its configuration.
fn host_service(config: &kube::Config) -> kube::client::GenericService {
    let service = calls::HostService.map_response(|response: http::Response<calls::ResponseBody>| {
        response.map(|body| -> Box<DynBody> { Box::new(body) })
    });
    if config.default_retry {
        let retry = tower::retry::RetryLayer::new(kube::client::retry::RetryPolicy::server_retry());
        retry.layer(service).map_err(BoxError::from).boxed()
    } else {
        service.boxed()
    }
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
