use http_body_util::BodyExt;
use wasmop_core::status::counters::{Counters, Totals};
use wasmop_core::status::observed::{Controller, Queue, Unwatched};
use wasmop_core::status::state::State as ControllerState;
use wasmop_core::watch::{WaitReason, Waiting, WatchStatus};
use wasmop_package::Tier;

use super::*;
use crate::status::Overview;

fn controller(number: usize) -> Controller {
    Controller {
        name: format!("controller-{number}").into(),
        tier: Tier::Full,
        state: ControllerState::Suspended,
        resident_bytes: 0,
        queue: Queue::default(),
        active: 0,
        requests: 0,
        registered: true,
        unwatched: None,
        counters: Counters::default(),
    }
}

fn observed(controllers: usize) -> Observed {
    Observed {
        now: Duration::from_secs(5),
        controllers: (0..controllers).map(controller).collect(),
        watches: vec![WatchStatus {
            follows: false,
            resource: "configmaps/v1".into(),
            objects: 3,
            lists: 1,
            synced: true,
            waiting: None,
        }],
        guest_watches: Default::default(),
        totals: Totals::default(),
        spare_bytes: 0,
        code_bytes: 0,
        memory_budget: None,
        cached: Default::default(),
        cache_memory: None,
        election: None,
    }
}

/// A server whose host answers with `observed`, or not at all.
fn state(observed: Option<Observed>) -> State {
    let held = Mutex::new(Vec::new());
    let ask = Box::new(move |question| {
        match (question, &observed) {
            (Question::Alive(tx), Some(_)) => drop(tx.send(())),
            (Question::All(tx), Some(observed)) => drop(tx.send(observed.clone())),
            // A stuck loop never answers.
            (question, None) => held.lock().push(question),
        }
        true
    });
    let started = Arc::new(AtomicBool::new(true));
    let source = Source { ask, started, requests: Arc::default(), external_requests: Arc::default() };
    State::new(source, DEADLINE)
}

async fn get(state: &State, path: &str) -> (u16, String) {
    let response = state.answer(&Request::get(path).body(()).unwrap()).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn healthy_host_is_reported_on_every_page() {
    let state = state(Some(observed(2)));
    assert_eq!(get(&state, "/healthz").await, (200, "ok\n".into()));
    assert_eq!(get(&state, "/readyz").await, (200, "ok\n".into()));
    let verbose = "[+]controller controller-0 ok\n[+]controller controller-1 ok\nreadyz check passed\n";
    assert_eq!(get(&state, "/readyz?verbose").await, (200, verbose.into()));
    let (status, metrics) = get(&state, "/metrics").await;
    assert!(status == 200 && metrics.contains("wasmop_controllers{state=\"suspended\"} 2\n"), "{metrics}");
    let (status, page) = get(&state, "/").await;
    assert!(status == 200 && page.contains("/api/controllers"));
    let (status, json) = get(&state, "/api/controllers").await;
    let overview: Overview = serde_json::from_str(&json).unwrap();
    assert_eq!((status, overview.controllers.len(), overview.host.suspended), (200, 2, 2));
    assert_eq!(overview.host.memory_history.len(), 1);
    let (status, text) = get(&state, "/nothing").await;
    assert!(status == 404 && text.contains("/metrics"));
    let post = state.answer(&Request::post("/").body(()).unwrap()).await;
    assert_eq!(post.status(), 405);
}

#[tokio::test]
async fn long_response_is_complete() {
    let state = state(Some(observed(3000)));
    let response = state.answer(&Request::get("/metrics").body(()).unwrap()).await;
    let mut body = response.into_body();
    let (mut pieces, mut text) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() < 64 << 10, "{}", data.len());
        pieces += 1;
        text.extend_from_slice(&data);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(pieces > 10);
    assert_eq!(text.matches("wasmop_resumes_total{").count(), 3000);
}

#[tokio::test]
async fn abandoned_response_frees_its_thread() {
    let state = state(Some(observed(3000)));
    let mut body = state.answer(&Request::get("/api/controllers").body(()).unwrap()).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    // The writer's thread must end; otherwise the runtime would wait for it.
}

#[tokio::test]
async fn stuck_loop_is_not_healthy() {
    let state = State { deadline: Duration::from_millis(1), ..state(None) };
    for path in ["/healthz", "/readyz", "/metrics", "/api/controllers"] {
        let (status, text) = get(&state, path).await;
        assert!(status == 503 && text.contains("does not answer"), "{path}: {status} {text}");
    }
    // The page reports the problem itself.
    assert_eq!(get(&state, "/").await.0, 200);
}

#[tokio::test]
async fn host_that_compiles_packages_is_alive_but_not_ready() {
    let state = state(Some(observed(0)));
    state.source.started.store(false, Ordering::Release);
    assert_eq!(get(&state, "/healthz").await.0, 200);
    let (status, text) = get(&state, "/readyz").await;
    assert!(status == 503 && text.contains("being installed"), "{text}");
}

#[tokio::test]
async fn host_is_ready_when_controllers_and_watches_are() {
    let waiting = |cause| Some(Waiting { resource: String::new(), cause, message: "no".into(), service_account: None });
    for (registered, synced, waiting, status) in [
        (true, true, None, 200),
        (false, true, None, 503),
        (true, false, None, 503),
        (true, false, waiting(WaitReason::Missing), 200),
        (true, false, waiting(WaitReason::Forbidden), 200),
        (true, false, waiting(WaitReason::Unreachable), 503),
        (true, true, waiting(WaitReason::Unreachable), 200),
    ] {
        let mut observed = observed(1);
        observed.controllers[0].registered = registered;
        (observed.watches[0].synced, observed.watches[0].waiting) = (synced, waiting.clone());
        let (answered, text) = get(&state(Some(observed)), "/readyz").await;
        assert_eq!(answered, status, "{registered} {synced} {waiting:?}: {text}");
    }
}

#[tokio::test]
async fn host_is_ready_while_one_of_its_controllers_can_work() {
    use ControllerState::{Failed, Standby, Suspended};
    let obstacle =
        |reason| Unwatched { reason, message: format!("cannot watch: {reason}").into(), since: Duration::ZERO };
    let (fine, missing, refused) = (None, Some("ResourceNotServed"), Some("Unauthorized"));
    for (controllers, status) in [
        (vec![(fine, Suspended)], 200),
        (vec![(missing, Suspended)], 503),
        (vec![(refused, Suspended), (refused, Suspended)], 503),
        (vec![(fine, Suspended), (refused, Suspended)], 200),
        (vec![(fine, Suspended), (fine, Failed)], 200),
        (vec![(fine, Failed), (refused, Suspended)], 503),
        (vec![(fine, Standby), (refused, Suspended)], 503),
        (vec![(fine, Standby), (fine, Standby)], 200),
    ] {
        let mut observed = observed(controllers.len());
        for (controller, (reason, state)) in observed.controllers.iter_mut().zip(&controllers) {
            (controller.unwatched, controller.state) = (reason.map(obstacle).map(Box::new), *state);
        }
        let state = state(Some(observed));
        let (answered, text) = get(&state, "/readyz").await;
        assert_eq!(answered, status, "{controllers:?}: {text}");
        let (answered, verbose) = get(&state, "/readyz?verbose").await;
        assert_eq!(answered, status, "{controllers:?}: {verbose}");
        for (number, (reason, _)) in controllers.iter().enumerate() {
            let reason = reason.unwrap_or_default();
            assert!(
                verbose.lines().any(|line| line.contains(&format!("controller-{number}")) && line.contains(reason)),
                "{verbose}"
            );
        }
    }
}

#[tokio::test]
async fn server_listens_where_it_was_bound_until_dropped() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = serve(listener, state(Some(observed(1))).source).unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let error = bind(&address.to_string()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("help:"), "{error}");
    drop(server);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[test]
fn invalid_address_is_refused_with_an_example() {
    for bad in ["", "8080", "localhost", "localhost:http", "127.0.0.1:70000", "[::1"] {
        let error = bind(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")) && error.contains("help: write HOST:PORT"), "{error}");
    }
    assert!(bind(":0").unwrap().local_addr().unwrap().ip().is_unspecified());
    assert!(bind("localhost:0").unwrap().local_addr().unwrap().ip().is_loopback());
}

/// Sends a request, and reads nothing.
async fn asks(address: SocketAddr, path: &str) -> tokio::net::TcpStream {
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut connection, request.as_bytes()).await.unwrap();
    connection
}

/// Sends a request, and reads the beginning of the answer.
async fn answered(address: SocketAddr, path: &str) -> String {
    let mut connection = asks(address, path).await;
    let mut answer = vec![0; 4096];
    let read = tokio::io::AsyncReadExt::read(&mut connection, &mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn probes_are_answered_despite_stalled_clients() {
    let listener = bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _server = serve(listener, state(Some(observed(3000))).source).unwrap();
    let mut unread = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        unread.push(asks(address, "/metrics").await);
        if unread.len() % 32 == 0 {
            for path in ["/healthz", "/readyz"] {
                let answer = tokio::time::timeout(Duration::from_secs(20), answered(address, path)).await;
                assert!(answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200")), "{path} after {}", unread.len());
            }
        }
    }
    // Silent connections do not block it either.
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    assert!(answered(address, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn long_answers_beyond_the_limit_are_refused_and_probes_are_not() {
    let state = state(Some(observed(3000)));
    let mut unread = Vec::new();
    for _ in 0..MAX_LONG_ANSWERS {
        let response = state.answer(&Request::get("/metrics").body(()).unwrap()).await;
        assert_eq!(response.status(), 200);
        unread.push(response);
    }
    let refused = state.answer(&Request::get("/api/controllers").body(()).unwrap()).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]),
        (503, &HeaderValue::from_static("1"))
    );
    assert_eq!(get(&state, "/healthz").await.0, 200);
    drop(unread);
}
