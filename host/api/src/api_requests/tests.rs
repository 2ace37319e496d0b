use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wasmop_core::election::Term;

use super::test_server::{Part, TestServer, answer, chunk, chunked, last_chunk};
use super::*;
use crate::connections::{Connections, Peer, Share};
use crate::election::boot_clock::{holds_now, now};

fn get(path: &str) -> ApiCall {
    ApiCall { method: "GET".into(), path: path.into(), ..ApiCall::default() }
}

fn caller() -> Caller {
    Caller::controller("web", None, None)
}

fn credit(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes))
}

/// So much credit, and no other limit.
fn with(credit: Arc<Semaphore>) -> Allowance {
    Allowance { credit, connection: None, max_bytes: u64::MAX }
}

/// Makes the call with ample credit and returns the batches.
async fn call(server: &TestServer, call: ApiCall) -> Vec<Vec<Reply>> {
    let mut batches = Vec::new();
    execute(&server.client(), caller(), call, with(credit(64 << 20)), |batch| batches.push(batch)).await;
    batches
}

/// Starts the call; batches come through the channel.
fn start(server: &TestServer, call: ApiCall, credit: Arc<Semaphore>) -> UnboundedReceiver<Vec<Reply>> {
    let (sender, receiver) = unbounded_channel();
    let client = server.client();
    tokio::spawn(async move { execute(&client, caller(), call, with(credit), |batch| drop(sender.send(batch))).await });
    receiver
}

fn body(text: &str) -> Reply {
    Reply::Body(Bytes::copy_from_slice(text.as_bytes()))
}

fn head(status: u16) -> Reply {
    Reply::Head { status, headers: "content-type: application/json\n".into() }
}

#[tokio::test]
async fn unary_response_is_one_batch() {
    let gate = Arc::new(Notify::new());
    let parts = vec![chunked(), chunk("{\"a\":"), Part::Wait(gate.clone()), chunk("1}"), last_chunk()];
    let server = TestServer::start(move |_| parts.clone()).await;
    gate.notify_one();
    let batches = call(&server, get("/api/v1/pods?limit=500")).await;
    assert_eq!(batches, [vec![head(200), body("{\"a\":1}"), Reply::End]]);
}

#[tokio::test]
async fn empty_response_has_no_body() {
    let server = TestServer::start(|_| answer("204 No Content", "", "")).await;
    let batches = call(&server, get("/x")).await;
    assert_eq!(batches, [vec![head(204), Reply::End]]);
}

#[tokio::test]
async fn error_status_is_passed_on() {
    let server = TestServer::start(|_| answer("429 Too Many Requests", "retry-after: 3\r\n", "{}")).await;
    let batches = call(&server, get("/x")).await;
    let headers = "content-type: application/json\nretry-after: 3\n".into();
    assert_eq!(batches, [vec![Reply::Head { status: 429, headers }, body("{}"), Reply::End]]);
}

#[tokio::test]
async fn request_has_its_body_two_of_its_headers_and_those_of_the_caller() {
    let server = TestServer::start(|_| answer("201 Created", "", "{}")).await;
    let headers = "Accept: application/json\nCONTENT-TYPE: application/apply-patch+yaml\nAuthorization: Bearer x\n\
                   Impersonate-User: admin\nHost: elsewhere\nX-Forwarded-For: 1.2.3.4\nUpgrade: websocket\n\
                   Connection: upgrade\nContent-Length: 1000\nno colon\nUser-Agent: admin\nImpersonate-Group: a\n";
    let request = ApiCall {
        method: "PATCH".into(),
        path: "/api/v1/namespaces/a/configmaps/c?fieldManager=m".into(),
        headers: headers.into(),
        body: Bytes::from_static(b"hello"),
        traceparent: None,
    };
    call(&server, request).await;
    let [received] = server.received().try_into().unwrap();
    assert_eq!(received.method, "PATCH");
    assert_eq!(received.path, "/api/v1/namespaces/a/configmaps/c?fieldManager=m");
    assert_eq!(received.body, "hello");
    let mut names: Vec<_> = received.headers.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-length", "content-type", "host", "user-agent"]);
    assert!(received.headers.contains("(controller/web)"), "{}", received.headers);
    assert!(received.headers.contains("content-type: application/apply-patch+yaml"));
    assert!(received.headers.contains(&format!("host: {}", server.uri.authority().unwrap())));
}

#[tokio::test]
async fn trace_of_the_host_replaces_that_of_the_guest() {
    let server = TestServer::start(|_| answer("200 OK", "", "{}")).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let made_up = || ApiCall { headers: format!("traceparent: {trace}\ntracestate: a=b\n"), ..get("/x") };
    call(&server, made_up()).await;
    call(&server, ApiCall { traceparent: Some(HeaderValue::from_static(trace)), ..get("/x") }).await;
    let [without, with] = server.received().try_into().unwrap();
    assert!(!without.headers.contains("trace"), "{}", without.headers);
    assert!(with.headers.contains(&format!("traceparent: {trace}")), "{}", with.headers);
}

#[tokio::test]
async fn guest_gets_some_response_headers_only() {
    let extra =
        "audit-id: a1\r\nset-cookie: secret\r\nwarning: 299 - \"old\"\r\nwarning: 299 - \"older\"\r\nserver: x\r\n";
    let server = TestServer::start(move |_| answer("200 OK", extra, "{}")).await;
    let batches = call(&server, get("/x")).await;
    let Reply::Head { headers, .. } = &batches[0][0] else { panic!("{batches:?}") };
    assert_eq!(
        headers,
        "content-type: application/json\nwarning: 299 - \"old\"\nwarning: 299 - \"older\"\naudit-id: a1\n"
    );
}

#[tokio::test]
async fn stream_is_passed_on_as_it_arrives() {
    let gates = [(); 2].map(|()| Arc::new(Notify::new()));
    let parts = vec![
        chunked(),
        Part::Wait(gates[0].clone()),
        chunk("{\"type\":\"ADDED\"}\n"),
        Part::Wait(gates[1].clone()),
        chunk("{\"type\":\"DELETED\"}\n"),
        last_chunk(),
    ];
    let server = TestServer::start(move |_| parts.clone()).await;
    let mut batches = start(&server, get("/api/v1/pods?watch=true"), credit(2 * CHUNK_BYTES));
    assert_eq!(batches.recv().await.unwrap(), [head(200)]);
    gates[0].notify_one();
    assert_eq!(batches.recv().await.unwrap(), [body("{\"type\":\"ADDED\"}\n")]);
    gates[1].notify_one();
    // The end may be read together with the last event or after it.
    let mut rest = Vec::new();
    while let Some(batch) = batches.recv().await {
        rest.extend(batch);
    }
    assert_eq!(rest, [body("{\"type\":\"DELETED\"}\n"), Reply::End]);
}

#[tokio::test]
async fn large_response_comes_in_chunks_and_waits_for_credit() {
    let size = 10 * CHUNK_BYTES + 7;
    let text: String = ('a'..='z').cycle().take(size).collect();
    let sent = text.clone();
    let server = TestServer::start(move |_| answer("200 OK", "", &sent)).await;
    let credit = credit(2 * CHUNK_BYTES);
    let mut batches = start(&server, get("/x"), credit.clone());
    let mut received = Vec::new();
    let mut undelivered = 0;
    let mut most_undelivered = 0;
    let mut ended = false;
    // Takes nothing back until the call can't go on.
    while !ended {
        while credit.available_permits() >= CHUNK_BYTES && batches.is_empty() && !batches.is_closed() {
            tokio::task::yield_now().await;
        }
        let Some(batch) = batches.recv().await else { break };
        for reply in batch {
            match reply {
                Reply::Head { status, headers } => {
                    assert_eq!(status, 200);
                    undelivered += headers.len();
                }
                Reply::Body(bytes) => {
                    assert!(!bytes.is_empty() && bytes.len() <= CHUNK_BYTES);
                    undelivered += bytes.len();
                    most_undelivered = most_undelivered.max(undelivered);
                    received.extend_from_slice(&bytes);
                }
                Reply::End => ended = true,
                Reply::Failed(problem) => panic!("{problem}"),
                Reply::TooLarge => panic!("without a limit"),
            }
        }
        if batches.is_empty() && credit.available_permits() < CHUNK_BYTES {
            credit.add_permits(undelivered);
            undelivered = 0;
        }
    }
    assert!(most_undelivered <= 2 * CHUNK_BYTES, "{most_undelivered}");
    assert_eq!(received, text.as_bytes());
}

#[tokio::test]
async fn call_stops_when_its_credit_is_closed() {
    let server = TestServer::start(|_| answer("200 OK", "", vec![b'x'; 3 * CHUNK_BYTES])).await;
    let credit = credit(2 * CHUNK_BYTES);
    let mut batches = start(&server, get("/x"), credit.clone());
    assert_eq!(batches.recv().await.unwrap().len(), 2);
    credit.close();
    assert_eq!(batches.recv().await, None);
}

#[tokio::test]
async fn cut_unary_response_is_only_a_failure() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":";
    let server = TestServer::start(move |_| vec![Part::Send(short.into())]).await;
    let batches = call(&server, get("/x")).await;
    let [batch] = &batches[..] else { panic!("{batches:?}") };
    let [Reply::Failed(problem)] = &batch[..] else { panic!("{batches:?}") };
    assert!(problem.contains("cut"), "{problem}");
}

#[tokio::test]
async fn cut_stream_fails_after_its_received_data() {
    let parts = vec![chunked(), chunk("{\"type\":\"ADDED\"}\n"), Part::Send(b"20\r\n{\"ty".to_vec())];
    let server = TestServer::start(move |_| parts.clone()).await;
    let replies: Vec<Reply> = call(&server, get("/api/v1/pods?watch=1")).await.into_iter().flatten().collect();
    assert_eq!(replies[0], head(200));
    let text: Vec<u8> =
        replies.iter().filter_map(|r| if let Reply::Body(b) = r { Some(b.to_vec()) } else { None }).flatten().collect();
    assert!(text.starts_with(b"{\"type\":\"ADDED\"}\n"), "{replies:?}");
    assert!(matches!(replies.last(), Some(Reply::Failed(_))), "{replies:?}");
}

#[tokio::test]
async fn invalid_http_response_is_a_failure() {
    let server = TestServer::start(|_| vec![Part::Send(b"SSH-2.0-x\r\n\r\n".to_vec())]).await;
    let batches = call(&server, get("/x")).await;
    assert!(matches!(&batches[0][..], [Reply::Failed(_)]), "{batches:?}");
}

#[tokio::test]
async fn refused_connection_is_reported() {
    let uri = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let client = crate::client::test_client(kube::Config::new(uri)).unwrap();
    let failed = Mutex::new(Vec::new());
    execute(&client, caller(), get("/x"), with(credit(2 * CHUNK_BYTES)), |batch| failed.lock().unwrap().extend(batch))
        .await;
    let failed = failed.into_inner().unwrap();
    let [Reply::Failed(problem)] = &failed[..] else { panic!("{failed:?}") };
    assert!(problem.to_lowercase().contains("refused"), "{problem}");
}

#[tokio::test]
async fn malformed_call_fails_without_being_sent() {
    let server = TestServer::start(|_| answer("200 OK", "", "")).await;
    let calls = [
        ApiCall { method: "GE T".into(), ..get("/x") },
        get("/x y"),
        get("x"),
        get("http://elsewhere/x"),
        get("//elsewhere/x"),
        get("*"),
        get(""),
        ApiCall { headers: "accept: a\u{1}b\n".into(), ..get("/x") },
    ];
    for malformed in calls {
        let batches = call(&server, malformed.clone()).await;
        assert!(
            matches!(&batches[..], [batch] if matches!(&batch[..], [Reply::Failed(_)])),
            "{malformed:?}: {batches:?}"
        );
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn guest_cannot_change_the_impersonated_service_account() {
    let server = TestServer::start(|_| answer("200 OK", "", "{}")).await;
    let caller = Caller::controller("web", None, Some(Arc::new("demo/website".parse().unwrap())));
    let call = ApiCall { headers: "impersonate-user: system:admin\n".into(), ..get("/x") };
    execute(&server.client(), caller, call, with(credit(2 * CHUNK_BYTES)), drop).await;
    let [received] = server.received().try_into().unwrap();
    let mut lines: Vec<_> = received.headers.lines().filter(|line| line.starts_with("impersonate")).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "impersonate-group: system:authenticated",
            "impersonate-group: system:serviceaccounts",
            "impersonate-group: system:serviceaccounts:demo",
            "impersonate-user: system:serviceaccount:demo:website",
        ]
    );
}

#[tokio::test]
async fn response_ends_at_its_limit_and_a_stream_has_none() {
    let long = || vec![chunked(), chunk("12345"), chunk("67890"), last_chunk()];
    let server = TestServer::start(move |_| long()).await;
    let known = TestServer::start(|_| answer("200 OK", "", "1234567890")).await;
    for (server, path, max_bytes, cut) in [
        (&server, "/x", 9, true),
        (&server, "/x", 10, false),
        (&server, "/api/v1/pods?watch=true", 1, false),
        (&server, "/x?watch=true", 9, true),
        (&server, "/api/v1/namespaces/a/pods/p?watch=true", 9, true),
        (&server, "/api/v1/pods?follow=true", 9, true),
        (&known, "/x", 9, true),
        (&known, "/x", 10, false),
    ] {
        let mut replies = Vec::new();
        let allowance = Allowance { max_bytes, ..with(credit(1 << 20)) };
        execute(&server.client(), caller(), get(path), allowance, |batch| replies.extend(batch)).await;
        assert_eq!(replies.last() == Some(&Reply::TooLarge), cut, "{path} {max_bytes}: {replies:?}");
    }
}

#[tokio::test]
async fn response_that_waits_for_its_guest_releases_its_connection() {
    let server = TestServer::start(|_| answer("200 OK", "", vec![b'x'; 3 * CHUNK_BYTES])).await;
    let (connections, share) = (Connections::new(Peer::ApiServer), Share::default());
    let credit = credit(2 * CHUNK_BYTES);
    let connection = connections.enter(&share).await;
    let allowance = Allowance { connection, ..with(credit.clone()) };
    let (sender, mut batches) = unbounded_channel();
    let client = server.client();
    let call = execute(&client, caller(), get("/x"), allowance, move |batch| drop(sender.send(batch)));
    let held = connections.available();
    let mut call = std::pin::pin!(call);
    while connections.available() == held {
        tokio::select! {
            () = &mut call => panic!("nobody took the response"),
            () = tokio::task::yield_now() => {}
        }
    }
    // It continues when the guest has taken the data.
    while let Some(batch) = {
        tokio::select! {
            batch = batches.recv() => batch,
            () = &mut call => None,
        }
    } {
        credit.add_permits(batch.iter().map(Reply::credited_bytes).sum());
    }
    let rest: Vec<Reply> = std::iter::from_fn(|| batches.try_recv().ok()).flatten().collect();
    assert_eq!(rest.last(), Some(&Reply::End), "{rest:?}");
}

#[tokio::test]
async fn headers_take_credit_as_a_body_does() {
    let server = TestServer::start(|_| answer("200 OK", &format!("warning: {}\r\n", "w".repeat(4000)), "")).await;
    let credit = credit(2 * CHUNK_BYTES);
    let mut batches = start(&server, get("/x"), credit.clone());
    let taken: usize = batches.recv().await.unwrap().iter().map(Reply::credited_bytes).sum();
    assert!(taken > 4000);
    assert_eq!(credit.available_permits(), 2 * CHUNK_BYTES - taken);
}

#[tokio::test]
async fn nothing_is_sent_after_the_fence_expires() {
    let server = TestServer::start(|_| answer("200 OK", "", "sent")).await;
    let sent = async |fence: Arc<Fence>, gate: &Semaphore| {
        let mut batches = 0;
        let call = async {
            let _ = gate.acquire().await;
            execute(&server.client(), caller(), get("/api"), with(credit(1 << 20)), |_| batches += 1).await;
        };
        fenced(Some(fence), call).await;
        batches
    };
    let fence = |time| Arc::new(Fence::new(Arc::new(Term::new(now() + time))));
    let (long, short) = (fence(Duration::from_secs(600)), fence(Duration::from_millis(20)));
    assert_eq!(sent(long, &Semaphore::new(1)).await, 1);
    // It waits for its turn, which comes too late.
    let gate = Semaphore::new(0);
    let late = async {
        while holds_now(&short) {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    };
    let (batches, ()) = tokio::join!(sent(short.clone(), &gate), late);
    assert_eq!((batches, server.received().len()), (0, 1));
}
