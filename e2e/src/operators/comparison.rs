//! The story of one operator, first as a package and then natively.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use wasmop_testbed::controlplane::{self, ControlPlane, Lifetime};

use super::cluster_content::Content;
use super::native::Native;
use super::outcome::{Outcome, Step};
use super::packaged::{Counts, Packaged};
use super::project::Project;
use super::story::{Phases, Stage};
use crate::test_cluster;

/// How many differences are told.
const TOLD: usize = 8;

/// How an operator is tried.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long it is watched while nothing changes; zero: not at all.
    pub idle: Duration,
}

/// Builds the operator in `dir`, and runs it as a package and natively. `samples`: objects to use in place of its own.
pub async fn compare(dir: &Path, samples: Option<&Path>, options: &Options) -> Outcome {
    let name = dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned());
    let mut outcome = Outcome { name, ..Outcome::default() };
    let project = match Project::build(dir, samples) {
        Ok(project) => project,
        Err(error) => {
            outcome.builds = Step::Failed(format!("{error:#}"));
            return outcome;
        }
    };
    outcome.builds = Step::Passed;
    outcome.mode = Some(project.mode());
    outcome.package_bytes = project.package_bytes;
    let Some(packaged) = packaged(&project, &mut outcome, options).await else { return outcome };
    outcome.equals_native = Step::of(
        async {
            let native = natively(&project).await?;
            differ(&native, &packaged)
        }
        .await,
    );
    outcome
}

/// `None` if it did not get to the end.
async fn packaged(project: &Project, outcome: &mut Outcome, options: &Options) -> Option<Phases> {
    let result: Result<Phases> = async {
        let (plane, temporary) = plane()?;
        let client = test_cluster::client(&plane.kubeconfig).await?;
        let stage = Stage::prepare(client, &project.manifest.crds, &project.samples).await?;
        let mut packaged = match Packaged::start(project, &plane.kubeconfig, temporary.path()) {
            Ok(packaged) => packaged,
            Err(error) => {
                outcome.starts = Step::Failed(format!("{error:#}"));
                bail!("");
            }
        };
        outcome.starts = Step::Passed;
        let mut phases = Phases::default();
        let created = stage.create(&project.samples).await?;
        phases.0.push(("created", created.clone()));
        let before = packaged.counts()?;
        if !options.idle.is_zero() {
            tokio::time::sleep(options.idle).await;
            let resumes = packaged.counts()?.resumes - before.resumes;
            outcome.idle_resumes_per_hour = Some(resumes as f64 * 3600.0 / options.idle.as_secs_f64());
        }
        phases.0.push(("disturbed", stage.disturb(&project.samples, &created, "1").await?));
        let counts = packaged.counts()?;
        packaged.restart()?;
        phases.0.push(("restarted", stage.disturb(&project.samples, &created, "2").await?));
        phases.0.push(("deleted", stage.delete(&project.samples).await?));
        let after = packaged.counts()?;
        let total = Counts { suspends: counts.suspends + after.suspends, resumes: counts.resumes + after.resumes };
        (outcome.suspended, outcome.resumed) = (total.suspends, total.resumes);
        let seen = |count: usize, what: &str| match count {
            0 => Step::Failed(format!("the host logged no `{what}` of it")),
            _ => Step::Passed,
        };
        outcome.suspends = seen(total.suspends, "suspended");
        outcome.resumes = seen(total.resumes, "resumed");
        outcome.reconciles = match packaged.trouble()? {
            Some(trouble) => Step::Failed(trouble),
            None => Step::Passed,
        };
        packaged.stop()?;
        plane.stop()?;
        Ok(phases)
    }
    .await;
    match result {
        Ok(phases) => Some(phases),
        Err(error) => {
            if outcome.starts == Step::Passed {
                outcome.reconciles = Step::Failed(format!("{error:#}"));
            } else if outcome.starts == Step::NotTried {
                outcome.starts = Step::Failed(format!("{error:#}"));
            }
            None
        }
    }
}

async fn natively(project: &Project) -> Result<Phases> {
    let program = project.build_natively(false)?;
    let (plane, temporary) = plane()?;
    let client = test_cluster::client(&plane.kubeconfig).await?;
    let stage = Stage::prepare(client, &project.manifest.crds, &project.samples).await?;
    let start = async |number: u32| {
        let log = temporary.path().join(format!("native-{number}.log"));
        Native::start(project, &program, &plane.kubeconfig, &log).await
    };
    let native = start(0).await?;
    let mut phases = Phases::default();
    let created = stage.create(&project.samples).await?;
    phases.0.push(("created", created.clone()));
    phases.0.push(("disturbed", stage.disturb(&project.samples, &created, "1").await?));
    native.kill()?;
    let native = start(1).await?;
    phases.0.push(("restarted", stage.disturb(&project.samples, &created, "2").await?));
    phases.0.push(("deleted", stage.delete(&project.samples).await?));
    native.kill()?;
    plane.stop()?;
    Ok(phases)
}

fn plane() -> Result<(ControlPlane, tempfile::TempDir)> {
    let binaries = controlplane::find(&mut |line| eprintln!("{line}"))?;
    let temporary = tempfile::Builder::new().prefix("wasmop-operators-").tempdir()?;
    let plane = ControlPlane::start(&binaries, &temporary.path().join("cluster"), Lifetime::Owned)?;
    Ok((plane, temporary))
}

fn differ(native: &Phases, packaged: &Phases) -> Result<()> {
    let mut lines = Vec::new();
    for ((phase, native), (_, packaged)) in native.0.iter().zip(&packaged.0) {
        let found = Content::differences(native, packaged, ("natively", "as a package"));
        lines.extend(found.into_iter().map(|line| format!("{phase}: {line}")));
    }
    if native.0.first().is_some_and(|(_, content)| content.objects.is_empty()) {
        bail!("there are no samples, and it does nothing without them");
    }
    match lines.len() {
        0 => Ok(()),
        count => bail!("{count} differences:\n{}", lines[..count.min(TOLD)].join("\n")),
    }
}
