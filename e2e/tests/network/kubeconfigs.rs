//! Kubeconfigs as people have them: `wasmop run` gets in where `kubectl` does, and nowhere else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::config::{AuthInfo, Cluster};
use tokio::sync::Semaphore;
use wasmop_e2e::guests;
use wasmop_e2e::table::Cell;
use wasmop_e2e::wat_guest::Code;
use wasmop_package::manifest::Limits;

use crate::Row;
use crate::proxy::ConnectProxy;
use crate::stage::{Stage, patience};

/// Hosts and kubectls at once.
const AT_ONCE: usize = 3;
/// A name of the API server's certificate that no name server knows.
const NAME: &str = "kubernetes.default.svc";

/// What differs from the administrator's kubeconfig.
#[derive(Default)]
struct Given {
    /// As it is in the variable `KUBECONFIG`.
    files: Vec<PathBuf>,
    env: Vec<(&'static str, String)>,
    /// It does not get in; what is said has this in it.
    refused: Option<&'static str>,
    /// Must have been asked for this target.
    proxy: Option<(ConnectProxy, String)>,
}

/// Changes the cluster so that it is reached through the proxy at this address; the environment for that.
type Change = fn(&mut Cluster, &str) -> Vec<(&'static str, String)>;
type Make = fn(&Stage, &str) -> Result<Option<Given>>;

const ROWS: [(&str, Make); 18] = [
    ("as it is", |stage, name| given(stage.kubeconfig(name, |_| {})?)),
    ("token file that ends with a newline", token_file),
    ("empty current-context in the first file", empty_context),
    ("empty strings beside what counts", empty_strings),
    ("base64 data on several lines", wrapped),
    ("server without a scheme, which is plain HTTP", |stage, name| {
        let path = with_cluster(stage, name, |cluster| {
            cluster.server = cluster.server.take().map(|server| server.replace("https://", ""));
        })?;
        refused(path, "")
    }),
    ("server with a scheme that is not HTTP's", |stage, name| {
        let path = with_cluster(stage, name, |cluster| {
            cluster.server = cluster.server.take().map(|server| server.replace("https://", "ftp://"));
        })?;
        refused(path, "ftp")
    }),
    ("tls-server-name", |stage, name| {
        given(with_cluster(stage, name, |cluster| cluster.tls_server_name = Some(NAME.into()))?)
    }),
    ("tls-server-name of another server", |stage, name| {
        let path = with_cluster(stage, name, |cluster| cluster.tls_server_name = Some("other.test".into()))?;
        refused(path, "certificate")
    }),
    ("insecure-skip-tls-verify", |stage, name| {
        given(with_cluster(stage, name, |cluster| {
            cluster.certificate_authority_data = None;
            cluster.insecure_skip_tls_verify = Some(true);
        })?)
    }),
    ("client certificate with a P-521 key", p521),
    ("plugin that prints YAML", |stage, name| {
        let token = admin_token(stage)?;
        let script = format!(
            "printf 'apiVersion: client.authentication.k8s.io/v1\\nkind: ExecCredential\\nstatus: {{token: {token}}}\\n'"
        );
        given(with_plugin(stage, name, &["sh", "-c", &script])?)
    }),
    ("plugin that is not installed", |stage, name| {
        refused(with_plugin(stage, name, &["no-such-plugin"])?, "install it from example.com")
    }),
    ("plugin that fails", |stage, name| {
        refused(with_plugin(stage, name, &["sh", "-c", "echo please log in >&2; exit 3"])?, "please log in")
    }),
    ("certificate without a key", |stage, name| {
        let path = stage.kubeconfig(name, |kubeconfig| {
            if let Some(user) = &mut kubeconfig.auth_infos[0].auth_info {
                user.client_key_data = None;
            }
        })?;
        refused(path, "client-key")
    }),
    ("user that is not in the file", |stage, name| {
        refused(stage.kubeconfig(name, |kubeconfig| kubeconfig.auth_infos.clear())?, "")
    }),
    ("token of nobody", |stage, name| {
        let user = AuthInfo { token: Some("nobody".to_owned().into()), ..AuthInfo::default() };
        refused(stage.kubeconfig_of(name, user)?, "nauthorized")
    }),
    ("proxy-url where nobody listens", |stage, name| {
        let path = with_cluster(stage, name, |cluster| cluster.proxy_url = Some("http://127.0.0.1:1".into()))?;
        refused(path, "")
    }),
];

pub fn rows(stage: &Stage) -> Vec<Row<'_>> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let package = Arc::new(package(stage));
    let compare = |name: &'static str, number: usize| {
        let (at_once, package) = (at_once.clone(), package.clone());
        (number, name, at_once, package)
    };
    let made = ROWS.iter().zip(0..).map(|(&(name, make), number)| {
        let (number, name, at_once, package) = compare(name, number);
        let row: Row<'_> = Box::pin(async move {
            let _permit = at_once.acquire().await;
            let file = format!("kubeconfig-{number}");
            match make(stage, &file) {
                Ok(None) => (name, Cell::Skipped("it cannot be made here".into())),
                Ok(Some(given)) => (name, Cell::from(check(stage, &file, &given, &package).await)),
                Err(error) => (name, Cell::Failed(format!("{error:#}"))),
            }
        });
        row
    });
    let proxied: [(&'static str, Change, bool); 4] = [
        (
            "proxy-url",
            |cluster, proxy| {
                cluster.proxy_url = Some(format!("http://{proxy}"));
                Vec::new()
            },
            true,
        ),
        (
            "proxy-url and NO_PROXY, which does not concern it",
            |cluster, proxy| {
                cluster.proxy_url = Some(format!("http://{proxy}"));
                vec![("NO_PROXY", "*".into())]
            },
            true,
        ),
        ("HTTPS_PROXY", |_, proxy| vec![("HTTPS_PROXY", format!("http://{proxy}"))], true),
        (
            "HTTPS_PROXY and NO_PROXY",
            |_, proxy| vec![("HTTPS_PROXY", format!("http://{proxy}")), ("NO_PROXY", ".svc".into())],
            false,
        ),
    ];
    let proxied = proxied.into_iter().zip(ROWS.len()..).map(|((name, change, through), number)| {
        let (number, name, at_once, package) = compare(name, number);
        let row: Row<'_> = Box::pin(async move {
            let _permit = at_once.acquire().await;
            let file = format!("kubeconfig-{number}");
            let result = async {
                let server = stage.api_server()?;
                let proxy = ConnectProxy::start(server).await?;
                let target = format!("{NAME}:{}", server.port());
                let mut env = Vec::new();
                let path = with_cluster(stage, &file, |cluster| {
                    cluster.server = Some(format!("https://{target}"));
                    env = change(cluster, &proxy.address.to_string());
                })?;
                let refused = (!through).then_some("");
                let proxy = through.then_some((proxy, target));
                check(stage, &file, &Given { files: vec![path], env, refused, proxy }, &package).await
            };
            (name, Cell::from(result.await))
        });
        row
    });
    made.chain(proxied).collect()
}

fn given(path: PathBuf) -> Result<Option<Given>> {
    Ok(Some(Given { files: vec![path], ..Given::default() }))
}

fn refused(path: PathBuf, says: &'static str) -> Result<Option<Given>> {
    Ok(Some(Given { files: vec![path], refused: Some(says), ..Given::default() }))
}

fn with_cluster(stage: &Stage, name: &str, change: impl FnOnce(&mut Cluster)) -> Result<PathBuf> {
    stage.kubeconfig(name, |kubeconfig| {
        if let Some(cluster) = &mut kubeconfig.clusters[0].cluster {
            change(cluster);
        }
    })
}

fn with_plugin(stage: &Stage, name: &str, command: &[&str]) -> Result<PathBuf> {
    let user = serde_json::json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command[0],
        "args": command[1..],
        "interactiveMode": "Never",
        "installHint": "install it from example.com",
    }});
    stage.kubeconfig_of(name, serde_json::from_value(user)?)
}

/// That of the control plane's own administrator.
fn admin_token(stage: &Stage) -> Result<String> {
    let tokens = std::fs::read_to_string(stage.path("cluster/pki/tokens.csv"))?;
    Ok(tokens.split(',').next().context("no token")?.to_owned())
}

fn token_file(stage: &Stage, name: &str) -> Result<Option<Given>> {
    let Ok(token) = admin_token(stage) else { return Ok(None) };
    let file = stage.path("token-with-newline");
    std::fs::write(&file, format!("{token}\n"))?;
    let user = AuthInfo { token_file: Some(file.display().to_string()), ..AuthInfo::default() };
    given(stage.kubeconfig_of(name, user)?)
}

fn empty_context(stage: &Stage, name: &str) -> Result<Option<Given>> {
    let first = stage.path("empty-context.kubeconfig");
    std::fs::write(&first, "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\n")?;
    let second = stage.kubeconfig(name, |_| {})?;
    Ok(Some(Given { files: vec![first, second], ..Given::default() }))
}

fn empty_strings(stage: &Stage, name: &str) -> Result<Option<Given>> {
    let path = stage.kubeconfig(name, |kubeconfig| {
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

fn wrapped(stage: &Stage, name: &str) -> Result<Option<Given>> {
    let path = stage.kubeconfig(name, |_| {})?;
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

/// Made with OpenSSL, since ring has no such keys.
fn p521(stage: &Stage, name: &str) -> Result<Option<Given>> {
    let path = |name: &str| stage.path(name).display().to_string();
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
    given(stage.kubeconfig_of(name, user)?)
}

/// A guest that is compiled in a moment and does nothing.
fn package(stage: &Stage) -> Result<PathBuf> {
    let path = stage.path("idle.wasm");
    std::fs::write(&path, Code::default().package("idle", Limits::NONE)?.bytes())?;
    Ok(path)
}

/// Both do what is expected of both.
async fn check(stage: &Stage, name: &str, given: &Given, package: &Result<PathBuf>) -> Result<()> {
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
    let mut kubectl = stage.cluster.binaries.kubectl();
    environment(kubectl.args(["get", "--raw", "/api", "--request-timeout=20s"]));
    let answered = tokio::task::spawn_blocking(move || kubectl.output()).await??;
    let (is_in, by_kubectl) = (answered.status.success(), count());
    let said = String::from_utf8_lossy(&answered.stderr);
    ensure!(is_in == given.refused.is_none(), "kubectl is {}: {said}", if is_in { "let in" } else { "refused" });
    let mut wasmop = Command::new(guests::wasmop()?);
    wasmop.arg("run").arg(package).arg("--state-dir").arg(stage.path(&format!("{name}-state")));
    environment(&mut wasmop);
    let log = stage.path(&format!("{name}.log"));
    let outcome = {
        let log = log.clone();
        tokio::task::spawn_blocking(move || run(wasmop, &log)).await??
    };
    let said = std::fs::read_to_string(&log)?;
    match (outcome, given.refused) {
        (Outcome::Started, None) => {
            ensure!(given.proxy.is_none() || (by_kubectl > 0 && count() > by_kubectl), "it goes around the proxy");
        }
        (Outcome::Refused, Some(says)) => {
            ensure!(said.contains(says) && said.contains("help:"), "it is refused without {says:?}:\n{said}");
        }
        (outcome, _) => bail!("kubectl: {}, wasmop: {outcome:?}\n{said}", if is_in { "let in" } else { "refused" }),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Started,
    Refused,
}

/// Until it has started, or has ended by itself.
fn run(mut command: Command, log: &Path) -> Result<Outcome> {
    let mut child = command.stdout(Stdio::null()).stderr(std::fs::File::create(log)?).spawn()?;
    let deadline = Instant::now() + patience();
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
