//! What must go on over a suspension as if there had been none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::retries::number;
use crate::fault_proxy::{Fault, Rule};
use crate::probe::{Probe, ProbeSpec, ProbeStatus, spec};
use crate::scene::Scene;
use crate::world::SUSPEND_AFTER;

/// Changes the value of a Probe after the guest was suspended, so that it has to be resumed for
/// it; returns the status before and after.
async fn over_suspension(scene: &Scene, name: &str, action: &str) -> Result<(ProbeStatus, ProbeStatus)> {
    let before = scene.create_and_wait(name, spec(action, "one")).await?;
    scene.until_suspended().await?;
    let position = scene.position()?;
    let after = scene.change_and_wait(name, spec(action, "two")).await?;
    scene.until_logged(position, "the resume", |record| record.message() == "resumed").await?;
    Ok((before.observed(), after.observed()))
}

pub async fn counter(scene: Scene) -> Result<()> {
    let (before, after) = over_suspension(&scene, "counted", "child").await?;
    ensure!(after.seen > before.seen, "the object's counter went from {} to {}", before.seen, after.seen);
    ensure!(after.total > before.total, "the guest's counter went from {} to {}", before.total, after.total);
    ensure!(after.total <= before.total + 3, "the guest's counter jumped from {} to {}", before.total, after.total);
    scene.remove("counted").await
}

pub async fn random(scene: Scene) -> Result<()> {
    let (before, after) = over_suspension(&scene, "random", "random").await?;
    let parts = |status: &ProbeStatus| -> Result<(String, String)> {
        let (bytes, map) = status.echo.split_once(',').with_context(|| format!("the echo is {:?}", status.echo))?;
        Ok((bytes.to_owned(), map.to_owned()))
    };
    let ((first, map_before), (second, map_after)) = (parts(&before)?, parts(&after)?);
    ensure!(first.len() == 32 && second.len() == 32 && first != second, "the random bytes are {first} and {second}");
    ensure!(map_before == "ok" && map_after == "ok", "iterating the map gave {map_before:?} and {map_after:?}");
    scene.remove("random").await
}

pub async fn clocks(scene: Scene) -> Result<()> {
    let (before, after) = over_suspension(&scene, "clocks", "clock").await?;
    let parts = |status: &ProbeStatus| -> Result<(u64, u64)> {
        let (wall, monotonic) =
            status.echo.split_once(',').with_context(|| format!("the echo is {:?}", status.echo))?;
        Ok((wall.parse()?, monotonic.parse()?))
    };
    let ((wall_before, mono_before), (wall_after, mono_after)) = (parts(&before)?, parts(&after)?);
    let (wall, mono) = (wall_after.saturating_sub(wall_before), mono_after.saturating_sub(mono_before));
    ensure!(Duration::from_nanos(wall) >= SUSPEND_AFTER, "the wall clock went on by {wall} ns only");
    let apart = Duration::from_nanos(wall.abs_diff(mono));
    ensure!(
        apart < Duration::from_millis(200),
        "over a suspension the wall clock went on by {wall} ns, the monotonic one by {mono} ns"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    ensure!(
        Duration::from_nanos(now.abs_diff(wall_after)) < Duration::from_secs(10),
        "the guest's wall clock says {wall_after}, it is {now}"
    );
    scene.remove("clocks").await
}

pub async fn timer(scene: Scene) -> Result<()> {
    let delay = Duration::from_millis(2500);
    let position = scene.position()?;
    scene.create("timed", ProbeSpec { delay_ms: delay.as_millis() as u64, ..spec("sleep", "") }).await?;
    // In mid-reconcile: nothing is open but the timer.
    let suspended =
        scene.until_logged(position, "a suspension during the sleep", |record| record.message() == "suspended").await?;
    ensure!(!scene.probes().get("timed").await?.is_current(), "it was suspended only after the sleep: {}", suspended.0);
    let probe = scene.until_current("timed").await?;
    let slept = Duration::from_millis(number(&probe.observed().echo, "slept=")?);
    ensure!(slept >= delay && slept < delay + Duration::from_millis(1500), "slept {slept:?} instead of {delay:?}");
    scene.remove("timed").await
}

pub async fn slow(scene: Scene) -> Result<()> {
    let position = scene.position()?;
    let delay =
        scene.world.proxy.add(Rule::new("GET", &config_map_path(&scene, "slowed"), Fault::Delay(SUSPEND_AFTER * 4)));
    scene.create("slowed", spec("slow", "one")).await?;
    let in_flight = |record: &wasmop_testbed::log::Record| {
        record.message() == "suspended" && record.number("in_flight") >= Some(1.0)
    };
    scene.until_logged(position, "a suspension with a call in flight", in_flight).await?;
    let probe = scene.until("slowed", "completed", |probe| probe.observed().echo == "slow-done").await?;
    ensure!(Probe::is_current(&probe), "the status is out of date");
    drop(delay);
    scene.until_config_map("slowed", "there", |_| true).await?;
    scene.remove("slowed").await
}

/// What a guest asks for when it reads its ConfigMap.
pub(super) fn config_map_path(scene: &Scene, name: &str) -> String {
    format!("/api/v1/namespaces/{}/configmaps/{name}", scene.guest.name)
}
