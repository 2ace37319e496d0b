//! What a host that ends, one way or the other, leaves to the next: prepared before, verified after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use kube::api::DeleteParams;

use super::{downtime, memory, startup};
use crate::probe::{ProbeSpec, ProbeStatus, spec};
use crate::scene::Scene;

/// An end and a restart of the host, for all guests at once.
pub struct Restart {
    pub how: How,
    /// Further arguments of the host that comes after, for these guests; those that follow have none.
    pub args: fn(&Scene, &[Scene]) -> Result<Vec<String>>,
    /// While the host runs.
    pub prepare: fn(Scene) -> BoxFuture<'static, Result<Prepared>>,
    /// While there is none.
    pub meanwhile: fn(Scene) -> BoxFuture<'static, Result<()>>,
    /// What is to be seen of it.
    pub rows: Vec<Row>,
}

/// A behaviour over a restart: a row of the table.
pub struct Row {
    pub name: &'static str,
    /// When there is a host again; rows of one restart at the same time.
    pub verify: fn(Scene, Prepared) -> BoxFuture<'static, Result<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Terminate,
    Kill,
}

/// What there was before the restart.
#[derive(Clone, Default)]
pub struct Prepared {
    /// The guest's counters.
    pub before: ProbeStatus,
    /// When objects were to be reconciled, had the host gone on.
    pub due: BTreeMap<&'static str, Instant>,
}

/// For suspending in between.
const WAIT: Duration = Duration::from_secs(2);
/// Seconds.
const HOUR: i64 = 3600;
/// Objects that are not touched while there is no host.
const UNTOUCHED: [&str; 3] = ["untouched-1", "untouched-2", "untouched-3"];

pub fn all() -> Vec<Restart> {
    vec![
        Restart {
            how: How::Terminate,
            args: no_args,
            prepare: |scene| Box::pin(prepare_resident(scene)),
            meanwhile: |scene| Box::pin(change_and_delete(scene)),
            rows: vec![Row {
                name: "counter survives SIGTERM of the host",
                verify: |scene, prepared| Box::pin(verify_all(scene, prepared)),
            }],
        },
        Restart {
            how: How::Kill,
            args: no_args,
            prepare: |scene| Box::pin(prepare_snapshot(scene)),
            meanwhile: |scene| Box::pin(change_and_delete(scene)),
            rows: vec![Row {
                name: "counter survives SIGKILL of the host",
                verify: |scene, prepared| Box::pin(verify_all(scene, prepared)),
            }],
        },
        Restart {
            how: How::Terminate,
            args: no_args,
            prepare: |scene| Box::pin(prepare_many(scene)),
            meanwhile: |scene| Box::pin(change_and_delete(scene)),
            rows: vec![Row {
                name: "only what changed is reconciled after SIGTERM",
                verify: |scene, prepared| Box::pin(verify_few(scene, prepared)),
            }],
        },
        Restart {
            how: How::Kill,
            args: no_args,
            prepare: |scene| Box::pin(prepare_many(scene)),
            meanwhile: |scene| Box::pin(change_and_delete(scene)),
            rows: vec![Row {
                name: "only what changed is reconciled after SIGKILL",
                verify: |scene, prepared| Box::pin(verify_few(scene, prepared)),
            }],
        },
        Restart {
            how: How::Terminate,
            args: no_args,
            prepare: |scene| Box::pin(prepare_waiting(scene)),
            meanwhile: |scene| Box::pin(async move { scene.world.clock.step_to(0) }),
            rows: vec![Row {
                name: "wall clock set: waits last as long as they are to",
                verify: |scene, _| Box::pin(verify_waits(scene)),
            }],
        },
        downtime::restart(),
        memory::restart(),
        Restart {
            how: How::Terminate,
            args: startup::owner,
            prepare: |scene| Box::pin(startup::prepare(scene)),
            meanwhile: |_| Box::pin(async { Ok(()) }),
            rows: vec![Row {
                name: "environment, arguments, log level: the owner's, at once",
                verify: |scene, _| Box::pin(startup::verify(scene)),
            }],
        },
        Restart {
            how: How::Terminate,
            args: startup::two_namespaces,
            prepare: |scene| Box::pin(startup::prepare_namespaces(scene)),
            meanwhile: |_| Box::pin(async { Ok(()) }),
            rows: vec![Row {
                name: "two namespaces, and a kind that is in none",
                verify: |scene, _| Box::pin(startup::verify_namespaces(scene)),
            }],
        },
    ]
}

pub(super) fn no_args(_: &Scene, _: &[Scene]) -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// In mid-reconcile, by a wall clock that is an hour ahead of the next host's.
async fn prepare_waiting(scene: Scene) -> Result<Prepared> {
    scene.world.clock.step_to(HOUR)?;
    wait_suspended(&scene, "waiting").await?;
    Ok(Prepared::default())
}

async fn wait_suspended(scene: &Scene, name: &str) -> Result<()> {
    let position = scene.position()?;
    scene.create(name, ProbeSpec { delay_ms: WAIT.as_millis() as u64, ..spec("sleep", "") }).await?;
    scene.until_logged(position, "a suspension in mid-reconcile", |record| record.message() == "suspended").await?;
    ensure!(!scene.probes().get(name).await?.is_current(), "it was suspended only after the wait");
    Ok(())
}

/// Over the restart, and while the host runs; then the clock is right again.
async fn verify_waits(scene: Scene) -> Result<()> {
    scene.until_current("waiting").await?;
    scene.remove("waiting").await?;
    for (name, seconds) in [("forth", HOUR), ("back", 0)] {
        let begun = Instant::now();
        wait_suspended(&scene, name).await?;
        scene.world.clock.step_to(seconds)?;
        scene.until_current(name).await.with_context(|| format!("the clock was set {name}"))?;
        ensure!(begun.elapsed() >= WAIT, "the clock was set {name}, and it waited {:?} only", begun.elapsed());
        scene.remove(name).await?;
    }
    Ok(())
}

/// Objects that have been reconciled, as the last snapshot knows.
async fn prepare_many(scene: Scene) -> Result<Prepared> {
    let before = prepare(&scene).await?;
    for name in UNTOUCHED {
        scene.create_and_wait(name, spec("child", "one")).await?;
    }
    scene.until_suspended().await?;
    Ok(Prepared { before, ..Prepared::default() })
}

async fn verify_few(scene: Scene, _: Prepared) -> Result<()> {
    scene.until_current("changed").await?;
    scene.until_gone("gone").await?;
    ensure!(scene.config_maps().get_opt("gone-deleted").await?.is_some(), "no clean-up was done for `gone`");
    // What had waited would have come before this.
    scene.change_and_wait("kept", spec("child", "the last")).await?;
    let reconciled: BTreeSet<String> = scene
        .logged(0)?
        .iter()
        .filter(|record| record.message() == "reconciled")
        .map(|record| record.text("object").to_owned())
        .collect();
    let expected = BTreeSet::from(["changed", "gone", "kept"].map(|name| scene.key(name)));
    ensure!(reconciled == expected, "reconciled were {reconciled:?} instead of {expected:?}");
    for name in ["late", "changed", "kept"].into_iter().chain(UNTOUCHED) {
        scene.remove(name).await?;
    }
    scene.config_maps().delete("gone-deleted", &DeleteParams::default()).await?;
    Ok(())
}

/// Objects that have been reconciled. On SIGTERM everything resident is suspended, so nothing may
/// be missing afterwards.
async fn prepare_resident(scene: Scene) -> Result<Prepared> {
    let before = prepare(&scene).await?;
    // Its memory is newer than any snapshot now.
    let before = scene.change_and_wait("kept", spec("child", &format!("{}, then two", before.value))).await?.observed();
    Ok(Prepared { before, ..Prepared::default() })
}

/// As before, but what counts is the last snapshot: what came after it is lost with the process, and
/// must be done again.
async fn prepare_snapshot(scene: Scene) -> Result<Prepared> {
    let before = prepare(&scene).await?;
    scene.until_suspended().await?;
    scene.change("late", spec("child", "just before the end")).await?;
    Ok(Prepared { before, ..Prepared::default() })
}

async fn prepare(scene: &Scene) -> Result<ProbeStatus> {
    // Left over if an earlier restart went wrong.
    for name in ["late", "gone", "changed", "kept"] {
        if scene.probes().get_opt(name).await?.is_some() {
            scene.remove(name).await?;
        }
    }
    for name in ["late", "gone", "changed"] {
        scene.create_and_wait(name, spec("child", "one")).await?;
    }
    Ok(scene.create_and_wait("kept", spec("child", "one")).await?.observed())
}

async fn change_and_delete(scene: Scene) -> Result<()> {
    scene.change("changed", spec("child", "while it was down")).await?;
    scene.delete("gone").await
}

async fn verify_all(scene: Scene, Prepared { before, .. }: Prepared) -> Result<()> {
    let ready = scene.until_logged(0, "the recovery", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "snapshot", "it began anew: {}", ready.0);
    // No event is lost: neither of the time before, nor of the time between.
    let changed = scene.until_current("changed").await?;
    ensure!(changed.observed().seen >= 2, "the object changed meanwhile was seen {} times", changed.observed().seen);
    scene
        .until_config_map("changed", "up to date", |child| {
            child.data.as_ref().is_some_and(|data| data["value"] == "while it was down")
        })
        .await?;
    let late = scene.until_current("late").await?;
    let value = scene
        .config_maps()
        .get("late")
        .await?
        .data
        .and_then(|data| data.get("value").cloned())
        .context("the child of `late` has no value")?;
    ensure!(value == late.spec.value, "the child of `late` has {value:?} instead of {:?}", late.spec.value);
    scene.until_gone("gone").await?;
    ensure!(scene.config_maps().get_opt("gone-deleted").await?.is_some(), "no clean-up was done for `gone`");
    // And the memory is the old one.
    let after = scene.change_and_wait("kept", spec("child", "three")).await?.observed();
    ensure!(after.seen > before.seen, "the object's counter went from {} to {}", before.seen, after.seen);
    ensure!(after.total > before.total, "the guest's counter went from {} to {}", before.total, after.total);
    for name in ["late", "changed", "kept"] {
        scene.remove(name).await?;
    }
    scene.config_maps().delete("gone-deleted", &DeleteParams::default()).await?;
    Ok(())
}
