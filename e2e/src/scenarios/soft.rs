//! The soft tier: guarantees that it shares with the full tier, and guarantees that it lacks.

use anyhow::{Result, ensure};

use crate::guest_fixture::GuestFixture;
use crate::probe::{ProbeSpec, number_after, spec};
use crate::table::Skip;

pub async fn counter(fixture: GuestFixture) -> Result<()> {
    let mut before = fixture.create_and_wait("counted", spec("", "0")).await?.observed();
    for round in 1..=5 {
        let suspended = fixture.until_suspended().await?;
        ensure!(suspended.text("tier") == "soft", "suspended in another tier: {}", suspended.0);
        ensure!(suspended.number("disk_bytes") > Some(0.0), "nothing on disk: {}", suspended.0);
        let position = fixture.position()?;
        let after = fixture.change_and_wait("counted", spec("", &round.to_string())).await?.observed();
        fixture.until_logged(position, "the resume", |record| record.message() == "resumed").await?;
        ensure!(after.seen > before.seen && after.seen <= before.seen + 2, "seen {} then {}", before.seen, after.seen);
        ensure!(after.total > before.total, "reconciled {} times, then {}", before.total, after.total);
        before = after;
    }
    let started = fixture.logged(0)?.into_iter().find(|record| record.message().starts_with("started as "));
    ensure!(started.is_some(), "its output is not in the log");
    fixture.remove("counted").await
}

pub async fn denied(fixture: GuestFixture) -> Result<()> {
    let echo = fixture.create_and_wait("reaching", spec("reach out", "")).await?.observed().echo;
    ensure!(matches!(echo.as_str(), "reached=" | "reached= tcp=denied"), "it says {echo:?}");
    fixture.remove("reaching").await
}

pub async fn wait(fixture: GuestFixture) -> Result<()> {
    let sleep = |millis| ProbeSpec { delay_ms: millis, ..spec("sleep", "") };
    let echo = fixture.create_and_wait("short", sleep(50)).await?.observed().echo;
    ensure!(number_after(&echo, "slept=")? >= 50, "it says {echo:?}");
    let position = fixture.position()?;
    fixture.create("long", sleep(3_600_000)).await?;
    let failed = fixture.until_logged(position, "the limit", |record| record.message() == "step failed").await?;
    ensure!(failed.text("cause") == "cpu-limit", "it failed for another reason: {}", failed.0);
    fixture.remove("long").await?;
    fixture.change_and_wait("short", sleep(10)).await?;
    fixture.remove("short").await
}

pub async fn panic(fixture: GuestFixture) -> Result<()> {
    for round in 0..3 {
        fixture.create_and_wait("bystander", spec("", "")).await?;
        let before = fixture.change_and_wait("bystander", spec("", &round.to_string())).await?.observed();
        let position = fixture.position()?;
        fixture.create("culprit", spec("panic", "")).await?;
        let failed = fixture.until_logged(position, "the panic", |record| record.message() == "step failed").await?;
        ensure!(failed.text("object") == fixture.key("culprit"), "another is blamed: {}", failed.0);
        fixture
            .until_logged(position, "the restart", |record| record.message() == "restarted anew, its memory is lost")
            .await?;
        let after = fixture.change_and_wait("bystander", spec("", "after")).await?.observed();
        fixture.remove("culprit").await?;
        ensure!(after.seen <= before.seen, "it remembers {} of {} reconciles", after.seen, before.seen);
        fixture.remove("bystander").await?;
    }
    Ok(())
}

/// The owner grants a read-only directory, a writable one and a variable. The guest reaches these and nothing else.
pub async fn granted(fixture: GuestFixture) -> Result<()> {
    if fixture.guest.column != "wasi" {
        return Err(Skip::because("its interpreter keeps the environment and directories of the build"));
    }
    let dir = fixture.env.cluster.dir().join("granted");
    for granted in ["rules", "scratch"] {
        std::fs::create_dir_all(dir.join(granted))?;
    }
    std::fs::write(dir.join("secret"), "of the machine")?;
    std::fs::write(dir.join("rules/rule"), "be strict")?;
    std::os::unix::fs::symlink("../secret", dir.join("rules/link"))?;
    let name = &fixture.guest.name;
    let file = dir.join("host.toml");
    std::fs::write(
        &file,
        format!(
            "[controllers.{name}]\nenv = {{ MODE = \"test\" }}\n\
             [[controllers.{name}.wasi.directories]]\nsource = \"rules\"\ndestination = \"/rules\"\n\
             [[controllers.{name}.wasi.directories]]\nsource = \"scratch\"\ndestination = \"/scratch\"\nwritable = true\n"
        ),
    )?;
    fixture.env.terminate_host().await?;
    fixture.env.restart_host_with(&["--config".into(), file.display().to_string()]).await?;
    let echo = fixture.create_and_wait("granted", spec("use grant", "")).await?.observed().echo;
    ensure!(echo == "mode=test rule=be strict write-rules=no link=no up=no scratch=written", "it says {echo:?}");
    fixture.until_suspended().await?;
    let again = fixture.change_and_wait("granted", spec("use grant", "again")).await?.observed();
    ensure!(again.echo == echo && again.seen == 2, "after a suspension it says {:?}", again.echo);
    ensure!(std::fs::read(dir.join("scratch/note"))? == b"written", "the file it wrote is missing");
    fixture.remove("granted").await
}

/// A host restart clears the guest's memory, and every object is reconciled.
pub async fn over_restart(fixture: GuestFixture) -> Result<()> {
    for name in ["changed", "kept"] {
        fixture.create_and_wait(name, spec("", "one")).await?;
    }
    let before = fixture.change_and_wait("kept", spec("", "two")).await?.observed();
    fixture.until_suspended().await?;
    fixture.env.terminate_host().await?;
    fixture.change("changed", spec("", "while it was down")).await?;
    fixture.env.restart_host().await?;
    let ready = fixture.until_logged(0, "the start", |record| record.message() == "controller ready").await?;
    ensure!(ready.text("from") == "start", "it did not start from scratch: {}", ready.0);
    fixture.until_current("changed").await?;
    let after = fixture.until("kept", "seen by the new instance", |probe| probe.observed().seen == 1).await?.observed();
    ensure!(before.seen == 2 && after.total <= 2, "reconciled {} times before, {} after", before.total, after.total);
    for name in ["changed", "kept"] {
        fixture.remove(name).await?;
    }
    Ok(())
}
