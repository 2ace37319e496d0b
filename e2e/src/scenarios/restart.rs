//! State that a stopped host leaves to the next one: prepared before the restart, verified after it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;

use super::host_restart::{HostRestart, Prepared, RestartRow, Stop, no_args};
use crate::guest_fixture::GuestFixture;
use crate::probe::{ProbeSpec, ProbeStatus, spec};

/// Longer than the idle time, so that the guest is suspended during the wait.
const WAIT: Duration = Duration::from_secs(2);
/// In seconds.
const HOUR: i64 = 3600;
/// Objects that nobody changes while no host is up.
const UNTOUCHED: [&str; 3] = ["untouched-1", "untouched-2", "untouched-3"];

pub fn all() -> Vec<HostRestart> {
    vec![
        HostRestart {
            stop: Stop::Terminate,
            args: no_args,
            prepare: |fixture| Box::pin(prepare_resident(fixture)),
            while_down: |fixture| Box::pin(change_and_delete(fixture)),
            rows: vec![RestartRow {
                name: "SIGTERM: a counter survives the host restart",
                verify: |fixture, prepared| Box::pin(verify_all(fixture, prepared)),
            }],
        },
        HostRestart {
            stop: Stop::Kill,
            args: no_args,
            prepare: |fixture| Box::pin(prepare_snapshot(fixture)),
            while_down: |fixture| Box::pin(change_and_delete(fixture)),
            rows: vec![RestartRow {
                name: "SIGKILL: a counter survives the host restart",
                verify: |fixture, prepared| Box::pin(verify_all(fixture, prepared)),
            }],
        },
        HostRestart {
            stop: Stop::Terminate,
            args: no_args,
            prepare: |fixture| Box::pin(prepare_many(fixture)),
            while_down: |fixture| Box::pin(change_and_delete(fixture)),
            rows: vec![RestartRow {
                name: "SIGTERM: only changed objects are reconciled afterwards",
                verify: |fixture, prepared| Box::pin(verify_few(fixture, prepared)),
            }],
        },
        HostRestart {
            stop: Stop::Kill,
            args: no_args,
            prepare: |fixture| Box::pin(prepare_many(fixture)),
            while_down: |fixture| Box::pin(change_and_delete(fixture)),
            rows: vec![RestartRow {
                name: "SIGKILL: only changed objects are reconciled afterwards",
                verify: |fixture, prepared| Box::pin(verify_few(fixture, prepared)),
            }],
        },
        HostRestart {
            stop: Stop::Terminate,
            args: no_args,
            prepare: |fixture| Box::pin(prepare_waiting(fixture)),
            while_down: |fixture| Box::pin(async move { fixture.env.clock.step_to(0) }),
            rows: vec![RestartRow {
                name: "timers keep their duration when the wall clock is set",
                verify: |fixture, _| Box::pin(verify_waits(fixture)),
            }],
        },
    ]
}

/// The guest is suspended in the middle of a reconcile. The wall clock is an hour ahead of the next host's.
async fn prepare_waiting(fixture: GuestFixture) -> Result<Prepared> {
    fixture.env.clock.step_to(HOUR)?;
    wait_suspended(&fixture, "waiting").await?;
    Ok(Prepared::default())
}

async fn wait_suspended(fixture: &GuestFixture, name: &str) -> Result<()> {
    let position = fixture.position()?;
    fixture.create(name, ProbeSpec { delay_ms: WAIT.as_millis() as u64, ..spec("sleep", "") }).await?;
    fixture
        .until_logged(position, "a suspension in the middle of a reconcile", |record| record.message() == "suspended")
        .await?;
    ensure!(!fixture.probes().get(name).await?.is_current(), "it was suspended only after the wait");
    Ok(())
}

/// Verifies a wait across the restart, and two within one host. In the end the clock is right again.
async fn verify_waits(fixture: GuestFixture) -> Result<()> {
    fixture.until_current("waiting").await?;
    fixture.remove("waiting").await?;
    for (name, seconds) in [("forward", HOUR), ("back", 0)] {
        let begun = Instant::now();
        wait_suspended(&fixture, name).await?;
        fixture.env.clock.step_to(seconds)?;
        fixture.until_current(name).await.with_context(|| format!("the clock was set {name}"))?;
        ensure!(begun.elapsed() >= WAIT, "the clock was set {name}, and the wait took only {:?}", begun.elapsed());
        fixture.remove(name).await?;
    }
    Ok(())
}

/// All objects are reconciled, and the last snapshot records that.
async fn prepare_many(fixture: GuestFixture) -> Result<Prepared> {
    let before = prepare(&fixture).await?;
    for name in UNTOUCHED {
        fixture.create_and_wait(name, spec("child", "one")).await?;
    }
    fixture.until_suspended().await?;
    Ok(Prepared { before, ..Prepared::default() })
}

async fn verify_few(fixture: GuestFixture, _: Prepared) -> Result<()> {
    fixture.until_current("changed").await?;
    fixture.until_gone("gone").await?;
    ensure!(fixture.config_maps().get_opt("gone-deleted").await?.is_some(), "no cleanup ran for `gone`");
    // A pending reconcile of another object would run before this one.
    fixture.change_and_wait("kept", spec("child", "the last")).await?;
    let reconciled: BTreeSet<String> = fixture
        .logged(0)?
        .iter()
        .filter(|record| record.message() == "reconciled")
        .map(|record| record.text("object").to_owned())
        .collect();
    let expected = BTreeSet::from(["changed", "gone", "kept"].map(|name| fixture.key(name)));
    ensure!(reconciled == expected, "{reconciled:?} were reconciled instead of {expected:?}");
    for name in ["late", "changed", "kept"].into_iter().chain(UNTOUCHED) {
        fixture.remove(name).await?;
    }
    fixture.config_maps().delete("gone-deleted", &DeleteParams::default()).await?;
    Ok(())
}

/// All objects are reconciled, and the guest is resident. SIGTERM suspends it, so nothing may be missing afterwards.
async fn prepare_resident(fixture: GuestFixture) -> Result<Prepared> {
    let before = prepare(&fixture).await?;
    // Now the guest's memory is newer than any snapshot.
    let before =
        fixture.change_and_wait("kept", spec("child", &format!("{}, then two", before.value))).await?.observed();
    Ok(Prepared { before, ..Prepared::default() })
}

/// All objects are reconciled, and the guest is suspended. SIGKILL loses all work after the last snapshot, so that
/// work must be repeated.
async fn prepare_snapshot(fixture: GuestFixture) -> Result<Prepared> {
    let before = prepare(&fixture).await?;
    fixture.until_suspended().await?;
    fixture.change("late", spec("child", "just before the end")).await?;
    Ok(Prepared { before, ..Prepared::default() })
}

async fn prepare(fixture: &GuestFixture) -> Result<ProbeStatus> {
    // A failed restart leaves these objects behind.
    for name in ["late", "gone", "changed", "kept"] {
        if fixture.probes().get_opt(name).await?.is_some() {
            fixture.remove(name).await?;
        }
    }
    let position = fixture.position()?;
    for name in ["late", "gone", "changed"] {
        fixture.create_and_wait(name, spec("child", "one")).await?;
    }
    // Earlier rows may have left its memory nearly full. Then the host restarts it once it is idle, which must not happen
    // after its counters were read.
    fixture.until_logged(position, "a suspend", |record| record.message() == "suspended").await?;
    Ok(fixture.create_and_wait("kept", spec("child", "one")).await?.observed())
}

async fn change_and_delete(fixture: GuestFixture) -> Result<()> {
    fixture.change("changed", spec("child", "while it was down")).await?;
    fixture.delete("gone").await
}

async fn verify_all(fixture: GuestFixture, Prepared { before, .. }: Prepared) -> Result<()> {
    let ready = fixture.until_logged(0, "the recovery", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "snapshot", "it did not continue from its snapshot: {}", ready.0);
    // No change is lost, neither from before the restart nor from the downtime.
    let changed = fixture.until_current("changed").await?;
    ensure!(
        changed.observed().seen >= 2,
        "the object changed during the downtime was seen {} times",
        changed.observed().seen
    );
    fixture
        .until_config_map("changed", "up to date", |child| {
            child.data.as_ref().is_some_and(|data| data["value"] == "while it was down")
        })
        .await?;
    let late = fixture.until_current("late").await?;
    let value = fixture
        .config_maps()
        .get("late")
        .await?
        .data
        .and_then(|data| data.get("value").cloned())
        .context("the child of `late` has no value")?;
    ensure!(value == late.spec.value, "the child of `late` has {value:?} instead of {:?}", late.spec.value);
    fixture.until_gone("gone").await?;
    ensure!(fixture.config_maps().get_opt("gone-deleted").await?.is_some(), "no cleanup ran for `gone`");
    // The counters come from the old memory.
    let after = fixture.change_and_wait("kept", spec("child", "three")).await?.observed();
    ensure!(after.seen > before.seen, "the object's counter went from {} to {}", before.seen, after.seen);
    ensure!(after.total > before.total, "the guest's counter went from {} to {}", before.total, after.total);
    for name in ["late", "changed", "kept"] {
        fixture.remove(name).await?;
    }
    fixture.config_maps().delete("gone-deleted", &DeleteParams::default()).await?;
    Ok(())
}
