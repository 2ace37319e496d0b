//! Requests of each guest to hosts other than the API server. Granted requests succeed; of all others nothing is sent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_api::caller::HOST_USER_AGENT;
use wasmop_e2e::environment::Environment;
use wasmop_e2e::guest_fixture::GuestFixture;
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::part::{self, Part};
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::{TIMEOUT, TestCluster};
use wasmop_e2e::tls_identity::TlsIdentity;
use wasmop_package::Package;
use wasmop_package::manifest::Manifest;
use wasmop_testbed::host::Host;

use wasmop_e2e::web_server::Server;

const POLL: Duration = Duration::from_millis(50);
/// How long to wait for a request that must not arrive.
const QUIET: Duration = Duration::from_millis(500);
/// Allows the addresses of `localhost`.
const LOOPBACK: &str = "private-addresses = [\"127.0.0.0/8\", \"::1\"]";

fn main() -> ExitCode {
    part::main("external", &guests::COLUMNS, run)
}

/// The hosts that the guests contact.
struct Hosts {
    /// Reached over TLS, by name.
    secure: Server,
    /// Reached without TLS, by address.
    plain: Server,
    /// Requested, and granted only by `all`.
    other: Server,
}

impl Hosts {
    async fn start(identity: &TlsIdentity) -> Result<Hosts> {
        let other = Server::start(None, String::new()).await?;
        let elsewhere = format!("http://127.0.0.1:{}/", other.port);
        let plain = Server::start(None, elsewhere.clone()).await?;
        Ok(Hosts { secure: Server::start(Some(identity), elsewhere).await?, plain, other })
    }

    fn secure(&self) -> String {
        format!("https://localhost:{}", self.secure.port)
    }

    fn plain(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain.port)
    }

    fn other(&self) -> String {
        format!("http://127.0.0.1:{}", self.other.port)
    }

    /// A grant of the first two, as TOML.
    fn granted(&self) -> String {
        format!("external-hosts = [{:?}, {:?}]", self.secure(), self.plain())
    }
}

/// The rows build on each other: some change the settings for those that follow.
async fn run(part: &Part) -> Result<()> {
    ROWS.iter().for_each(|(row, _)| part.list(row.name()));
    part.list(LEARNED);
    let cluster = TestCluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
    let identity = TlsIdentity::new()?;
    let hosts = Hosts::start(&identity).await?;
    std::fs::write(cluster.dir().join("ca.pem"), &identity.authority)?;
    let config = cluster.dir().join("host.toml");
    let built: Vec<Guest> = columns.iter().filter_map(|column| column.guest.clone().ok()).collect();
    for guest in &built {
        let requested = [hosts.secure(), hosts.plain(), hosts.other()];
        rewrite(&guest.package, &guest.package, &requested)?;
    }
    let settings = Settings { config: config.clone(), hosts };
    let env = Environment::start(cluster, built.clone()).await?;
    settings.write(&built, &format!("{}\n{LOOPBACK}", settings.hosts.granted()))?;
    env.terminate_host().await?;
    env.restart_host_with(&["--config".into(), config.display().to_string()]).await?;

    let guests: Vec<(&'static str, Result<GuestFixture, String>)> = columns
        .into_iter()
        .map(|Column { name, guest }| (name, guest.map(|guest| GuestFixture { env: env.clone(), guest })))
        .collect();
    for (row, change) in ROWS {
        if let Some(change) = change {
            settings.change(&env, &built, &change(&settings.hosts)).await?;
        }
        for (column, guest) in &guests {
            match guest {
                Ok(guest) => part.row(row.name(), column, settings.check(row, guest)).await,
                Err(reason) => part.skip(row.name(), column, reason),
            }
        }
    }
    env.terminate_host().await?;
    for (column, guest) in &guests {
        match guest {
            Ok(guest) => part.row(LEARNED, column, settings.learns(guest)).await,
            Err(reason) => part.skip(LEARNED, column, reason),
        }
    }
    drop(guests);
    if part.has_failures()
        && let Some(files) = env.keep_files()
    {
        part.keep(files);
    }
    Ok(())
}

/// Writes a copy of a package that requests these hosts.
fn rewrite(from: &Path, to: &Path, hosts: &[String]) -> Result<()> {
    let bytes = std::fs::read(from)?;
    let manifest = Package::parse(bytes.clone())?.manifest.clone();
    let external_hosts = hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?;
    std::fs::write(to, wasmop_package::with_manifest(&bytes, &Manifest { external_hosts, ..manifest })?)?;
    Ok(())
}

/// The row of a learning host.
const LEARNED: &str = "--learn-permissions prints the contacted host";

/// A row that one request of a guest checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Granted,
    Redirect,
    NotGranted,
    NotAsked,
    Address,
    All,
    TakenAway,
    GivenBack,
}

/// Settings of each controller that apply from a row on.
type Change = fn(&Hosts) -> String;

/// All rows in order.
const ROWS: [(Row, Option<Change>); 8] = [
    (Row::Granted, None),
    (Row::Redirect, None),
    (Row::NotGranted, None),
    (Row::NotAsked, None),
    (Row::Address, Some(|hosts| hosts.granted())),
    (Row::All, Some(|_| "external-hosts = \"all\"".into())),
    (Row::TakenAway, Some(|_| format!("external-hosts = []\n{LOOPBACK}"))),
    (Row::GivenBack, Some(|hosts| format!("{}\n{LOOPBACK}", hosts.granted()))),
];

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::Granted => "granted: a TLS request gets its response, with a suspension in between",
            Row::Redirect => "a redirect is returned to the guest and not followed",
            Row::NotGranted => "requested but not granted: nothing is sent",
            Row::NotAsked => "not requested: nothing is sent",
            Row::Address => "a name that resolves to this machine: nothing is sent",
            Row::All => "`all` does not include addresses of this machine",
            Row::TakenAway => "SIGHUP revokes a grant: nothing is sent",
            Row::GivenBack => "SIGHUP restores a grant",
        }
    }
}

/// The configuration file of the host, and the hosts that it grants.
struct Settings {
    config: PathBuf,
    hosts: Hosts,
}

impl Settings {
    fn write(&self, guests: &[Guest], controller: &str) -> Result<()> {
        let mut text = "external-ca-file = \"ca.pem\"\n".to_owned();
        for guest in guests {
            text.push_str(&format!("[controllers.{}]\n{controller}\n", guest.name));
        }
        Ok(std::fs::write(&self.config, text)?)
    }

    async fn change(&self, env: &Environment, guests: &[Guest], controller: &str) -> Result<()> {
        self.write(guests, controller)?;
        let mut host = env.host();
        let position = host.log.position()?;
        host.hang_up();
        let done = |record: &wasmop_testbed::log::Record| record.message() == "new settings are in force";
        tokio::task::block_in_place(|| host.log.wait_for(position, TIMEOUT, "change of the settings", done))?;
        Ok(())
    }

    async fn check(&self, row: Row, fixture: &GuestFixture) -> Result<()> {
        let Hosts { secure, plain, other } = &self.hosts;
        match row {
            Row::Granted | Row::GivenBack => self.granted(row, fixture).await,
            Row::Redirect => {
                let echo = fetched(fixture, "redirect", &format!("{}/redirect", self.hosts.plain())).await?;
                let expected = format!("302 hello; 302 hello; {}/", self.hosts.other());
                ensure!(echo == expected, "{echo}");
                ensure!(other.count() == 0 && plain.count() >= 2, "the redirect was followed");
                Ok(())
            }
            Row::NotGranted => refused(fixture, other, &self.hosts.other(), "not granted to contact").await,
            Row::NotAsked => {
                let target = format!("http://localhost:{}", plain.port);
                refused(fixture, plain, &target, "no permission to contact").await
            }
            Row::Address => refused(fixture, secure, &self.hosts.secure(), "which is not public").await,
            Row::All => refused(fixture, other, &self.hosts.other(), "which is not public").await,
            Row::TakenAway => refused(fixture, plain, &self.hosts.plain(), "not granted to contact").await,
        }
    }

    async fn granted(&self, row: Row, fixture: &GuestFixture) -> Result<()> {
        let guest = fixture.guest.name;
        let position = fixture.position()?;
        let path = format!("/{guest}/{}/slow", if row == Row::Granted { "first" } else { "again" });
        let name = if row == Row::Granted { "granted" } else { "given-back" };
        let echo = fetched(fixture, name, &format!("{}{path}", self.hosts.secure())).await?;
        ensure!(echo == "200 hello; 200 hello; ", "{echo}");
        let received = self.hosts.secure.received(&path);
        let [get, post] = &received[..] else { bail!("{received:?}") };
        ensure!(get.method == Method::GET && post.method == Method::POST, "{received:?}");
        ensure!(get.authorization == "Bearer own" && post.authorization.is_empty(), "{received:?}");
        let agent = format!("{HOST_USER_AGENT} (controller/{guest})");
        ensure!(received.iter().all(|request| request.user_agent == agent), "{received:?}");
        let records = fixture.logged(position)?;
        let suspended = records.iter().position(|record| record.message() == "suspended");
        let done = records
            .iter()
            .position(|record| record.message() == "reconciled" && record.text("object") == fixture.key(name));
        ensure!(suspended.is_some_and(|suspended| done.is_some_and(|done| suspended < done)), "it was not suspended");
        Ok(())
    }

    /// A learning host prints the hosts that a package contacts, although the package requests none.
    async fn learns(&self, fixture: &GuestFixture) -> Result<()> {
        let (cluster, guest) = (&fixture.env.cluster, fixture.guest.name);
        let package = cluster.dir().join(format!("{guest}-requests-nothing.wasm"));
        rewrite(&fixture.guest.package, &package, &[])?;
        let config = cluster.dir().join(format!("{guest}-learns.toml"));
        std::fs::write(&config, format!("external-ca-file = \"ca.pem\"\n[controllers.{guest}]\n{LOOPBACK}\n"))?;
        let mut options = cluster.host_options(&format!("{guest}-learns"), vec![package])?;
        options.args = vec!["--config".into(), config.display().to_string(), "--learn-permissions".into()];
        let output = cluster.dir().join(format!("{guest}-learnt"));
        options.output = Some(output.clone());
        let mut host = Host::spawn(&options)?;
        let echo = fetched(fixture, "learnt", &format!("{}/learnt", self.hosts.secure())).await;
        let status = tokio::task::block_in_place(|| host.terminate())?;
        ensure!(echo? == "200 hello; 200 hello; " && status.success(), "it ended with {status}");
        let printed = std::fs::read_to_string(output)?;
        let table: toml::Table = printed.parse()?;
        let hosts = table.get("external-hosts").and_then(toml::Value::as_array);
        let learnt: Vec<_> = hosts.into_iter().flatten().filter_map(toml::Value::as_str).collect();
        ensure!(learnt == [self.hosts.secure()], "{printed}");
        Ok(())
    }
}

/// Has the guest fetch a URL, and returns its echo.
async fn fetched(fixture: &GuestFixture, name: &str, url: &str) -> Result<String> {
    let echo = fixture.create_and_wait(name, spec("fetch", url)).await?.observed().echo;
    fixture.remove(name).await?;
    Ok(echo)
}

/// Has the guest fetch a URL, which must fail for this reason before anything is sent.
async fn refused(fixture: &GuestFixture, server: &Server, target: &str, why: &str) -> Result<()> {
    const NAME: &str = "refused";
    let (position, before) = (fixture.position()?, server.count());
    let probes: Api<Probe> = fixture.probes();
    let labels = Some([("guest".to_owned(), fixture.guest.name.to_owned())].into());
    let metadata = ObjectMeta { name: Some(NAME.into()), labels, ..ObjectMeta::default() };
    let probe = Probe { metadata, spec: spec("fetch", &format!("{target}/refused")), status: None };
    probes.create(&PostParams::default(), &probe).await?;
    let said = |record: &wasmop_testbed::log::Record| {
        record.message() == "reconciled"
            && record.text("object") == fixture.key(NAME)
            && record.text("error").contains(why)
    };
    let found = fixture.until_logged(position, why, said).await;
    let deadline = Instant::now() + QUIET;
    while Instant::now() < deadline {
        sleep(POLL).await;
    }
    fixture.remove(NAME).await?;
    found?;
    ensure!(server.count() == before, "it reached the host");
    Ok(())
}
