//! The credentials for the API server, kept current.
//!
//! ```text
//! kubeconfig ─► Credentials ─ current ─► Access (header, certificate)
//!                   ▲                         │
//!   files, plugin ──┘◄──── rejected (401) ────┘
//! ```
//!
//! The host refreshes files and plugins at an interval, when credentials expire, and when the API server answers 401.
//! A refresh continues when the request that started it is cancelled, since a plugin may take longer than a lease
//! renewal waits. A request waits for a refresh only if the credentials have expired or were rejected.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use http::HeaderValue;
use kube::config::{AuthInfo, ExecConfig};
use parking_lot::RwLock;
use secrecy::ExposeSecret;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::certificate;
use super::exec_plugin::{self, PluginError};

/// Time between two reads of token and certificate files.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two refreshes because of a 401.
const REJECTED_INTERVAL: Duration = Duration::from_secs(2);
/// A plugin runs again this long before its credentials expire.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// Time before a failed refresh is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Why credentials cannot be used. Cloned for every request that waited for them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CredentialError {
    /// The credential plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A token, certificate or key file cannot be read.
    #[error("cannot read {path}: {problem}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        problem: String,
    },
    /// A token, certificate or key is malformed.
    #[error("cannot use {what}: {problem}")]
    Malformed {
        /// Where it comes from.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl CredentialError {
    /// A remedy, without `help:`.
    pub fn help(&self) -> String {
        match self {
            CredentialError::Plugin(error) => error.help.clone(),
            CredentialError::Unreadable { .. } => {
                "make the file readable for this user, or correct the kubeconfig".into()
            }
            CredentialError::Malformed { .. } => {
                "correct the credentials in the kubeconfig or the file it names".into()
            }
        }
    }
}

/// The credentials of one request.
#[derive(Debug)]
pub struct Access {
    pub authorization: Option<HeaderValue>,
    pub certificate: Option<Arc<CertifiedKey>>,
    /// Increases with each new certificate, so that connections of earlier ones are not used.
    pub certificate_number: u64,
}

impl Access {
    fn is_same(&self, other: &Access) -> bool {
        self.authorization == other.authorization && self.certificate_number == other.certificate_number
    }
}

/// The source of the `Authorization` header.
#[derive(Clone, Debug)]
enum Token {
    None,
    Fixed(HeaderValue),
    /// The file takes precedence over `fallback`, the kubeconfig's own token, as in client-go.
    File {
        path: PathBuf,
        fallback: Option<HeaderValue>,
    },
}

/// The source of a PEM certificate or key.
#[derive(Clone, Debug)]
enum Pem {
    Data(Vec<u8>),
    File(PathBuf),
}

impl Pem {
    async fn read(&self) -> Result<Vec<u8>, CredentialError> {
        match self {
            Pem::Data(data) => Ok(data.clone()),
            Pem::File(path) => read(path).await,
        }
    }

    fn name(&self) -> String {
        match self {
            Pem::Data(_) => "the client certificate in the kubeconfig".into(),
            Pem::File(path) => path.display().to_string(),
        }
    }
}

/// The credentials of one user of a kubeconfig. Clones share them.
#[derive(Clone)]
pub struct Credentials(Arc<User>);

struct User {
    token: Token,
    certificate: Option<(Pem, Pem)>,
    plugin: Option<ExecConfig>,
    current: RwLock<Held>,
    /// Locked by the task that reads files or runs the plugin.
    refreshing: Arc<Mutex<Refreshing>>,
}

#[derive(Clone)]
struct Held {
    access: Arc<Access>,
    /// When to refresh; `None`: never.
    look_at: Option<Instant>,
    /// Expiry of the plugin's credentials.
    expires: Option<SystemTime>,
}

impl Held {
    fn is_due(&self) -> bool {
        self.look_at.is_some_and(|at| at <= Instant::now())
    }

    fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= SystemTime::now())
    }
}

#[derive(Default)]
struct Refreshing {
    /// PEM of `access.certificate`.
    pem: Option<(Vec<u8>, Vec<u8>)>,
    /// Expiry of the plugin's credentials.
    expires: Option<SystemTime>,
    /// Time of the last refresh because of a 401.
    rejected_at: Option<Instant>,
    /// The last problem that was logged.
    reported: Option<String>,
}

impl Credentials {
    /// Reads the user's files or runs the user's plugin.
    ///
    /// # Errors
    /// A file cannot be read, the plugin fails, or the credentials are malformed.
    pub async fn load(user: &AuthInfo) -> Result<Credentials, CredentialError> {
        let fixed = match (&user.token, &user.username) {
            (Some(token), _) => Some(bearer(token.expose_secret(), "the token in the kubeconfig")?),
            (None, Some(name)) => {
                let password = user.password.as_ref().map_or("", |password| password.expose_secret());
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                Some(header(&format!("Basic {pair}"), "user and password in the kubeconfig")?)
            }
            (None, None) => None,
        };
        let token = match (&user.token_file, fixed) {
            (Some(path), fallback) => Token::File { path: path.into(), fallback },
            (None, Some(fixed)) => Token::Fixed(fixed),
            (None, None) => Token::None,
        };
        let pem = |data: Option<&str>, file: &Option<String>, what: &str| match (data, file) {
            (Some(data), _) => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(data);
                let malformed = |error: base64::DecodeError| CredentialError::Malformed {
                    what: what.into(),
                    problem: format!("it is not base64: {error}"),
                };
                decoded.map_err(malformed).map(|data| Some(Pem::Data(data)))
            }
            (None, Some(file)) => Ok(Some(Pem::File(file.into()))),
            (None, None) => Ok(None),
        };
        let certificate =
            pem(user.client_certificate_data.as_deref(), &user.client_certificate, "client-certificate-data")?;
        let key_data = user.client_key_data.as_ref().map(|key| key.expose_secret());
        let key = pem(key_data, &user.client_key, "client-key-data")?;
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let missing = if certificate.is_some() { "client-key" } else { "client-certificate" };
                let (what, problem) = ("the client certificate".into(), format!("the kubeconfig has no {missing}"));
                return Err(CredentialError::Malformed { what, problem });
            }
        };
        // Static credentials take precedence, as in client-go.
        let plugin = user.exec.clone().filter(|_| matches!(token, Token::None) && certificate.is_none());
        let nothing = Access { authorization: None, certificate: None, certificate_number: 0 };
        let user = User {
            token,
            certificate,
            plugin,
            current: RwLock::new(Held { access: Arc::new(nothing), look_at: None, expires: None }),
            refreshing: Arc::default(),
        };
        let mut refreshing = user.refreshing.lock().await;
        let (access, look_at) = user.read(&mut refreshing, true).await?;
        user.hold(Arc::new(access), look_at, refreshing.expires);
        drop(refreshing);
        Ok(Credentials(Arc::new(user)))
    }

    /// The current credentials.
    ///
    /// # Errors
    /// The credentials have expired, and the refresh failed.
    pub async fn current(&self) -> Result<Arc<Access>, CredentialError> {
        let user = &self.0;
        let held = user.held();
        if !held.is_due() {
            return Ok(held.access);
        }
        if user.plugin.is_some() && !held.is_expired() {
            // If it is locked, a refresh is running already.
            if let Ok(refreshing) = user.refreshing.clone().try_lock_owned()
                && user.held().is_due()
            {
                drop(self.refresh(refreshing, false));
            }
            return Ok(held.access);
        }
        let refreshing = user.refreshing.clone().lock_owned().await;
        let held = user.held();
        if !held.is_due() {
            // Another request has refreshed them.
            return Ok(held.access);
        }
        joined(self.refresh(refreshing, false)).await
    }

    /// Other credentials to try after the API server answered 401 to `rejected`, if there are any.
    pub async fn rejected(&self, rejected: &Access) -> Option<Arc<Access>> {
        let user = &self.0;
        if user.plugin.is_none() && !user.has_files() {
            return None;
        }
        let mut refreshing = user.refreshing.clone().lock_owned().await;
        let Held { access, .. } = user.held();
        if !access.is_same(rejected) {
            return Some(access);
        }
        if refreshing.rejected_at.is_some_and(|at| at.elapsed() < REJECTED_INTERVAL) {
            return None;
        }
        refreshing.rejected_at = Some(Instant::now());
        let newer = joined(self.refresh(refreshing, true)).await.ok()?;
        (!newer.is_same(rejected)).then_some(newer)
    }

    /// Refreshes in a task, which continues if its handle is dropped.
    fn refresh(
        &self,
        mut refreshing: OwnedMutexGuard<Refreshing>,
        rejected: bool,
    ) -> JoinHandle<Result<Arc<Access>, CredentialError>> {
        let user = self.0.clone();
        tokio::spawn(async move {
            let Held { access, .. } = user.held();
            user.refresh(&mut refreshing, access, rejected).await
        })
    }

    /// Lets time pass, for tests.
    #[cfg(test)]
    pub async fn age(&self, time: Duration) {
        let mut refreshing = self.0.refreshing.lock().await;
        refreshing.rejected_at = refreshing.rejected_at.and_then(|at| at.checked_sub(time));
        let Held { access, look_at, expires } = self.0.held();
        self.0.hold(access, look_at.and_then(|at| at.checked_sub(time)), expires);
    }
}

async fn joined(task: JoinHandle<Result<Arc<Access>, CredentialError>>) -> Result<Arc<Access>, CredentialError> {
    task.await.unwrap_or_else(|error| {
        // The runtime shuts down.
        Err(CredentialError::Malformed { what: "the credentials".into(), problem: error.to_string() })
    })
}

impl User {
    fn has_files(&self) -> bool {
        let is_file = |pem: &Pem| matches!(pem, Pem::File(_));
        matches!(self.token, Token::File { .. })
            || self.certificate.as_ref().is_some_and(|(certificate, key)| is_file(certificate) || is_file(key))
    }

    fn held(&self) -> Held {
        self.current.read().clone()
    }

    fn hold(&self, access: Arc<Access>, look_at: Option<Instant>, expires: Option<SystemTime>) {
        *self.current.write() = Held { access, look_at, expires };
    }

    /// Refreshes the credentials. If that fails, the previous ones stay in use until they expire.
    async fn refresh(
        &self,
        refreshing: &mut Refreshing,
        before: Arc<Access>,
        rejected: bool,
    ) -> Result<Arc<Access>, CredentialError> {
        match self.read(refreshing, rejected).await {
            Ok((access, look_at)) => {
                if refreshing.reported.take().is_some() {
                    tracing::info!("renewed the credentials for the API server");
                }
                let access = if access.is_same(&before) { before } else { Arc::new(access) };
                self.hold(access.clone(), look_at, refreshing.expires);
                Ok(access)
            }
            Err(error) => {
                let problem = error.to_string();
                if refreshing.reported.as_ref() != Some(&problem) {
                    tracing::warn!(
                        error = problem,
                        help = error.help(),
                        "cannot renew the credentials for the API server"
                    );
                    refreshing.reported = Some(problem);
                }
                self.hold(before.clone(), Some(Instant::now() + RETRY_INTERVAL), refreshing.expires);
                let is_over = refreshing.expires.is_some_and(|at| at <= SystemTime::now());
                if is_over { Err(error) } else { Ok(before) }
            }
        }
    }

    /// Reads the credentials, and returns when to refresh them. `force`: run the plugin even before it is due.
    async fn read(
        &self,
        refreshing: &mut Refreshing,
        force: bool,
    ) -> Result<(Access, Option<Instant>), CredentialError> {
        if let Some(plugin) = &self.plugin {
            return self.run(plugin, refreshing, force).await;
        }
        let authorization = match &self.token {
            Token::None => None,
            Token::Fixed(value) => Some(value.clone()),
            Token::File { path, fallback } => match (read_token(path).await, fallback) {
                (Ok(value), _) => Some(value),
                (Err(_), Some(fallback)) => Some(fallback.clone()),
                (Err(error), None) => return Err(error),
            },
        };
        let pem = match &self.certificate {
            None => None,
            Some((certificate, key)) => Some((certificate.read().await?, key.read().await?)),
        };
        let name = self.certificate.as_ref().map_or_else(String::new, |(certificate, _)| certificate.name());
        let (certificate, certificate_number) = self.certified(refreshing, pem, name)?;
        let look_at = self.has_files().then(|| Instant::now() + REREAD_INTERVAL);
        Ok((Access { authorization, certificate, certificate_number }, look_at))
    }

    async fn run(
        &self,
        plugin: &ExecConfig,
        refreshing: &mut Refreshing,
        force: bool,
    ) -> Result<(Access, Option<Instant>), CredentialError> {
        let Held { access, .. } = self.held();
        let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or_default();
        if !force && refreshing.expires.is_none_or(|at| left(at) > EXPIRY_MARGIN) {
            let Access { authorization, certificate, certificate_number } = &*access;
            let (authorization, certificate) = (authorization.clone(), certificate.clone());
            let look_at = refreshing.expires.map(|at| Instant::now() + left(at).saturating_sub(EXPIRY_MARGIN));
            return Ok((Access { authorization, certificate, certificate_number: *certificate_number }, look_at));
        }
        let given = exec_plugin::run(plugin).await?;
        let name = format!("the output of the credential plugin {:?}", plugin.command.as_deref().unwrap_or_default());
        let authorization = given.token.map(|token| bearer(&token, &name)).transpose()?;
        let pem = given.certificate.map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes()));
        let (certificate, certificate_number) = self.certified(refreshing, pem, name)?;
        refreshing.expires = given.expires;
        // If credentials are about to expire already, the plugin still does not run for every request.
        let look_at = given.expires.map(|at| {
            let left = left(at);
            Instant::now() + left.saturating_sub(EXPIRY_MARGIN).max(left.min(RETRY_INTERVAL))
        });
        Ok((Access { authorization, certificate, certificate_number }, look_at))
    }

    /// The certificate and its number, which changes only with the PEM.
    fn certified(
        &self,
        refreshing: &mut Refreshing,
        pem: Option<(Vec<u8>, Vec<u8>)>,
        name: String,
    ) -> Result<(Option<Arc<CertifiedKey>>, u64), CredentialError> {
        let Held { access, .. } = self.held();
        if refreshing.pem == pem {
            return Ok((access.certificate.clone(), access.certificate_number));
        }
        let read = |(certificate, key): &(Vec<u8>, Vec<u8>)| certificate::read(certificate, key);
        let certified = pem.as_ref().map(read).transpose();
        let certified = certified.map_err(|problem| CredentialError::Malformed { what: name, problem })?;
        refreshing.pem = pem;
        Ok((certified, access.certificate_number + 1))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let unreadable =
        |error: std::io::Error| CredentialError::Unreadable { path: path.into(), problem: error.to_string() };
    tokio::fs::read(path).await.map_err(unreadable)
}

async fn read_token(path: &Path) -> Result<HeaderValue, CredentialError> {
    let text = read(path).await?;
    bearer(&String::from_utf8_lossy(&text), &path.display().to_string())
}

/// Trims whitespace around the token, since editors end files with a newline.
fn bearer(token: &str, what: &str) -> Result<HeaderValue, CredentialError> {
    let token = token.trim();
    if token.is_empty() {
        return Err(CredentialError::Malformed { what: what.into(), problem: "there is no token".into() });
    }
    header(&format!("Bearer {token}"), what)
}

fn header(text: &str, what: &str) -> Result<HeaderValue, CredentialError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| CredentialError::Malformed {
        what: what.into(),
        problem: "it has characters that are not allowed in an HTTP header".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
