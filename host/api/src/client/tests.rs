//! Tests against a server and proxies on loopback that can freeze.

mod peer;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::AuthInfo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::peer::{Peer, Proxy, ProxyKind, authority};
use super::*;

const LIMITS: RequestLimits = RequestLimits {
    response: Duration::from_secs(3),
    write: Duration::from_secs(5),
    transfer: Duration::from_secs(20),
    silent_stream: Duration::from_secs(4),
    ping_interval: Duration::from_millis(200),
    ping_timeout: Duration::from_millis(800),
};
/// Time within which a dead connection is detected, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn clients(config: &kube::Config) -> Clients {
    Clients { limits: LIMITS, ..Clients::new(config).await.unwrap() }
}

async fn client(config: &kube::Config, traffic: Traffic) -> kube::Client {
    clients(config).await.client(traffic, &Arc::default()).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn streaming(path: &str) -> Request<Body> {
    let mut request = get(path);
    request.extensions_mut().insert(Streaming);
    request
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

#[tokio::test]
async fn http2_stream_on_a_frozen_connection_ends_and_the_next_request_gets_another() {
    let peer = Peer::start(&["h2", "http/1.1"]).await;
    let client = client(&peer.config(), Traffic::General).await;
    let mut stream = client.send(streaming("/stream")).await.unwrap().into_body();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), Bytes::from("begun"));
    peer.freeze();
    assert!(soon(stream.frame()).await.unwrap().is_err());
    assert_eq!(text(client.send(get("/protocol")).await.unwrap()).await, "HTTP/2.0");
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn request_on_a_frozen_connection_fails_and_the_next_one_gets_another() {
    for (alpn, traffic) in
        [(&["h2"][..], Traffic::General), (&["http/1.1"], Traffic::General), (&["h2", "http/1.1"], Traffic::Election)]
    {
        let peer = Peer::start(alpn).await;
        let client = client(&peer.config(), traffic).await;
        let protocol = text(client.send(get("/protocol")).await.unwrap()).await;
        assert_eq!(protocol == "HTTP/2.0", alpn == ["h2"]);
        peer.freeze();
        assert!(soon(client.send(get("/protocol"))).await.is_err(), "{protocol}");
        assert_eq!(text(client.send(get("/protocol")).await.unwrap()).await, protocol);
    }
}

#[tokio::test]
async fn response_that_stops_in_the_middle_ends_but_a_stream_may_pause() {
    let peer = Peer::start(&["h2"]).await;
    let client = client(&peer.config(), Traffic::General).await;
    let mut body = client.send(get("/stream")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let ended = soon(body.frame()).await.unwrap().unwrap_err();
    assert!(format!("{ended:?}").contains("nothing more within 3 s"), "{ended:?}");
    let mut stream = client.send(streaming("/stream")).await.unwrap().into_body();
    stream.frame().await.unwrap().unwrap();
    let paused = tokio::time::timeout(LIMITS.response + LIMITS.ping_interval, stream.frame()).await;
    assert!(paused.is_err(), "a stream that may pause ended: {paused:?}");
}

#[tokio::test]
async fn stream_over_http1_on_a_frozen_connection_ends() {
    let peer = Peer::start(&["http/1.1"]).await;
    let client = client(&peer.config(), Traffic::General).await;
    let mut stream = client.send(streaming("/stream")).await.unwrap().into_body();
    stream.frame().await.unwrap().unwrap();
    peer.freeze();
    let ended = soon(stream.frame()).await.unwrap().unwrap_err();
    assert!(format!("{ended:?}").contains("nothing more within 4 s"), "{ended:?}");
}

#[tokio::test]
async fn write_over_http2_may_take_longer_than_other_requests() {
    let table = [("h2", "DELETE", 5), ("h2", "GET", 3), ("http/1.1", "DELETE", 3)];
    let all = table.map(async |(alpn, method, limit)| {
        let peer = Peer::start(&[alpn]).await;
        let client = client(&peer.config(), Traffic::General).await;
        client.send(get("/protocol")).await.unwrap();
        let request = Request::builder().method(method).uri("/silent").body(Body::empty()).unwrap();
        let ended = soon(client.send(request)).await.unwrap_err();
        assert!(format!("{ended:?}").contains(&format!("no answer within {limit} s")), "{alpn} {method}: {ended:?}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn unread_responses_do_not_block_others() {
    let peer = Peer::start(&["h2"]).await;
    let client = client(&peer.config(), Traffic::General).await;
    // After the first request the pool knows that requests can share a connection.
    client.send(get("/protocol")).await.unwrap();
    let unread = join_all((0..40).map(|_| client.send(get("/large")))).await;
    assert!(unread.iter().all(Result::is_ok));
    assert_eq!(text(client.send(get("/protocol")).await.unwrap()).await, "HTTP/2.0");
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn streams_beyond_the_limit_use_another_connection() {
    let peer = Peer::start(&["h2"]).await;
    let client = client(&peer.config(), Traffic::General).await;
    let mut streams = Vec::new();
    for _ in 0..150 {
        streams.push(client.send(streaming("/stream")).await.unwrap());
    }
    assert_eq!(peer.connections(), 3);
    drop(streams);
    client.send(get("/protocol")).await.unwrap();
    assert_eq!(peer.connections(), 3);
}

#[tokio::test]
async fn request_refused_with_401_is_repeated_once_with_newer_credentials() {
    let peer = Peer::start(&["h2"]).await;
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("token");
    let mut config = peer.config();
    std::fs::write(&token, "old").unwrap();
    config.auth_info = AuthInfo { token_file: Some(token.display().to_string()), ..AuthInfo::default() };
    let clients = clients(&config).await;
    let client = clients.client(Traffic::General, &Arc::default()).unwrap();
    peer.expect_authorization("Bearer new");
    assert_eq!(client.send(get("/body")).await.unwrap().status(), 401);
    assert_eq!(peer.requests(), 1, "the same credentials are no reason to try again");
    std::fs::write(&token, "new\n").unwrap();
    clients.credentials.age(Duration::from_secs(2)).await;
    let request = Request::post("/body").body(Body::from(b"content".to_vec())).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "content"));
    assert_eq!(peer.requests(), 3);
}

#[tokio::test]
async fn server_without_tls_gets_no_credentials() {
    let dir = TempDir::new().unwrap();
    let ran = dir.path().join("ran");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let users: [fn(&std::path::Path) -> serde_json::Value; 4] = [
        |_| serde_json::json!({ "token": "secret" }),
        |_| serde_json::json!({ "tokenFile": "no-such-file" }),
        |_| serde_json::json!({ "username": "user", "password": "secret" }),
        |ran| serde_json::json!({ "exec": { "command": "touch", "args": [ran], "interactiveMode": "Never" } }),
    ];
    for user in users {
        let user = user(&ran);
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        config.auth_info = serde_json::from_value(user.clone()).unwrap();
        // Impersonation headers are not secret.
        config.auth_info.impersonate = Some("jane".into());
        config.auth_info.impersonate_uid = Some("u-1".into());
        config.auth_info.impersonate_groups = Some(vec!["ops".into()]);
        config.auth_info.impersonate_user_extra = Some([("scopes".into(), vec!["view".into()])].into());
        let client = client(&config, Traffic::General).await;
        let serve = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(connection.read_buf(&mut head).await.unwrap(), 0);
            }
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        };
        let (head, response) = soon(async { tokio::join!(serve, client.send(get("/"))) }).await;
        assert_eq!(response.unwrap().status(), 200);
        assert!(!head.contains("authorization"), "{user}: {head}");
        for (name, value) in [("user", "jane"), ("uid", "u-1"), ("group", "ops"), ("extra-scopes", "view")] {
            assert!(head.contains(&format!("impersonate-{name}: {value}")), "{user}: {head}");
        }
    }
    assert!(!ran.exists(), "the plugin ran");
}

#[tokio::test]
async fn new_connections_present_a_rotated_certificate() {
    let peer = Peer::start(&["h2"]).await;
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str| {
        let (certificate, key) = authority().client(name);
        std::fs::write(path("crt"), certificate).unwrap();
        std::fs::write(path("key"), key).unwrap();
    };
    write("first");
    let mut config = peer.config();
    config.auth_info =
        AuthInfo { client_certificate: Some(path("crt")), client_key: Some(path("key")), ..AuthInfo::default() };
    let clients = clients(&config).await;
    let client = clients.client(Traffic::General, &Arc::default()).unwrap();
    let presented = async || text(client.send(get("/presented")).await.unwrap()).await;
    let first = presented().await;
    assert!(!first.is_empty());
    write("second");
    assert_eq!(presented().await, first);
    clients.credentials.age(Duration::from_secs(10)).await;
    let second = presented().await;
    assert!(!second.is_empty() && second != first);
}

#[tokio::test]
async fn p521_works_for_client_and_server() {
    let pem =
        |name: &str| std::fs::read(format!("{}/src/client/p521/testdata/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let peer = Peer::start_as(&["h2"], &pem("server.crt"), &pem("server.key"), &pem("ca.crt")).await;
    let mut config = peer.config();
    let testdata = format!("{}/src/client/p521/testdata", env!("CARGO_MANIFEST_DIR"));
    config.auth_info = AuthInfo {
        client_certificate: Some(format!("{testdata}/client.crt")),
        client_key: Some(format!("{testdata}/client.key")),
        ..AuthInfo::default()
    };
    let client = client(&config, Traffic::General).await;
    assert!(!text(client.send(get("/presented")).await.unwrap()).await.is_empty());
}

#[tokio::test]
async fn requests_go_through_the_proxy_with_its_password() {
    let peer = Peer::start(&["h2"]).await;
    for kind in [ProxyKind::Http, ProxyKind::Https, ProxyKind::Socks5] {
        for password in [None, Some(("user", "p@ss"))] {
            let proxy = Proxy::start(kind, password).await;
            let mut config = peer.config();
            config.proxy_url = Some(proxy.url(password));
            let client = client(&config, Traffic::General).await;
            let answer = client.send(get("/protocol")).await.unwrap_or_else(|e| panic!("{kind:?} {password:?}: {e:?}"));
            assert_eq!(text(answer).await, "HTTP/2.0");
            assert_eq!(proxy.targets(), [config.cluster_url.authority().unwrap().to_string()]);
            // Without the password it does not bypass the proxy.
            if password.is_some() {
                config.proxy_url = Some(proxy.url(None));
                let client = self::client(&config, Traffic::General).await;
                assert!(client.send(get("/protocol")).await.is_err(), "{kind:?}");
            }
        }
    }
}
