//! What goes on in the soft tier as in the other, and what does not.

use anyhow::{Result, ensure};

use super::retries::number;
use super::{Behaviour, NotHere, Outcome};
use crate::probe::{ProbeSpec, spec};
use crate::scene::Scene;

/// Those that leave the host running; a guest goes through them in this order.
pub fn all() -> Vec<Behaviour> {
    vec![
        behaviour!("suspended softly, the counter goes on", counter),
        behaviour!("nothing of the machine is reached", denied),
        behaviour!("a wait has the step's time, no more", wait),
        behaviour!("panic: started anew, the others go on", panic),
    ]
}

async fn counter(scene: Scene) -> Result<()> {
    let mut before = scene.create_and_wait("counted", spec("", "0")).await?.observed();
    for round in 1..=5 {
        let suspended = scene.until_suspended().await?;
        ensure!(suspended.text("tier") == "soft", "suspended otherwise: {}", suspended.0);
        ensure!(suspended.number("disk_bytes") > Some(0.0), "nothing on disk: {}", suspended.0);
        let position = scene.position()?;
        let after = scene.change_and_wait("counted", spec("", &round.to_string())).await?.observed();
        scene.until_logged(position, "the resume", |record| record.message() == "resumed").await?;
        ensure!(after.seen > before.seen && after.seen <= before.seen + 2, "seen {} then {}", before.seen, after.seen);
        ensure!(after.total > before.total, "reconciled {} times, then {}", before.total, after.total);
        before = after;
    }
    let started = scene.logged(0)?.into_iter().find(|record| record.message().starts_with("started as "));
    ensure!(started.is_some(), "what it printed is not in the log");
    scene.remove("counted").await
}

async fn denied(scene: Scene) -> Result<()> {
    let echo = scene.create_and_wait("reaching", spec("reach out", "")).await?.observed().echo;
    ensure!(matches!(echo.as_str(), "reached=" | "reached= tcp=denied"), "it says {echo:?}");
    scene.remove("reaching").await
}

async fn wait(scene: Scene) -> Result<()> {
    let sleep = |millis| ProbeSpec { delay_ms: millis, ..spec("sleep", "") };
    let echo = scene.create_and_wait("short", sleep(50)).await?.observed().echo;
    ensure!(number(&echo, "slept=")? >= 50, "it says {echo:?}");
    let position = scene.position()?;
    scene.create("long", sleep(3_600_000)).await?;
    let failed = scene.until_logged(position, "the limit", |record| record.message() == "step failed").await?;
    ensure!(failed.text("cause") == "cpu-limit", "it failed otherwise: {}", failed.0);
    scene.remove("long").await?;
    scene.change_and_wait("short", sleep(10)).await?;
    scene.remove("short").await
}

async fn panic(scene: Scene) -> Result<()> {
    for round in 0..3 {
        scene.create_and_wait("bystander", spec("", "")).await?;
        let before = scene.change_and_wait("bystander", spec("", &round.to_string())).await?.observed();
        let position = scene.position()?;
        scene.create("culprit", spec("panic", "")).await?;
        let failed = scene.until_logged(position, "the panic", |record| record.message() == "step failed").await?;
        ensure!(failed.text("object") == scene.key("culprit"), "another is blamed: {}", failed.0);
        scene
            .until_logged(position, "the new start", |record| record.message() == "restarted anew, its memory is lost")
            .await?;
        let after = scene.change_and_wait("bystander", spec("", "after")).await?.observed();
        scene.remove("culprit").await?;
        ensure!(after.seen <= before.seen, "it remembers {} of {} reconciles", after.seen, before.seen);
        scene.remove("bystander").await?;
    }
    Ok(())
}

/// With a directory to read, one to write and a variable: those, and nothing of what is outside.
pub async fn granted(scene: &Scene) -> Outcome {
    if scene.guest.column != "wasi" {
        return Ok(Err(NotHere(
            "the environment and directories of its interpreter are those it was built with".into(),
        )));
    }
    let dir = scene.world.cluster.dir().join("granted");
    for granted in ["rules", "scratch"] {
        std::fs::create_dir_all(dir.join(granted))?;
    }
    std::fs::write(dir.join("secret"), "of the machine")?;
    std::fs::write(dir.join("rules/rule"), "be strict")?;
    std::os::unix::fs::symlink("../secret", dir.join("rules/link"))?;
    let name = &scene.guest.name;
    let file = dir.join("host.toml");
    std::fs::write(
        &file,
        format!(
            "[controllers.{name}]\nenv = {{ MODE = \"test\" }}\n\
             [[controllers.{name}.wasi.directories]]\nsource = \"rules\"\ndestination = \"/rules\"\n\
             [[controllers.{name}.wasi.directories]]\nsource = \"scratch\"\ndestination = \"/scratch\"\nwritable = true\n"
        ),
    )?;
    scene.world.terminate_host().await?;
    scene.world.restart_host_with(&["--config".into(), file.display().to_string()]).await?;
    let echo = scene.create_and_wait("granted", spec("use grant", "")).await?.observed().echo;
    ensure!(echo == "mode=test rule=be strict write-rules=no link=no up=no scratch=written", "it says {echo:?}");
    scene.until_suspended().await?;
    let again = scene.change_and_wait("granted", spec("use grant", "again")).await?.observed();
    ensure!(again.echo == echo && again.seen == 2, "after it was suspended it says {:?}", again.echo);
    ensure!(std::fs::read(dir.join("scratch/note"))? == b"written", "what it wrote is not there");
    scene.remove("granted").await.map(Ok)
}

/// Over a restart of the host: memory begins anew, no object is forgotten.
pub async fn over_restart(scene: &Scene) -> Result<()> {
    for name in ["changed", "kept"] {
        scene.create_and_wait(name, spec("", "one")).await?;
    }
    let before = scene.change_and_wait("kept", spec("", "two")).await?.observed();
    scene.until_suspended().await?;
    scene.world.terminate_host().await?;
    scene.change("changed", spec("", "while it was down")).await?;
    scene.world.restart_host().await?;
    let ready = scene.until_logged(0, "the start", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "start", "it did not begin anew: {}", ready.0);
    scene.until_current("changed").await?;
    let after = scene.until("kept", "seen by the new one", |probe| probe.observed().seen == 1).await?.observed();
    ensure!(before.seen == 2 && after.total <= 2, "reconciled {} times before, {} after", before.total, after.total);
    for name in ["changed", "kept"] {
        scene.remove(name).await?;
    }
    Ok(())
}
