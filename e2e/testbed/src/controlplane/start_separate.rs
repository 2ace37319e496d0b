//! Starts `etcd` and `kube-apiserver` as separate processes, with the flags of controller-runtime's envtest.
//!
//! The API server creates its own certificate. The administrator authenticates with a token.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};

use super::component::{Lifetime, START_TIMEOUT, spawn};
use super::locate::Binaries;
use super::running::ControlPlane;
use super::service_account_key;
use crate::process::Process;

pub(crate) fn start(
    binaries: &Binaries,
    dir: &Path,
    lifetime: Lifetime,
    apiserver_flags: &[String],
) -> Result<ControlPlane> {
    let Binaries::Separate { etcd, kube_apiserver, .. } = binaries else { unreachable!("only called for these") };
    let (etcd_port, peer_port, api_port) = (free_port()?, free_port()?, free_port()?);
    let etcd_url = format!("http://127.0.0.1:{etcd_port}");
    let mut etcd_process = start_etcd(etcd, dir, &etcd_url, peer_port, lifetime)?;
    wait(dir, "etcd.log", &mut etcd_process, || TcpStream::connect(("127.0.0.1", etcd_port)).is_ok())?;

    let certs = dir.join("pki");
    fs::create_dir_all(&certs)?;
    let (private, public) = service_account_key::generate()?;
    write_secret(&certs.join("sa.key"), &private)?;
    write_secret(&certs.join("sa.pub"), &public)?;
    let token = random_token()?;
    write_secret(&certs.join("tokens.csv"), &format!("{token},admin,admin,\"system:masters\"\n"))?;

    let server = format!("https://127.0.0.1:{api_port}");
    let mut command = Command::new(kube_apiserver);
    command
        .args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
        ])
        // The controller that creates ServiceAccounts does not run, so Pods must not need them.
        .args([
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.0.0.0/24",
        ])
        .args([
            format!("--secure-port={api_port}"),
            format!("--etcd-servers={etcd_url}"),
            format!("--service-account-issuer={server}/"),
        ])
        .args([flag("cert-dir", &certs), flag("token-auth-file", &certs.join("tokens.csv"))])
        .args([
            flag("service-account-key-file", &certs.join("sa.pub")),
            flag("service-account-signing-key-file", &certs.join("sa.key")),
        ])
        .args(apiserver_flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let child = spawn("kube-apiserver", command, &dir.join("kube-apiserver.log"), lifetime)?;
    let mut api_process = Process::new("kube-apiserver", child, Duration::from_secs(15));

    let certificate = certs.join("apiserver.crt");
    let kubeconfig = dir.join("kubeconfig");
    wait(dir, "kube-apiserver.log", &mut api_process, || {
        TcpStream::connect(("127.0.0.1", api_port)).is_ok() && certificate.is_file()
    })?;
    write_secret(&kubeconfig, &admin_kubeconfig(&server, &fs::read(&certificate)?, &token))?;
    wait(dir, "kube-apiserver.log", &mut api_process, || {
        let mut kubectl = binaries.kubectl();
        kubectl.args(["get", "--raw", "/readyz"]).arg("--kubeconfig").arg(&kubeconfig);
        kubectl.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })?;
    Ok(ControlPlane { kubeconfig, server, processes: vec![api_process, etcd_process], bundled: None })
}

fn start_etcd(program: &Path, dir: &Path, url: &str, peer_port: u16, lifetime: Lifetime) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .arg(flag("data-dir", &dir.join("etcd")))
        .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // Older versions reject the flag; envtest checks for it in the same way.
    let help = Command::new(program).arg("--help").output()?;
    if [help.stdout, help.stderr].iter().any(|text| String::from_utf8_lossy(text).contains("unsafe-no-fsync")) {
        command.arg("--unsafe-no-fsync=true");
    }
    Ok(Process::new("etcd", spawn("etcd", command, &dir.join("etcd.log"), lifetime)?, Duration::from_secs(10)))
}

fn flag(name: &str, path: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(format!("--{name}="));
    flag.push(path);
    flag
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok().context("the system has no random numbers")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_secret(path: &Path, content: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    Ok(file.write_all(content.as_bytes())?)
}

fn admin_kubeconfig(server: &str, certificate: &[u8], token: &str) -> String {
    let ca = BASE64.encode(certificate);
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: controlplane, cluster: {{server: \"{server}\", certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: admin, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: controlplane, context: {{cluster: controlplane, user: admin}}}}]\n\
         current-context: controlplane\n"
    )
}

fn wait(dir: &Path, log: &str, process: &mut Process, mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !ready() {
        let ended = process.ended();
        if ended.is_some() || Instant::now() > deadline {
            let log = dir.join(log);
            let why = ended
                .map_or_else(|| format!("is not ready after {START_TIMEOUT:?}"), |status| format!("ended ({status})"));
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(10).collect();
            bail!(
                "{} {why}; the end of {}:\n{}",
                process.name(),
                log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
