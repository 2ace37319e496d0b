//! Finds the configuration of the cluster as kubectl does, and checks the connection.

mod kubeconfig;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::Deserialize;

use crate::client::{CredentialError, proxy};
use crate::error_chain::chain;

/// Time limit of each request of [`check`].
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);

/// Where to look for a cluster.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--kubeconfig`, which takes precedence over all other sources.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`; `None`: the kubeconfig's current one.
    pub context: Option<String>,
    /// The variable `KUBECONFIG`: files, merged in order. Missing ones are skipped, as kubectl does.
    pub kubeconfig_variable: Option<OsString>,
    /// The user's home directory, for `.kube/config`.
    pub home: Option<PathBuf>,
    /// The process runs in a pod with a service account.
    pub in_cluster: bool,
}

impl Sources {
    /// The command line's choice, then the environment of this process, in kubectl's order.
    pub fn from_env(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        Sources {
            kubeconfig,
            context,
            kubeconfig_variable: std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            home: std::env::home_dir(),
            in_cluster: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

/// Why the host cannot connect to a cluster. In all variants `path` is a kubeconfig, `server` the API server's URL and
/// `problem` the reason.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConnectError {
    /// No source has a kubeconfig.
    #[error("no kubeconfig found: looked at {}", looked_at.join(", "))]
    NoKubeconfig { looked_at: Vec<String> },
    /// A kubeconfig cannot be read or parsed.
    #[error("cannot read the kubeconfig {}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: String },
    /// `--context` is not in the kubeconfig.
    #[error("the kubeconfig {} has no context {context:?}; it has {}", path.display(), names(known))]
    UnknownContext { path: PathBuf, context: String, known: Vec<String> },
    /// There is neither `--context` nor `current-context`.
    #[error("the kubeconfig {} has no current context; it has {}", path.display(), names(known))]
    NoCurrentContext { path: PathBuf, known: Vec<String> },
    /// A part of the context is missing or malformed.
    #[error("the kubeconfig {} cannot be used: {problem}", path.display())]
    Unusable { path: PathBuf, problem: String },
    /// A credential file or plugin failed.
    #[error("no credentials for the API server: {0}")]
    Credentials(CredentialError),
    /// The pod has no usable service account.
    #[error("cannot use the pod's service account: {0}")]
    InCluster(String),
    /// The API server does not answer, or answers that it is unavailable.
    #[error("cannot reach the API server {server}: {problem}")]
    Unreachable { server: String, problem: String },
    /// The TLS handshake failed.
    #[error("no trusted connection to the API server {server}: {problem}")]
    Tls { server: String, problem: String },
    /// The API server answered 401.
    #[error("the API server {server} does not accept the credentials (401): {problem}")]
    Unauthorized { server: String, problem: String },
    /// The API server answered 403.
    #[error("the API server {server} does not allow this identity to read its discovery (403): {problem}")]
    Forbidden { server: String, problem: String },
    /// The server is not a Kubernetes API server.
    #[error("{server} does not answer like a Kubernetes API server: {problem}")]
    NotKubernetes { server: String, problem: String },
}

impl ConnectError {
    /// A remedy, without `help:`.
    pub fn help(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            ConnectError::Credentials(error) => return error.help().into(),
            ConnectError::NoKubeconfig { .. } => "name one with --kubeconfig FILE or the variable KUBECONFIG",
            ConnectError::Unreadable { .. } => "check that the file exists, may be read and is a kubeconfig",
            ConnectError::UnknownContext { .. } => {
                "name one of these with --context, or leave it out for the current one"
            }
            ConnectError::NoCurrentContext { .. } => {
                "name one with --context, or set it with `kubectl config use-context`"
            }
            ConnectError::Unusable { .. } => "correct the file; `kubectl --kubeconfig FILE version` must work with it",
            ConnectError::InCluster(_) => {
                "give the pod a service account (automountServiceAccountToken), or use --kubeconfig"
            }
            ConnectError::Unreachable { .. } => {
                "check that the cluster is up and that the address in the kubeconfig is right"
            }
            ConnectError::Tls { .. } => {
                "check certificate-authority(-data) and the server's name in the kubeconfig, and the clock of this machine"
            }
            ConnectError::Unauthorized { .. } => {
                "the credentials have expired or are of another cluster: renew the kubeconfig"
            }
            ConnectError::Forbidden { .. } => "use an identity that the cluster knows, and bind it to a role",
            ConnectError::NotKubernetes { .. } => "check the address of the server in the kubeconfig",
        })
    }
}

/// Finds and reads the configuration. It does not connect.
///
/// # Errors
/// There is no configuration, or it is invalid.
pub async fn load(sources: &Sources) -> Result<Config, ConnectError> {
    if let Some(path) = &sources.kubeconfig {
        return use_kubeconfig(read(path)?, path, sources).await;
    }
    let mut looked_at = Vec::new();
    if let Some(variable) = &sources.kubeconfig_variable {
        let mut merged: Option<(Kubeconfig, PathBuf)> = None;
        for path in std::env::split_paths(variable).filter(|path| !path.as_os_str().is_empty()) {
            if !path.exists() {
                looked_at.push(format!("{} (from KUBECONFIG)", path.display()));
                continue;
            }
            let next = read(&path)?;
            merged = Some(match merged {
                None => (next, path),
                Some((first, first_path)) => {
                    let problem = |error: KubeconfigError| unusable(&path, &error);
                    (first.merge(next).map_err(problem)?, first_path)
                }
            });
        }
        if let Some((kubeconfig, path)) = merged {
            return use_kubeconfig(kubeconfig, &path, sources).await;
        }
    } else if let Some(home) = &sources.home {
        let path = home.join(".kube/config");
        if path.exists() {
            return use_kubeconfig(read(&path)?, &path, sources).await;
        }
        looked_at.push(path.display().to_string());
    }
    // A context is part of a kubeconfig, so --context excludes the service account.
    if sources.in_cluster && sources.context.is_none() {
        let mut config = Config::incluster().map_err(|error| ConnectError::InCluster(chain(&error)))?;
        let proxy = proxy::for_server(None, variable, &config.cluster_url);
        config.proxy_url = proxy.map_err(|error| ConnectError::InCluster(error.to_string()))?;
        return Ok(config);
    }
    looked_at.push("the service account of a pod".into());
    Err(ConnectError::NoKubeconfig { looked_at })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read(path: &Path) -> Result<Kubeconfig, ConnectError> {
    let read = Kubeconfig::read_from(path).map(|mut read| {
        kubeconfig::normalize(&mut read);
        read
    });
    read.map_err(|error| {
        let problem = match error {
            KubeconfigError::ReadConfig(error, _) => error.to_string(),
            error => chain(&error),
        };
        ConnectError::Unreadable { path: path.into(), problem }
    })
}

async fn use_kubeconfig(mut kubeconfig: Kubeconfig, path: &Path, sources: &Sources) -> Result<Config, ConnectError> {
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let context = match sources.context.as_ref().filter(|context| !context.is_empty()) {
        Some(context) => context.clone(),
        None => match &kubeconfig.current_context {
            Some(context) => context.clone(),
            None => return Err(ConnectError::NoCurrentContext { path: path.into(), known }),
        },
    };
    if !known.contains(&context) {
        return Err(ConnectError::UnknownContext { path: path.into(), context, known });
    }
    let malformed = |problem: String| ConnectError::Unusable { path: path.into(), problem };
    let configured = complete(&mut kubeconfig, &context).map_err(malformed)?;
    let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| unusable(path, &error))?;
    let proxy = proxy::for_server(configured.as_deref(), variable, &config.cluster_url);
    config.proxy_url = proxy.map_err(|error| malformed(error.to_string()))?;
    Ok(config)
}

/// Adds the scheme to a context's server, and takes out the cluster's `proxy-url`, which kube handles wrongly.
fn complete(kubeconfig: &mut Kubeconfig, context: &str) -> Result<Option<String>, String> {
    let named = kubeconfig.contexts.iter().find(|named| named.name == context);
    let Some(context) = named.and_then(|named| named.context.clone()) else { return Ok(None) };
    let mut clusters = kubeconfig.clusters.iter_mut();
    let cluster = clusters.find(|named| named.name == context.cluster);
    let Some(cluster) = cluster.and_then(|named| named.cluster.as_mut()) else { return Ok(None) };
    if let Some(server) = &cluster.server {
        cluster.server = Some(kubeconfig::server_url(server)?);
    }
    Ok(cluster.proxy_url.take())
}

fn unusable(path: &Path, error: &KubeconfigError) -> ConnectError {
    ConnectError::Unusable { path: path.into(), problem: chain(error) }
}

fn names(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.join(", ") }
}

/// The version of an API server, from `/version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerVersion {
    /// Such as `1`.
    pub major: String,
    /// Such as `37`; vendors may append a `+`.
    pub minor: String,
    /// Such as `v1.37.2`.
    pub git_version: String,
}

/// Checks that the API server answers and knows this identity. `server` is its URL, for errors.
///
/// # Errors
/// The API server is unreachable, refuses the identity, or is another kind of server.
pub async fn check(client: &kube::Client, server: &http::Uri) -> Result<ServerVersion, ConnectError> {
    let version = get(client, server, "/version").await?;
    let version = serde_json::from_str(&version).map_err(|error| ConnectError::NotKubernetes {
        server: server.to_string(),
        problem: format!("/version has an unexpected form: {error}"),
    })?;
    // Anonymous users may read /version, but not /api.
    get(client, server, "/api").await?;
    Ok(version)
}

async fn get(client: &kube::Client, server: &http::Uri, path: &str) -> Result<String, ConnectError> {
    let address = server.to_string();
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| ConnectError::NotKubernetes { server: address.clone(), problem: error.to_string() })?;
    let Ok(answer) = tokio::time::timeout(CHECK_TIMEOUT, client.request_text(request)).await else {
        let problem = format!("no answer within {} s", CHECK_TIMEOUT.as_secs());
        return Err(ConnectError::Unreachable { server: address, problem });
    };
    answer.map_err(|error| classify(error, address))
}

fn classify(error: kube::Error, server: String) -> ConnectError {
    match error {
        kube::Error::Api(status) => {
            let problem = status.message.chars().take(300).collect();
            match status.code {
                401 => ConnectError::Unauthorized { server, problem },
                403 => ConnectError::Forbidden { server, problem },
                429 | 500.. => {
                    ConnectError::Unreachable { server, problem: format!("status {}: {problem}", status.code) }
                }
                code => ConnectError::NotKubernetes { server, problem: format!("status {code}: {problem}") },
            }
        }
        kube::Error::Auth(error) => ConnectError::Unauthorized { server, problem: chain(&error) },
        kube::Error::Service(error) if error.is::<CredentialError>() => match error.downcast::<CredentialError>() {
            Ok(error) => ConnectError::Credentials(*error),
            Err(error) => ConnectError::Unreachable { server, problem: error.to_string() },
        },
        error => {
            let problem = chain(&error);
            if is_tls(&error) {
                ConnectError::Tls { server, problem }
            } else {
                ConnectError::Unreachable { server, problem }
            }
        }
    }
}

/// tokio-rustls reports all TLS errors, from a wrong protocol to an expired certificate, as invalid data, which
/// hyper-rustls wraps in another `io::Error`.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    fn is_invalid_data(error: &(dyn std::error::Error + 'static)) -> bool {
        let Some(error) = error.downcast_ref::<std::io::Error>() else { return false };
        error.kind() == std::io::ErrorKind::InvalidData || error.get_ref().is_some_and(|inner| is_invalid_data(inner))
    }
    std::iter::successors(Some(error), |error| error.source()).any(is_invalid_data)
}

#[cfg(test)]
mod tests;
