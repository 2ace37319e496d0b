use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;

use super::response::{BoxError, full};
use super::*;

/// An upstream that echoes every request, and responds to `/watch` with the frames that the test sends.
fn upstream() -> (kube::Client, mpsc::UnboundedSender<Result<http_body::Frame<Bytes>, BoxError>>) {
    let (sender, receiver) = mpsc::unbounded();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let watch = if request.uri().path() == "/watch" { receiver.lock().unwrap().take() } else { None };
        async move {
            if let Some(receiver) = watch {
                return Ok(Response::new(http_body_util::StreamBody::new(receiver).boxed_unsync()));
            }
            let (parts, body) = request.into_parts();
            let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
            let mut headers: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
            headers.sort_unstable();
            let text = format!("{} {} {body} {}", parts.method, parts.uri, headers.join(","));
            Ok::<_, BoxError>(Response::builder().status(201).header("x-from", "upstream").body(full(text))?)
        }
    });
    (kube::Client::new(service, "default"), sender)
}

async fn proxy() -> FaultProxy {
    FaultProxy::start(upstream().0).await.unwrap()
}

/// A client of the kubeconfig, without retries.
async fn client(proxy: &FaultProxy) -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&proxy.kubeconfig()).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

async fn send(client: &kube::Client, method: &str, path: &str, body: &str) -> Result<(u16, HeaderMap, String), String> {
    let request =
        Request::builder().method(method).uri(path).header("authorization", "Bearer x").header("accept", "a/b");
    let request = request.body(Body::from(body.as_bytes().to_vec())).unwrap();
    let response = client.send(request).await.map_err(|error| error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&body).into_owned()))
}

async fn get(client: &kube::Client, path: &str) -> Result<(u16, HeaderMap, String), String> {
    send(client, "GET", path, "").await
}

#[tokio::test]
async fn without_rules_everything_except_credentials_is_forwarded() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let (status, headers, body) = send(&client, "PUT", "/api/v1/x?a=b", "hello").await.unwrap();
    assert_eq!((status, body.as_str()), (201, "PUT /api/v1/x?a=b hello accept"));
    assert_eq!(headers["x-from"], "upstream");
    get(&client, "/api/v1/x?c=d").await.unwrap();
    get(&client, "/api/v1/y").await.unwrap();
    assert_eq!(proxy.count("", "/api/v1"), 3);
    assert_eq!(proxy.count("GET", "/api/v1/x"), 1);
    assert_eq!(proxy.counts().len(), 3);
}

#[tokio::test]
async fn a_stream_is_forwarded_as_it_arrives() {
    let (upstream, sender) = upstream();
    let proxy = FaultProxy::start(upstream).await.unwrap();
    let request = Request::get("/watch").body(Body::empty()).unwrap();
    let mut body = client(&proxy).await.send(request).await.unwrap().into_body().into_data_stream();
    for line in ["one\n", "two\n"] {
        sender.unbounded_send(Ok(http_body::Frame::data(line.into()))).unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), line);
    }
    drop(sender);
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_released_rule_forwards_held_requests() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let gate = proxy.add(Rule::new("GET", "/slow", Fault::Hold));
    let held: Vec<_> = (0..3)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, &format!("/slow/{n}")).await })
        })
        .collect();
    gate.until_waiting(3).await.unwrap();
    // Other requests are forwarded in the meantime.
    get(&client, "/fast").await.unwrap();
    send(&client, "PUT", "/slow", "").await.unwrap();
    assert!(held.iter().all(|request| !request.is_finished()));
    gate.release();
    for request in held {
        assert_eq!(request.await.unwrap().unwrap().0, 201);
    }
    get(&client, "/slow").await.unwrap();
    assert_eq!(gate.hits(), 3);
}

#[tokio::test]
async fn a_dropped_rule_no_longer_applies() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let rule = proxy.add(Rule::new("", "", Fault::Status { code: 500, retry_after_seconds: None }));
    assert_eq!(get(&client, "/x").await.unwrap().0, 500);
    drop(rule);
    assert_eq!(get(&client, "/x").await.unwrap().0, 201);
}

#[tokio::test]
async fn a_delayed_request_is_late() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let _rule = proxy.add(Rule::new("", "", Fault::Delay(Duration::from_millis(30))));
    let begun = Instant::now();
    get(&client, "/x").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_status_looks_like_that_of_the_api_server_and_is_limited_in_number() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    for code in [401, 403, 429, 500, 503] {
        let rule = Rule::new("", "/x", Fault::Status { code, retry_after_seconds: Some(7) }).times(2);
        let rule = proxy.add(rule);
        for _ in 0..2 {
            let (status, headers, body) = get(&client, "/x").await.unwrap();
            assert_eq!(status, code);
            assert_eq!(headers["retry-after"], "7");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((&body["kind"], &body["code"]), (&"Status".into(), &code.into()));
        }
        assert_eq!(get(&client, "/x").await.unwrap().0, 201);
        assert_eq!(rule.hits(), 2);
    }
}

#[tokio::test]
async fn a_cut_body_ends_with_an_error() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let _rule = proxy.add(Rule::new("", "/x", Fault::Cut { after_bytes: 5 }));
    get(&client, "/x").await.unwrap_err();
    let request = Request::get("/x").body(Body::empty()).unwrap();
    let mut body = client.send(request).await.unwrap().into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "GET /");
    assert!(body.next().await.unwrap().is_err());
}

#[tokio::test]
async fn garbage_is_not_json() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let _rule = proxy.add(Rule::new("", "", Fault::Garbage));
    let (status, _, body) = get(&client, "/x").await.unwrap();
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_err());
}

#[tokio::test]
async fn the_first_matching_rule_applies() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let status = |code| Fault::Status { code, retry_after_seconds: None };
    let _first = proxy.add(Rule::new("PUT", "/x", status(500)));
    let _second = proxy.add(Rule::new("", "/x", status(503)));
    assert_eq!(get(&client, "/x?y=z").await.unwrap().0, 503);
    assert_eq!(send(&client, "PUT", "/x", "").await.unwrap().0, 500);
    assert_eq!(get(&client, "/y").await.unwrap().0, 201);
}

#[tokio::test]
async fn the_proxy_closes_and_reopens_at_the_same_address() {
    let (upstream, _sender) = upstream();
    let proxy = FaultProxy::start(upstream).await.unwrap();
    let client = client(&proxy).await;
    let request = Request::get("/watch").body(Body::empty()).unwrap();
    let mut watch = client.send(request).await.unwrap().into_body().into_data_stream();
    proxy.stop_accepting().await;
    assert!(watch.next().await.is_none_or(|item| item.is_err()));
    get(&client, "/x").await.unwrap_err();
    proxy.accept_again().await.unwrap();
    assert_eq!(get(&client, "/x").await.unwrap().0, 201);
}

#[tokio::test]
async fn connections_break_while_the_socket_stays_open() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let gate = proxy.hold("/slow");
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { get(&client, "/slow").await })
    };
    gate.until_waiting(1).await.unwrap();
    proxy.cut_connections().await;
    slow.await.unwrap().unwrap_err();
    assert_eq!(get(&client, "/x").await.unwrap().0, 201);
}

#[tokio::test]
async fn bodies_are_slow_or_html_and_lists_are_counted() {
    let proxy = proxy().await;
    let client = client(&proxy).await;
    let slow = proxy.add(Rule::new("", "/slow", Fault::Slow { bytes: 4, pause: Duration::from_millis(1) }));
    let (_, _, body) = get(&client, "/slow").await.unwrap();
    assert_eq!((body.as_str(), slow.hits()), ("GET /slow  accept", 1));
    let _html = proxy.add(Rule::new("", "/page", Fault::Html));
    let (status, headers, body) = get(&client, "/page").await.unwrap();
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/html"));
    assert!(body.starts_with("<!doctype"));
    for query in ["watch=true", "watch=true&sendInitialEvents=true", "limit=5"] {
        get(&client, &format!("/pods?{query}")).await.unwrap();
    }
    assert_eq!(proxy.list_counts()["/pods"], 2);
}
