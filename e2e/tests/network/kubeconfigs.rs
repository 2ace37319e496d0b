//! Kubeconfigs in common use: `wasmop run` authenticates where `kubectl` does, and nowhere else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::config::{AuthInfo, Cluster};
use tokio::sync::Semaphore;
use wasmop_e2e::guests;
use wasmop_e2e::part::Part;
use wasmop_e2e::table::Skip;
use wasmop_e2e::test_cluster::TIMEOUT;
use wasmop_e2e::wat_guest::Code;
use wasmop_package::manifest::Limits;

use crate::connect_proxy::ConnectProxy;
use crate::fixture::{COLUMN, Fixture};

/// Rows that run a host and kubectl at the same time.
const AT_ONCE: usize = 3;
/// A name in the API server's certificate that no name server resolves.
const NAME: &str = "kubernetes.default.svc";

/// A kubeconfig, and the expected result.
#[derive(Default)]
struct Given {
    /// The files in the variable `KUBECONFIG`.
    files: Vec<PathBuf>,
    env: Vec<(&'static str, String)>,
    /// Authentication must fail; the error contains this text.
    refused: Option<&'static str>,
    /// The proxy that must have received a request for this target.
    proxy: Option<(ConnectProxy, String)>,
}

/// Routes the cluster through the proxy at this address. Returns environment variables for that.
type Change = fn(&mut Cluster, &str) -> Vec<(&'static str, String)>;
type Make = fn(&Fixture, &str) -> Result<Option<Given>>;

const ROWS: [(&str, Make); 18] = [
    ("kubeconfig: unchanged", |fixture, name| given(fixture.kubeconfig(name, |_| {})?)),
    ("kubeconfig: a token file ends with a newline", token_file),
    ("kubeconfig: the first file has an empty current-context", empty_context),
    ("kubeconfig: unused fields are empty strings", empty_strings),
    ("kubeconfig: base64 data spans several lines", wrapped),
    ("kubeconfig: a server without a scheme means plain HTTP", |fixture, name| {
        let path = with_cluster(fixture, name, |cluster| {
            cluster.server = cluster.server.take().map(|server| server.replace("https://", ""));
        })?;
        refused(path, "")
    }),
    ("kubeconfig: the server has a scheme other than HTTP", |fixture, name| {
        let path = with_cluster(fixture, name, |cluster| {
            cluster.server = cluster.server.take().map(|server| server.replace("https://", "ftp://"));
        })?;
        refused(path, "ftp")
    }),
    ("kubeconfig: tls-server-name", |fixture, name| {
        given(with_cluster(fixture, name, |cluster| cluster.tls_server_name = Some(NAME.into()))?)
    }),
    ("kubeconfig: tls-server-name of another server", |fixture, name| {
        let path = with_cluster(fixture, name, |cluster| cluster.tls_server_name = Some("other.test".into()))?;
        refused(path, "certificate")
    }),
    ("kubeconfig: insecure-skip-tls-verify", |fixture, name| {
        given(with_cluster(fixture, name, |cluster| {
            cluster.certificate_authority_data = None;
            cluster.insecure_skip_tls_verify = Some(true);
        })?)
    }),
    ("kubeconfig: a client certificate with a P-521 key", p521),
    ("kubeconfig: a plugin prints YAML", |fixture, name| {
        let token = admin_token(fixture)?;
        let script = format!(
            "printf 'apiVersion: client.authentication.k8s.io/v1\\nkind: ExecCredential\\nstatus: {{token: {token}}}\\n'"
        );
        given(with_plugin(fixture, name, &["sh", "-c", &script])?)
    }),
    ("kubeconfig: a plugin is not installed", |fixture, name| {
        refused(with_plugin(fixture, name, &["no-such-plugin"])?, "install it from example.com")
    }),
    ("kubeconfig: a plugin fails", |fixture, name| {
        refused(with_plugin(fixture, name, &["sh", "-c", "echo please log in >&2; exit 3"])?, "please log in")
    }),
    ("kubeconfig: a certificate without a key", |fixture, name| {
        let path = fixture.kubeconfig(name, |kubeconfig| {
            if let Some(user) = &mut kubeconfig.auth_infos[0].auth_info {
                user.client_key_data = None;
            }
        })?;
        refused(path, "client-key")
    }),
    ("kubeconfig: the user is missing", |fixture, name| {
        refused(fixture.kubeconfig(name, |kubeconfig| kubeconfig.auth_infos.clear())?, "")
    }),
    ("kubeconfig: an unknown token", |fixture, name| {
        let user = AuthInfo { token: Some("nobody".to_owned().into()), ..AuthInfo::default() };
        refused(fixture.kubeconfig_of(name, user)?, "nauthorized")
    }),
    ("kubeconfig: nothing listens at proxy-url", |fixture, name| {
        let path = with_cluster(fixture, name, |cluster| cluster.proxy_url = Some("http://127.0.0.1:1".into()))?;
        refused(path, "")
    }),
];

pub fn rows<'a>(part: &'a Part, fixture: &'a Fixture) -> Vec<LocalBoxFuture<'a, ()>> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let package = Arc::new(package(fixture));
    let mut rows = Vec::new();
    for (number, &(name, make)) in ROWS.iter().enumerate() {
        let (at_once, package) = (at_once.clone(), package.clone());
        let compared = async move {
            let _permit = at_once.acquire().await;
            let file = format!("kubeconfig-{number}");
            match make(fixture, &file)? {
                None => Err(Skip::because("this kubeconfig cannot be created here")),
                Some(given) => check(fixture, &file, &given, &package).await,
            }
        };
        rows.push(part.row(name, COLUMN, compared).boxed_local());
    }
    let proxied: [(&'static str, Change, bool); 4] = [
        (
            "kubeconfig: proxy-url",
            |cluster, proxy| {
                cluster.proxy_url = Some(format!("http://{proxy}"));
                Vec::new()
            },
            true,
        ),
        (
            "kubeconfig: NO_PROXY does not affect proxy-url",
            |cluster, proxy| {
                cluster.proxy_url = Some(format!("http://{proxy}"));
                vec![("NO_PROXY", "*".into())]
            },
            true,
        ),
        ("kubeconfig: HTTPS_PROXY", |_, proxy| vec![("HTTPS_PROXY", format!("http://{proxy}"))], true),
        (
            "kubeconfig: NO_PROXY excludes a host from HTTPS_PROXY",
            |_, proxy| vec![("HTTPS_PROXY", format!("http://{proxy}")), ("NO_PROXY", ".svc".into())],
            false,
        ),
    ];
    for (number, (name, change, through)) in (ROWS.len()..).zip(proxied) {
        let (at_once, package) = (at_once.clone(), package.clone());
        let compared = async move {
            let _permit = at_once.acquire().await;
            let file = format!("kubeconfig-{number}");
            let server = fixture.api_server()?;
            let proxy = ConnectProxy::start(server).await?;
            let target = format!("{NAME}:{}", server.port());
            let mut env = Vec::new();
            let path = with_cluster(fixture, &file, |cluster| {
                cluster.server = Some(format!("https://{target}"));
                env = change(cluster, &proxy.address.to_string());
            })?;
            let refused = (!through).then_some("");
            let proxy = through.then_some((proxy, target));
            check(fixture, &file, &Given { files: vec![path], env, refused, proxy }, &package).await
        };
        rows.push(part.row(name, COLUMN, compared).boxed_local());
    }
    rows
}

fn given(path: PathBuf) -> Result<Option<Given>> {
    Ok(Some(Given { files: vec![path], ..Given::default() }))
}

fn refused(path: PathBuf, says: &'static str) -> Result<Option<Given>> {
    Ok(Some(Given { files: vec![path], refused: Some(says), ..Given::default() }))
}

fn with_cluster(fixture: &Fixture, name: &str, change: impl FnOnce(&mut Cluster)) -> Result<PathBuf> {
    fixture.kubeconfig(name, |kubeconfig| {
        if let Some(cluster) = &mut kubeconfig.clusters[0].cluster {
            change(cluster);
        }
    })
}

fn with_plugin(fixture: &Fixture, name: &str, command: &[&str]) -> Result<PathBuf> {
    let user = serde_json::json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command[0],
        "args": command[1..],
        "interactiveMode": "Never",
        "installHint": "install it from example.com",
    }});
    fixture.kubeconfig_of(name, serde_json::from_value(user)?)
}

/// The token of the control plane's administrator.
fn admin_token(fixture: &Fixture) -> Result<String> {
    let tokens = std::fs::read_to_string(fixture.path("cluster/pki/tokens.csv"))?;
    Ok(tokens.split(',').next().context("no token")?.to_owned())
}

fn token_file(fixture: &Fixture, name: &str) -> Result<Option<Given>> {
    let Ok(token) = admin_token(fixture) else { return Ok(None) };
    let file = fixture.path("token-with-newline");
    std::fs::write(&file, format!("{token}\n"))?;
    let user = AuthInfo { token_file: Some(file.display().to_string()), ..AuthInfo::default() };
    given(fixture.kubeconfig_of(name, user)?)
}

fn empty_context(fixture: &Fixture, name: &str) -> Result<Option<Given>> {
    let first = fixture.path("empty-context.kubeconfig");
    std::fs::write(&first, "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\n")?;
    let second = fixture.kubeconfig(name, |_| {})?;
    Ok(Some(Given { files: vec![first, second], ..Given::default() }))
}

fn empty_strings(fixture: &Fixture, name: &str) -> Result<Option<Given>> {
    let path = fixture.kubeconfig(name, |kubeconfig| {
        if let Some(user) = &mut kubeconfig.auth_infos[0].auth_info {
            (user.token, user.token_file) = (Some(String::new().into()), Some(String::new()));
            (user.username, user.password) = (Some(String::new()), Some(String::new().into()));
            user.client_certificate = Some(String::new());
        }
        if let Some(cluster) = &mut kubeconfig.clusters[0].cluster {
            (cluster.proxy_url, cluster.tls_server_name) = (Some(String::new()), Some(String::new()));
        }
    })?;
    given(path)
}

fn wrapped(fixture: &Fixture, name: &str) -> Result<Option<Given>> {
    let path = fixture.kubeconfig(name, |_| {})?;
    let mut kubeconfig: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let wrap = |value: &mut serde_json::Value| {
        if let Some(text) = value.as_str() {
            let lines: Vec<String> =
                text.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
            *value = lines.join("\n").into();
        }
    };
    wrap(&mut kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]);
    wrap(&mut kubeconfig["users"][0]["user"]["client-certificate-data"]);
    wrap(&mut kubeconfig["users"][0]["user"]["client-key-data"]);
    std::fs::write(&path, kubeconfig.to_string())?;
    given(path)
}

/// OpenSSL creates the key, because ring lacks P-521.
fn p521(fixture: &Fixture, name: &str) -> Result<Option<Given>> {
    let path = |name: &str| fixture.path(name).display().to_string();
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let (key, request, certificate) = (path("p521.key"), path("p521.csr"), path("p521.crt"));
    let (ca, ca_key) = (path("cluster/pki/ca.crt"), path("cluster/pki/ca.key"));
    let made = openssl(&format!("ecparam -name secp521r1 -genkey -out {key}"))
        && openssl(&format!("req -new -key {key} -subj /O=system:masters/CN=p521 -out {request}"))
        && openssl(&format!(
            "x509 -req -in {request} -CA {ca} -CAkey {ca_key} -set_serial 521 -days 2 -out {certificate}"
        ));
    if !made {
        return Ok(None);
    }
    let user = AuthInfo { client_certificate: Some(certificate), client_key: Some(key), ..AuthInfo::default() };
    given(fixture.kubeconfig_of(name, user)?)
}

/// A guest that compiles fast and does nothing.
fn package(fixture: &Fixture) -> Result<PathBuf> {
    let path = fixture.path("idle.wasm");
    std::fs::write(&path, Code::default().package("idle", Limits::NONE)?.bytes())?;
    Ok(path)
}

/// Checks that kubectl and the host both succeed, or both fail.
async fn check(fixture: &Fixture, name: &str, given: &Given, package: &Result<PathBuf>) -> Result<()> {
    let package = package.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let kubeconfig = std::env::join_paths(&given.files)?;
    let environment = |command: &mut Command| {
        for variable in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(variable);
        }
        command.envs(given.env.iter().map(|(name, value)| (name, value))).env("KUBECONFIG", &kubeconfig);
        command.stdin(Stdio::null());
    };
    let count = || given.proxy.as_ref().map_or(0, |(proxy, target)| proxy.count(target));
    let mut kubectl = fixture.cluster.binaries.kubectl();
    environment(kubectl.args(["get", "--raw", "/api", "--request-timeout=20s"]));
    let answered = tokio::task::spawn_blocking(move || kubectl.output()).await??;
    let (is_in, by_kubectl) = (answered.status.success(), count());
    let said = String::from_utf8_lossy(&answered.stderr);
    ensure!(is_in == given.refused.is_none(), "kubectl is {}: {said}", if is_in { "accepted" } else { "rejected" });
    let mut wasmop = Command::new(guests::wasmop()?);
    wasmop.arg("run").arg(package).arg("--state-dir").arg(fixture.path(&format!("{name}-state")));
    environment(&mut wasmop);
    let log = fixture.path(&format!("{name}.log"));
    let outcome = {
        let log = log.clone();
        tokio::task::spawn_blocking(move || run(wasmop, &log)).await??
    };
    let said = std::fs::read_to_string(&log)?;
    match (outcome, given.refused) {
        (Outcome::Started, None) => {
            ensure!(given.proxy.is_none() || (by_kubectl > 0 && count() > by_kubectl), "it bypasses the proxy");
        }
        (Outcome::Refused, Some(says)) => {
            ensure!(said.contains(says) && said.contains("help:"), "it is rejected without {says:?}:\n{said}");
        }
        (outcome, _) => bail!("kubectl: {}, wasmop: {outcome:?}\n{said}", if is_in { "accepted" } else { "rejected" }),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Started,
    Refused,
}

/// Runs the host until it has started, or has ended by itself.
fn run(mut command: Command, log: &Path) -> Result<Outcome> {
    let mut child = command.stdout(Stdio::null()).stderr(std::fs::File::create(log)?).spawn()?;
    let deadline = Instant::now() + TIMEOUT;
    let outcome = loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.code() == Some(1), "it ended with {status}: {}", std::fs::read_to_string(log)?);
            return Ok(Outcome::Refused);
        }
        if std::fs::read_to_string(log)?.contains("host started") {
            break Outcome::Started;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("neither started nor ended: {}", std::fs::read_to_string(log)?);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    child.kill()?;
    child.wait()?;
    Ok(outcome)
}
