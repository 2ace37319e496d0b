//! One step of the host: take its events, then run until nothing can run any more.
//!
//! tokio's current-thread runtime does the work, and what it does when it has nothing to do tells
//! when the step is over. It parks its thread three times:
//!
//! 1. The first park returns at once: delivering the events has left an unpark token. Timers that
//!    are due fire.
//! 2. The second may return at once too: a task that registers a timer earlier than all others
//!    leaves a token.
//! 3. The third finds nothing runnable and no token. It sleeps, and a sleep on wasm is
//!    `poll_oneoff`, which the host's adapter turns into `park`: the deadline of the next timer.
//!
//! Then, and only then, the root future is woken and the step returns. This is exact because the
//! clock stands still during a step.

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
use super::{calls, controller, event_name, log, panic_help, tasks};

/// See above.
const PARKS_WHEN_IDLE: u32 = 3;

/// The time driver must always have a deadline: without one tokio waits on a condition variable,
/// which traps where there are no threads.
const SENTINEL: Duration = Duration::from_secs(365 * 24 * 3600);

type Main = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

thread_local! {
    /// The user's `main`, until the host's `start`.
    static MAIN: RefCell<Option<Main>> = const { RefCell::new(None) };
    /// Parks since the last event was delivered.
    static PARKS: Cell<u32> = const { Cell::new(0) };
    /// Wakes the root future of this step.
    static ROOT: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

static NAME: OnceLock<String> = OnceLock::new();

/// The controller's name: `name` in `wasmop.toml`.
pub fn name() -> &'static str {
    NAME.get().map_or("", String::as_str)
}

/// Keeps the user's `main` for the host's `start`. Runs while the base image is made, where
/// nothing may ask for the time or for random numbers.
pub fn run<F>(main: fn() -> F)
where
    F: Future<Output: Termination> + 'static,
{
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a value that is not text");
        let mut fields = serde_json::Map::new();
        if let Some(location) = panic.location() {
            fields.insert("location".to_owned(), location.to_string().into());
        }
        if let Some(remedy) = panic_help::remedy(message) {
            fields.insert("help".to_owned(), remedy.into());
        }
        abi::log(4, "panic", message, &serde_json::Value::Object(fields).to_string());
    }));
    let main = move || {
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
            // Says on stderr what the error was. Either way the program has ended, and the host starts it again, as
            // Kubernetes starts a container again that has exited.
            if main().await.report() == ExitCode::SUCCESS {
                panic!("the function main has returned");
            }
            panic!("the function main has returned an error");
        });
        future
    };
    MAIN.set(Some(Box::new(main)));
}

/// Exported; called by the host.
pub fn step() {
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
        // Waking the root leaves an unpark token, and the next park would skip its sleep; so only
        // at the end.
        .on_thread_unpark(|| {
            if PARKS.get() >= PARKS_WHEN_IDLE
                && let Some(root) = ROOT.take()
            {
                root.wake();
            }
        })
        .build()
        .expect("a current-thread runtime asks nothing of the system");
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
        EventKind::Reconcile => controller::on_reconcile(id, aux, &payload),
        EventKind::Map => controller::on_map(id, aux, payload),
        EventKind::Head => calls::on_head(id, aux, &payload),
        EventKind::Body => calls::on_body(id, payload),
        EventKind::End => calls::on_end(id),
        EventKind::Failed => calls::on_failed(id, &payload),
        EventKind::Cancel => tasks::cancel(id),
    }
}

/// Payload of `start`. The arguments come through WASI, as `std::env::args` asks for them.
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
                // SAFETY: there is one thread.
                unsafe { std::env::set_var(name, value) };
            }
            let _ = NAME.set(start.name);
        }
        Err(error) => {
            let fields = serde_json::json!({ "error": error.to_string() }).to_string();
            abi::log(4, "wasmop", "the host's start event is not understood", &fields);
        }
    }
    log::init_with_default(log_level.as_deref());
    // Only the first start counts.
    let _ = kube::client::HOST_SERVICE.set(host_service);
    let _ = kube::runtime::events::EVENT_NAME.set(event_name::generate);
    if let Some(main) = MAIN.take() {
        runtime.spawn(OneThread(main()));
    }
}

/// The service behind every client that is made from a configuration.
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

/// A future that is moved between threads where there is only one.
struct OneThread(Pin<Box<dyn Future<Output = ()>>>);

// SAFETY: without atomics in the target there are no threads, so nothing is ever sent anywhere.
#[cfg(not(target_feature = "atomics"))]
unsafe impl Send for OneThread {}

impl Future for OneThread {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}
