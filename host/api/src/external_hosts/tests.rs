use std::net::Ipv4Addr;

use ipnet::IpNet;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::api_requests::test_server::{Part, TestServer, answer, chunk, chunked};

fn nowhere() -> Uri {
    Uri::from_static("https://192.0.2.1:6443")
}

fn external(api_server: &Uri, authorities: Vec<CertificateDer<'static>>) -> External {
    External::new(api_server, authorities, Arc::default())
}

fn port(server: &TestServer) -> u16 {
    server.uri.port_u16().unwrap()
}

/// The server at its address, which the owner named.
fn named(server: &TestServer) -> Contact {
    Contact { target: server.uri.to_string().trim_end_matches('/').parse().unwrap(), reach: Reach::Named }
}

fn public(target: &str, and: &[&str]) -> Contact {
    let and = and.iter().map(|range| range.parse::<IpNet>().unwrap()).collect();
    Contact { target: target.parse().unwrap(), reach: Reach::Public { and } }
}

fn get(path: &str) -> ApiCall {
    ApiCall { method: "GET".into(), path: path.into(), ..ApiCall::default() }
}

async fn call(external: &External, contact: Contact, call: ApiCall) -> Vec<Reply> {
    let mut replies = Vec::new();
    let agent = HeaderValue::from_static("wasmop/0 (controller/web)");
    let credit = Arc::new(Semaphore::new(1 << 20));
    let allowance = Allowance { credit, connection: None, max_bytes: 1000 };
    external.execute(contact, agent, call, allowance, |batch| replies.extend(batch)).await;
    replies
}

fn failure(replies: &[Reply]) -> &str {
    match replies {
        [Reply::Failed(why)] => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn guest_request_is_sent_without_connection_headers() {
    let server =
        TestServer::start(|_| answer("201 Created", "x-secret: 1\r\nset-cookie: a=b\r\nkeep-alive: 5\r\n", "made"))
            .await;
    let headers = "Authorization: Bearer own\nX-Api-Key: k\nx-api-key: l\nAccept: a/b\nHost: evil.example\n\
                   Content-Length: 9999\nTransfer-Encoding: chunked\nConnection: x-api-key\nUpgrade: websocket\n\
                   Proxy-Authorization: p\nTE: trailers\nExpect: 100-continue\nUser-Agent: admin\nKeep-Alive: 9\n";
    let request = ApiCall {
        method: "POST".into(),
        path: "//a/../b?c=%2f".into(),
        headers: headers.into(),
        body: "hello".into(),
        traceparent: Some(HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    };
    let replies = call(&external(&nowhere(), Vec::new()), named(&server), request).await;
    let headers = "content-type: application/json\nx-secret: 1\nset-cookie: a=b\ncontent-length: 4\n";
    let Reply::Head { status: 201, headers: got } = &replies[0] else { panic!("{replies:?}") };
    let sorted = |lines: &str| {
        let mut lines: Vec<_> = lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(got), sorted(headers));
    assert_eq!(replies[1..], [Reply::Body("made".into()), Reply::End]);

    let [received] = server.received().try_into().unwrap();
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "//a/../b?c=%2f"));
    assert_eq!(received.body, "hello");
    let expected = format!(
        "authorization: bearer own\nx-api-key: k\nx-api-key: l\naccept: a/b\nhost: 127.0.0.1:{}\n\
         user-agent: wasmop/0 (controller/web)\ncontent-length: 5\nconnection: close\n",
        port(&server)
    );
    assert_eq!(sorted(&received.headers), sorted(&expected));
}

#[tokio::test]
async fn redirect_is_passed_on() {
    let server = TestServer::start(|_| answer("302 Found", "location: http://127.0.0.1:1/\r\n", "")).await;
    let replies = call(&external(&nowhere(), Vec::new()), named(&server), get("/")).await;
    assert!(matches!(&replies[0], Reply::Head { status: 302, headers } if headers.contains("location: http://127")));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn addresses_of_a_name_are_checked_before_connecting() {
    let server = TestServer::start(|_| answer("200 OK", "", "{}")).await;
    let port = port(&server);
    let name = format!("http://localhost:{port}");
    let address = format!("http://127.0.0.1:{port}");
    let elsewhere = external(&nowhere(), Vec::new());
    for contact in [public(&name, &[]), public(&address, &[]), public(&name, &["10.0.0.0/8"])] {
        let replies = call(&elsewhere, contact, get("/")).await;
        assert!(failure(&replies).contains("which is not public"), "{replies:?}");
    }
    // It is the API server, whatever it is called.
    let itself = external(&server.uri, Vec::new());
    for contact in [public(&name, &["127.0.0.0/8", "::1/128"]), public(&address, &["127.0.0.0/8"])] {
        let replies = call(&itself, contact, get("/")).await;
        assert!(failure(&replies).contains("is the API server"), "{replies:?}");
    }
    assert!(server.received().is_empty());
    let allowed = call(&elsewhere, public(&name, &["127.0.0.0/8"]), get("/")).await;
    assert!(matches!(allowed[0], Reply::Head { status: 200, .. }), "{allowed:?}");
}

#[tokio::test]
async fn malformed_request_is_not_sent() {
    let server = TestServer::start(|_| answer("200 OK", "", "{}")).await;
    let external = external(&nowhere(), Vec::new());
    let with = |headers: &str| ApiCall { headers: headers.into(), ..get("/") };
    for request in [
        get(""),
        get("a"),
        get("*"),
        get("http://127.0.0.1/"),
        get("/a b"),
        get("/a\r\nhost: b"),
        get("/a#b"),
        ApiCall { method: "CONNECT".into(), ..get("/") },
        ApiCall { method: "TRACE".into(), ..get("/") },
        ApiCall { method: "get".into(), ..get("/") },
        ApiCall { method: "GET / HTTP/1.1\r\nx: y\r\n".into(), ..get("/") },
        with("no colon\n"),
        with("a b: c\n"),
        with(": c\n"),
        with("a: b\rc\n"),
        with("a: b\0c\n"),
    ] {
        let replies = call(&external, named(&server), request.clone()).await;
        assert!(failure(&replies).starts_with("wasmop: "), "{request:?}: {replies:?}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn response_ends_at_its_limit_and_failures_are_reported() {
    let long = "x".repeat(1001);
    let server = TestServer::start(move |request| match request.path.as_str() {
        "/long" => answer("200 OK", "", &long),
        _ => vec![chunked(), chunk("half"), Part::Send(b"nonsense".to_vec())],
    })
    .await;
    let external = external(&nowhere(), Vec::new());
    assert_eq!(call(&external, named(&server), get("/long")).await, [Reply::TooLarge]);
    let cut = call(&external, named(&server), get("/cut")).await;
    assert!(matches!(cut.last(), Some(Reply::Failed(why)) if why.contains("was cut")), "{cut:?}");
    let counts = external.counts.all();
    assert_eq!(counts, [("GET", "200".to_owned(), 2)]);
}

#[tokio::test]
async fn dropped_request_closes_its_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let contact = Contact { target: format!("http://{address}").parse().unwrap(), reach: Reach::Named };
    let external = external(&nowhere(), Vec::new());
    let request = call(&external, contact, get("/"));
    let (stream, _) = tokio::select! {
        _ = request => panic!("nobody has answered"),
        accepted = listener.accept() => accepted.unwrap(),
    };
    let mut stream = stream;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

/// A server with a certificate of an authority of its own: its port and the authority.
async fn tls_server(names: &[&str]) -> (u16, CertificateDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(tls_provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, authority.der().clone())
}

#[tokio::test]
async fn server_certificate_is_verified() {
    let (port, authority) = tls_server(&["localhost", "127.0.0.1"]).await;
    let (other_port, other) = tls_server(&["other.example"]).await;
    let trusting = external(&nowhere(), vec![authority, other]);
    let address = |port| Contact { target: format!("https://127.0.0.1:{port}").parse().unwrap(), reach: Reach::Named };
    for contact in [public(&format!("https://localhost:{port}"), &["127.0.0.0/8", "::1/128"]), address(port)] {
        let replies = call(&trusting, contact, get("/")).await;
        assert!(matches!(replies[0], Reply::Head { status: 204, .. }), "{replies:?}");
    }
    let replies = call(&trusting, address(other_port), get("/")).await;
    assert!(failure(&replies).contains("not valid for name"), "{replies:?}");
    let replies = call(&external(&nowhere(), Vec::new()), address(port), get("/")).await;
    assert!(failure(&replies).contains("UnknownIssuer"), "{replies:?}");
}

#[test]
fn certificates_are_read_from_a_pem_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        read_authorities(&path)
    };
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    assert_eq!(file(&format!("{certificate}\n{certificate}")).unwrap().len(), 2);
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = file(text).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains("\nhelp: "), "{text}: {error}");
    }
    assert!(read_authorities(&dir.path().join("missing")).is_err());
}
