//! Packages that no build produces, that compile slowly, or that exceed the address space.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wasmop_core::status::state::State;
use wasmop_e2e::in_process_host::get;
use wasmop_e2e::patched_package::{with_export, with_image, with_start};
use wasmop_e2e::test_cluster::TIMEOUT;
use wasmop_e2e::wat_guest::Code;
use wasmop_host::status::values::Overview;
use wasmop_package::manifest::Limits;
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;
use wasmop_vm::RESERVED;

use crate::fixture::{Fixture, says};

const SERVED: &str = "serving metrics, probes and the page";
const LEFT_OUT: &str = "left out: its package cannot be run";

/// Indices of functions that a patch refers to, after the imports of the frame.
const NEVER_RETURNS: u32 = 8;
const NEVER_COUNTS: u32 = 9;
const COUNTS_TO_MAX: u32 = 10;
const ANY_GLOBAL: u32 = 11;
const FUNCTIONS: &str = "(func (loop (br 0))) (func (result i32) (loop (br 0)) (unreachable))
    (func (result i32) (i32.const -1)) (func (param i32) (result i64) (i64.const 0))";

/// A package that finishes each reconcile.
fn good(name: &str, fields: String) -> Result<Vec<u8>> {
    let code = Code { fields, reconcile: "(call $finish (local.get $task))", ..Code::default() };
    Ok(code.package(name, Limits::default())?.bytes().to_vec())
}

fn file(fixture: &Fixture, name: &str, package: &[u8]) -> Result<PathBuf> {
    let file = fixture.cluster.dir().join(format!("{name}.wasm"));
    std::fs::write(&file, package)?;
    Ok(file)
}

/// Options of a host that serves metrics and probes.
fn serving(fixture: &Fixture, name: &str, packages: Vec<PathBuf>) -> Result<HostOptions> {
    let args = vec!["--metrics-address".into(), "127.0.0.1:0".into()];
    Ok(HostOptions { args, ..fixture.cluster.host_options(name, packages)? })
}

fn wait_for(host: &mut Host, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Record> {
    tokio::task::block_in_place(|| host.log.wait_for(0, TIMEOUT, what, wanted))
}

fn address(host: &mut Host) -> Result<SocketAddr> {
    let record = wait_for(host, "line with the address", |record| record.text("message") == SERVED)?;
    record.text("address").parse().context("no address")
}

async fn overview(host: &mut Host) -> Result<Overview> {
    let (status, body) = get(address(host)?, "/api/controllers").await?;
    ensure!(status == 200, "{status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

pub async fn made_by_hand(fixture: &Fixture) -> Result<()> {
    let base = |name: &str| good(name, FUNCTIONS.into());
    let cases = [
        ("starts", with_start(&base("starts")?, NEVER_RETURNS), "start function"),
        ("counts-never", with_export(&base("counts-never")?, "global-count", NEVER_COUNTS), "global-count"),
        ("counts-much", with_export(&base("counts-much")?, "global-count", COUNTS_TO_MAX), "global-count"),
        ("gets-any", with_export(&base("gets-any")?, "global-get", ANY_GLOBAL), "global-get"),
        ("image-outside", with_image(&base("image-outside")?, 1 << 20, 1 << 19, b"x"), "memory image"),
        ("cut", base("cut")?[..2000].to_vec(), "truncated"),
    ];
    let mut files = Vec::new();
    for (name, package, _) in &cases {
        files.push(file(fixture, name, package)?);
    }
    files.push(file(fixture, "proper", &base("proper")?)?);
    let mut host = Host::spawn(&serving(fixture, "made-by-hand", files)?)?;
    wait_for(&mut host, "start of the host", |record| record.text("message") == "host started")?;
    for (name, _, why) in &cases {
        let record = wait_for(&mut host, "line about the package", |record| record.is(LEFT_OUT, name))?;
        says(record.text("error"), &[why, "help:"])?;
    }
    let controllers = overview(&mut host).await?.controllers;
    for controller in &controllers {
        let is_proper = controller.name == "proper";
        ensure!((controller.state == State::Failed) != is_proper, "{controller:?}");
        let reasons: Vec<_> = controller.conditions.iter().map(|condition| condition.reason.as_str()).collect();
        ensure!(is_proper || reasons == ["InstallFailed"], "{controller:?}");
    }
    ensure!(controllers.len() == cases.len() + 1, "{controllers:?}");
    let status = tokio::task::block_in_place(|| host.terminate())?;
    ensure!(status.success(), "it ended with {status}");
    // If such a package is the only one, the host exits with the same error.
    for (name, _, why) in &cases {
        let alone = HostOptions {
            packages: vec![fixture.cluster.dir().join(format!("{name}.wasm"))],
            ..fixture.options("alone", None)?
        };
        says(&fixture.refused(&alone)?, &[&format!("{name}.wasm"), why, "help:"])?;
    }
    Ok(())
}

/// Functions that take longer to compile than the probes and the stop of this check.
const SLOW_FUNCTIONS: usize = 400_000;

pub async fn compiling(fixture: &Fixture) -> Result<()> {
    let functions =
        (0..SLOW_FUNCTIONS).map(|n| format!("(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const {n})))"));
    let package = file(fixture, "slow", &good("slow", functions.collect())?)?;
    let mut host = Host::spawn(&serving(fixture, "compiling", vec![package])?)?;
    let begun = wait_for(&mut host, "begin of compiling", |record| record.text("message") == "compiling")?;
    ensure!(begun.text("package") == "slow" && begun.number("wasm_bytes").is_some(), "{begun:?}");
    let address = address(&mut host)?;
    let (health, _) = get(address, "/healthz").await?;
    let (ready, why) = get(address, "/readyz").await?;
    ensure!((health, ready) == (200, 503), "healthz {health}, readyz {ready}: {why}");
    let status = tokio::task::block_in_place(|| host.terminate())?;
    let log = host.log.tail(100);
    ensure!(status.success() && log.contains("ending before the host has started"), "{status}: {log}");
    ensure!(!log.contains("\"compiled\""), "it was compiled before it ended: {log}");
    Ok(())
}

pub async fn address_space(fixture: &Fixture) -> Result<()> {
    let files = vec![
        file(fixture, "first", &good("first", String::new())?)?,
        file(fixture, "second", &good("second", String::new())?)?,
    ];
    let limited = |name: &str, bytes: usize| -> Result<HostOptions> {
        let options = serving(fixture, name, files.clone())?;
        let script = fixture.cluster.dir().join(format!("{name}.sh"));
        let program = options.program.display();
        std::fs::write(&script, format!("#!/bin/sh\nulimit -v {}\nexec '{program}' \"$@\"\n", bytes / 1024))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        Ok(HostOptions { program: script, ..options })
    };
    let none = fixture.refused(&limited("no-room", RESERVED)?)?;
    says(&none, &["address space", "no controller fits", "help:", "without the limit"])?;

    let mut host = Host::spawn(&limited("room-for-one", 2 * RESERVED - 1)?)?;
    let record = wait_for(&mut host, "line about the second", |record| record.is(LEFT_OUT, "second"))?;
    says(record.text("error"), &["address space", "one controller fits", "help:", "without the limit"])?;
    wait_for(&mut host, "start of the host", |record| record.text("message") == "host started")?;
    let states: Vec<_> = overview(&mut host).await?.controllers.iter().map(|c| (c.name.clone(), c.state)).collect();
    ensure!(states.iter().all(|(name, state)| (name == "second") == (*state == State::Failed)), "{states:?}");
    let status = tokio::task::block_in_place(|| host.terminate())?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
