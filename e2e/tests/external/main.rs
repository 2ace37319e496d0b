//! Requests to hosts other than the API server, by each guest: what is granted is done, and of what is not, nothing
//! leaves.

mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::Method;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::{Instant, sleep};
use wasmop_e2e::guests::{self, Column, Guest};
use wasmop_e2e::part;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::guest_fixture::GuestFixture;
use wasmop_e2e::table::{Cell, Table};
use wasmop_e2e::tls_identity::TlsIdentity;
use wasmop_e2e::environment::Environment;
use wasmop_e2e::test_cluster::{TestCluster, PATIENCE};
use wasmop_host::identity::HOST_USER_AGENT;
use wasmop_package::Package;
use wasmop_package::manifest::Manifest;
use wasmop_testbed::host::Host;

use server::Server;

const POLL: Duration = Duration::from_millis(50);
/// For what must not happen.
const QUIET: Duration = Duration::from_millis(500);
/// What `localhost` leads to.
const LOOPBACK: &str = "private-addresses = [\"127.0.0.0/8\", \"::1\"]";

fn main() -> ExitCode {
    part::main("external", run())
}

/// The hosts that there are.
struct Hosts {
    /// Over TLS, by its name.
    secure: Server,
    /// By its address.
    plain: Server,
    /// Asked for, and never granted but by `all`.
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

    /// The two that are granted, as TOML.
    fn granted(&self) -> String {
        format!("external-hosts = [{:?}, {:?}]", self.secure(), self.plain())
    }
}

async fn run() -> Result<bool> {
    let cluster = TestCluster::start().await?;
    let columns = tokio::task::block_in_place(|| guests::build_all(cluster.dir()))?;
    let identity = TlsIdentity::new()?;
    let hosts = Hosts::start(&identity).await?;
    std::fs::write(cluster.dir().join("ca.pem"), &identity.authority)?;
    let config = cluster.dir().join("host.toml");
    let built: Vec<Guest> = columns.iter().filter_map(|column| column.guest.clone().ok()).collect();
    for guest in &built {
        let asked = [hosts.secure(), hosts.plain(), hosts.other()];
        rewrite(&guest.package, &guest.package, &asked)?;
    }
    let fixture = Fixture { config: config.clone(), hosts };
    let env = Environment::start(cluster, built.clone()).await?;
    fixture.write(&built, &format!("{}\n{LOOPBACK}", fixture.hosts.granted()))?;
    env.terminate_host().await?;
    env.restart_host_with(&["--config".into(), config.display().to_string()]).await?;

    let mut table = Table::new(&guests::COLUMNS);
    let fixtures: Vec<(&'static str, Result<GuestFixture, String>)> = columns
        .into_iter()
        .map(|Column { name, guest }| (name, guest.map(|guest| GuestFixture { env: env.clone(), guest })))
        .collect();
    for (row, settings) in ROWS {
        if let Some(settings) = settings {
            fixture.change(&env, &built, &settings(&fixture.hosts)).await?;
        }
        for (column, fixture) in &fixtures {
            let cell = match fixture {
                Ok(fixture) => fixture.play(row, fixture).await.into(),
                Err(reason) => Cell::Skipped(reason.clone()),
            };
            table.set(row.name(), column, cell);
        }
    }
    env.terminate_host().await?;
    for (column, fixture) in &fixtures {
        let cell = match fixture {
            Ok(fixture) => fixture.learns(fixture).await.into(),
            Err(reason) => Cell::Skipped(reason.clone()),
        };
        table.set("--learn-permissions prints the host", column, cell);
    }
    println!("\n{}", table.render("external"));
    drop(fixtures);
    if !table.is_good()
        && let Some(files) = env.keep_files()
    {
        eprintln!("the hosts' logs and state are in {}", files.display());
    }
    Ok(table.is_good())
}

/// A copy of a package that asks for these hosts.
fn rewrite(from: &Path, to: &Path, hosts: &[String]) -> Result<()> {
    let bytes = std::fs::read(from)?;
    let manifest = Package::parse(bytes.clone())?.manifest.clone();
    let external_hosts = hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?;
    std::fs::write(to, wasmop_package::with_manifest(&bytes, &Manifest { external_hosts, ..manifest })?)?;
    Ok(())
}

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

/// In order, with what the file says of each controller from there on.
type Settings = fn(&Hosts) -> String;
const ROWS: [(Row, Option<Settings>); 8] = [
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
            Row::Granted => "granted: asked over TLS and answered, suspended in between",
            Row::Redirect => "a redirect is an answer, and is not followed",
            Row::NotGranted => "asked for and not granted: nothing leaves",
            Row::NotAsked => "not asked for: nothing leaves",
            Row::Address => "a name that leads to this machine: nothing leaves",
            Row::All => "`all` does not reach an address of this machine",
            Row::TakenAway => "a grant is taken away at SIGHUP: nothing leaves",
            Row::GivenBack => "and given back",
        }
    }
}

struct Fixture {
    config: PathBuf,
    hosts: Hosts,
}

impl Fixture {
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
        tokio::task::block_in_place(|| host.log.wait_for(position, PATIENCE, "change of the settings", done))?;
        Ok(())
    }

    async fn play(&self, row: Row, fixture: &GuestFixture) -> Result<()> {
        let Hosts { secure, plain, other } = &self.hosts;
        match row {
            Row::Granted | Row::GivenBack => self.granted(row, fixture).await,
            Row::Redirect => {
                let echo = fetched(fixture, "redirect", &format!("{}/redirect", self.hosts.plain())).await?;
                let expected = format!("302 hello; 302 hello; {}/", self.hosts.other());
                ensure!(echo == expected, "{echo}");
                ensure!(other.count() == 0 && plain.count() >= 2, "it was followed");
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

    /// A host that learns, with a package that asks for nothing.
    async fn learns(&self, fixture: &GuestFixture) -> Result<()> {
        let (cluster, guest) = (&fixture.env.cluster, fixture.guest.name);
        let package = cluster.dir().join(format!("{guest}-asks-nothing.wasm"));
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

/// Has the guest fetch a URL; what it says of it.
async fn fetched(fixture: &GuestFixture, name: &str, url: &str) -> Result<String> {
    let echo = fixture.create_and_wait(name, spec("fetch", url)).await?.observed().echo;
    fixture.remove(name).await?;
    Ok(echo)
}

/// Has the guest try to fetch something of a host, which must fail for this reason before anything reaches it.
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
