use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::api_requests::test_server::{Part, TestServer, answer};

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: main
clusters:
- name: c
  cluster: { server: "http://127.0.0.1:1" }
- name: broken
  cluster: { server: "http://127.0.0.1:1", certificate-authority: "/no/such/ca.crt" }
users:
- name: u
  user: { token: t }
contexts:
- name: main
  context: { cluster: c, user: u, namespace: team }
- name: other
  context: { cluster: c, user: u }
- name: broken
  context: { cluster: broken, user: u }
- name: dangling
  context: { cluster: gone, user: u }
"#;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn named(path: impl Into<PathBuf>) -> Sources {
    Sources { kubeconfig: Some(path.into()), ..Sources::default() }
}

#[tokio::test]
async fn named_kubeconfig_and_context_are_used() {
    let files = Files::new();
    let path = files.write("config", KUBECONFIG);
    let config = load(&named(&path)).await.unwrap();
    assert_eq!(
        (config.cluster_url.to_string().as_str(), config.default_namespace.as_str()),
        ("http://127.0.0.1:1/", "team")
    );
    let config = load(&Sources { context: Some("other".into()), ..named(&path) }).await.unwrap();
    assert_eq!(config.default_namespace, "default");
}

#[tokio::test]
async fn variable_takes_precedence_over_the_home_directory() {
    let files = Files::new();
    let from_variable = files.write("variable", KUBECONFIG);
    files.write("home/.kube/config", &KUBECONFIG.replace("team", "home-team"));
    let home = Some(files.0.path().join("home"));
    let sources = Sources { home: home.clone(), ..Sources::default() };
    assert_eq!(load(&sources).await.unwrap().default_namespace, "home-team");
    // Missing files in the list are skipped, as kubectl does.
    let list = std::env::join_paths([Path::new("/no/such/file"), &from_variable]).unwrap();
    let sources = Sources { home, kubeconfig_variable: Some(list), ..Sources::default() };
    assert_eq!(load(&sources).await.unwrap().default_namespace, "team");
}

#[tokio::test]
async fn files_of_the_variable_are_merged() {
    let files = Files::new();
    let first = files.write("first", "apiVersion: v1\nkind: Config\ncurrent-context: other\n");
    let second = files.write("second", KUBECONFIG);
    let list = std::env::join_paths([first, second]).unwrap();
    let sources = Sources { kubeconfig_variable: Some(list), ..Sources::default() };
    assert_eq!(load(&sources).await.unwrap().default_namespace, "default");
}

#[tokio::test]
async fn errors_name_the_kubeconfig_and_a_remedy() {
    let files = Files::new();
    let good = files.write("good", KUBECONFIG);
    let empty = files.write("empty", "apiVersion: v1\nkind: Config\n");
    let garbage = files.write("garbage", "{ this: [is not");
    let text = files.write("text", "hello");
    let directory = files.0.path().to_path_buf();
    let context = |name: &str| Sources { context: Some(name.into()), ..named(&good) };
    let table = [
        (named("/no/such/file"), "cannot read the kubeconfig /no/such/file: No such file"),
        (named(&directory), "cannot read the kubeconfig"),
        (named(&garbage), "cannot read the kubeconfig"),
        (named(&text), "cannot read the kubeconfig"),
        (named(&empty), "has no current context; it has none"),
        (context("nope"), "has no context \"nope\"; it has main, other, broken, dangling"),
        (context("broken"), "/no/such/ca.crt"),
        (context("dangling"), "cannot be used"),
        (Sources::default(), "no kubeconfig found"),
        (
            Sources { home: Some("/no/home".into()), ..Sources::default() },
            "looked at /no/home/.kube/config, the service account of a pod",
        ),
        (
            Sources { kubeconfig_variable: Some("/a:/b".into()), ..Sources::default() },
            "looked at /a (from KUBECONFIG), /b (from KUBECONFIG)",
        ),
        (Sources { in_cluster: true, context: Some("main".into()), ..Sources::default() }, "no kubeconfig found"),
        (Sources { in_cluster: true, ..Sources::default() }, "cannot use the pod's service account"),
    ];
    for (sources, message) in table {
        let error = load(&sources).await.expect_err(message);
        assert!(error.to_string().contains(message), "{error}\nhas not: {message}");
        if let Some(path) = &sources.kubeconfig {
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert!(!error.help().is_empty());
    }
}

#[tokio::test]
async fn unreadable_kubeconfig_is_reported_with_its_permission() {
    let files = Files::new();
    let path = files.write("secret", KUBECONFIG);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read the file; then there is nothing to check.
    if let Err(error) = load(&named(&path)).await {
        assert!(error.to_string().contains("Permission denied"), "{error}");
    }
}

fn status(code: u16, reason: &str) -> Vec<Part> {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the {reason}","reason":"{reason}","code":{code}}}"#
    );
    answer(&format!("{code} {reason}"), "", body)
}

const VERSION: &str = r#"{"major":"1","minor":"37","gitVersion":"v1.37.2","platform":"linux/amd64"}"#;

#[tokio::test]
async fn check_returns_the_version() {
    let server = TestServer::start(|request| match request.path.as_str() {
        "/version" => answer("200 OK", "", VERSION),
        _ => answer("200 OK", "", "{}"),
    })
    .await;
    let version = check(&server.client(), &server.uri).await.unwrap();
    assert_eq!(version.git_version, "v1.37.2");
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_error() {
    type Answer = fn() -> Vec<Part>;
    let table: [(&str, Answer, Answer, &str); 7] = [
        (
            "expired token",
            || status(401, "Unauthorized"),
            || status(401, "Unauthorized"),
            "does not accept the credentials (401)",
        ),
        ("anonymous", || answer("200 OK", "", VERSION), || status(401, "Unauthorized"), "(401)"),
        ("unknown user", || answer("200 OK", "", VERSION), || status(403, "Forbidden"), "(403): the Forbidden"),
        ("starting", || status(503, "ServiceUnavailable"), || status(503, "x"), "cannot reach the API server"),
        (
            "a web server",
            || answer("200 OK", "", "<html>"),
            || answer("200 OK", "", ""),
            "does not answer like a Kubernetes API server",
        ),
        (
            "a web server with 404",
            || answer("404 Not Found", "", "<html>"),
            || answer("200 OK", "", ""),
            "does not answer like",
        ),
        ("not HTTP", || vec![Part::Send(b"220 smtp\r\n\r\n".to_vec())], || vec![], "cannot reach the API server"),
    ];
    for (what, version, api, message) in table {
        let server = TestServer::start(move |request| if request.path == "/version" { version() } else { api() }).await;
        let error = check(&server.client(), &server.uri).await.expect_err(what);
        assert!(error.to_string().contains(message), "{what}: {error}");
        assert!(error.to_string().contains(&server.uri.to_string()), "{what}: {error}");
    }
}

#[tokio::test]
async fn closed_port_is_unreachable_and_server_without_tls_is_not_trusted() {
    let closed: http::Uri = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let client = crate::client::test_client(Config::new(closed.clone())).unwrap();
    let error = check(&client, &closed).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable { problem, .. } if problem.contains("refused")), "{error}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: http::Uri = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let client = crate::client::test_client(Config::new(uri.clone())).unwrap();
    let error = check(&client, &uri).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}
