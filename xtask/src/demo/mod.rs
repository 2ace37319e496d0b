//! `cargo xtask demo`: a tutorial that runs, from nothing to a suspended and resumed controller. It runs every command that
//! it prints, and reports only what it observed.

mod cluster;
mod sizes;
mod tutorial;

use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use clap::Args;
use wasmop_testbed::controlplane::{self, Binaries, ControlPlane, Lifetime};
use wasmop_testbed::host::{Host, HostOptions};
use wasmop_testbed::log::Record;

use crate::progress::Progress;
use crate::{command, programs, setup};
use cluster::Cluster;
use tutorial::Tutorial;

/// The deadline of each wait, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SUSPEND_AFTER: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Demo {
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
}

/// One of the two controllers.
struct Project {
    name: &'static str,
    language: &'static str,
}

const PROJECTS: [Project; 2] =
    [Project { name: "hello-rust", language: "rust" }, Project { name: "hello-go", language: "go" }];

impl Demo {
    /// Builds what it needs and runs the tutorial.
    ///
    /// # Errors
    ///
    /// Something cannot be built, or a controller did not do what the tutorial says.
    pub fn run(self) -> Result<()> {
        let progress = Progress::start();
        setup::toolchain()?;
        if !command::succeeds(Command::new("go").arg("version")) {
            bail!(
                "the demo builds a controller in Go, and there is no `go` on PATH\nhelp: install Go 1.26, see https://go.dev/doc/install"
            );
        }
        progress.say("building wasmop and a control plane (minutes the first time)");
        // Both take minutes and have phases that keep one core busy. The control plane is not needed before chapter 3.
        let control_plane = find_control_plane(progress);
        programs::build_wasmop_with_progress(progress)?;
        progress.say("wasmop is built");
        // If it failed already, the demo fails before it begins.
        let control_plane = if control_plane.is_finished() { Ok(join(control_plane)?) } else { Err(control_plane) };

        let temporary = tempfile::Builder::new().prefix("wasmop-demo-").tempdir()?;
        let dir = temporary.path().to_owned();
        let lifetime = if self.keep { Lifetime::Detached } else { Lifetime::Owned };
        let mut tutorial = Tutorial::begin(&dir);

        tutorial.chapter("Two controllers from templates, one in Rust and one in Go");
        for project in &PROJECTS {
            tutorial.wasmop(&["new", project.name, "--lang", project.language])?;
        }
        tutorial.chapter("Compile each and pack it into one WebAssembly component");
        for project in &PROJECTS {
            tutorial.wasmop(&["build", project.name])?;
        }

        tutorial.chapter("A real API server: etcd, kube-apiserver, kube-controller-manager");
        let binaries = control_plane.or_else(join)?;
        let plane = ControlPlane::start(&binaries, &dir.join("cluster"), lifetime)?;
        tutorial.cluster(&binaries, &plane);
        for project in &PROJECTS {
            tutorial.kubectl(&["create", "namespace", project.name])?;
            tutorial.kubectl(&["apply", "-f", &format!("{}/crds", project.name)])?;
        }

        tutorial.chapter("Both controllers in one host");
        let options = HostOptions {
            program: programs::path(programs::WASMOP),
            packages: PROJECTS.map(|project| package(project.name).into()).to_vec(),
            kubeconfig: "cluster/kubeconfig".into(),
            state_dir: "state".into(),
            suspend_after: Some(SUSPEND_AFTER),
            args: Vec::new(),
            env: Vec::new(),
            log: dir.join("host.log"),
            output: None,
            current_dir: Some(dir.clone()),
            lifetime,
        };
        tutorial.background("wasmop", &options.arguments(), "host.log");
        let mut host = Host::spawn(&options)?;
        let story = story(&mut tutorial, &Cluster::new(&binaries, &plane), &mut host, &options);
        if story.is_err() {
            eprintln!("\nthe end of the host's log:\n{}", host.log.tail(20));
        }
        story?;

        if self.keep {
            let kept = temporary.keep();
            let ids: Vec<_> = host.id().into_iter().chain(plane.process_ids()).map(|id| id.to_string()).collect();
            tutorial.chapter("Left running");
            println!("  export KUBECONFIG={}", plane.kubeconfig.display());
            println!("  projects, state and the host's log: {}", kept.display());
            println!("  to stop everything: kill {}; rm -r {}", ids.join(" "), kept.display());
            host.detach();
            plane.detach();
        } else {
            stop(&mut tutorial, host, plane)?;
        }
        tutorial.end();
        Ok(())
    }
}

/// Finds the control plane or builds it, in a thread of its own.
fn find_control_plane(progress: Progress) -> JoinHandle<Result<Binaries>> {
    thread::spawn(move || {
        let mut built = false;
        let binaries = controlplane::find(&mut |line| {
            built = true;
            progress.say(line);
        })?;
        if built {
            progress.say("the control plane is built");
        }
        Ok(binaries)
    })
}

fn join(control_plane: JoinHandle<Result<Binaries>>) -> Result<Binaries> {
    control_plane.join().expect("the thread does not panic")
}

fn package(name: &str) -> String {
    format!("{name}/target/wasmop/{name}.wasm")
}

/// From the running host to both controllers suspended for the second time.
fn story(tutorial: &mut Tutorial, cluster: &Cluster, host: &mut Host, options: &HostOptions) -> Result<()> {
    let names = PROJECTS.map(|project| project.name);
    host.wait_ready(&names, PATIENCE)?;

    tutorial.chapter("A Website of each kind: its children, and the status that its controller reports");
    for name in names {
        tutorial.kubectl(&["apply", "-n", name, "-f", &format!("{name}/config")])?;
    }
    let mut reconciles = Vec::new();
    for name in names {
        reconciles.push(cluster.wait_for_website(name, PATIENCE)?);
        let kinds = format!("{},configmaps,deployments,services", cluster::resource(name));
        // Kubernetes creates this ConfigMap in every namespace.
        tutorial.kubectl(&["get", &kinds, "-n", name, "--field-selector", "metadata.name!=kube-root-ca.crt"])?;
        tutorial.kubectl(&[
            "get",
            &cluster::resource(name),
            cluster::WEBSITE,
            "-n",
            name,
            "-o",
            "jsonpath={.status}",
        ])?;
        println!();
    }

    tutorial.chapter("Idle for a second: both are suspended to disk");
    show_suspended(tutorial, host, names)?;

    tutorial.chapter("A change resumes a controller");
    for (name, before) in names.into_iter().zip(reconciles) {
        let position = host.log.position()?;
        let content = format!("<h1>Changed, {name}</h1>");
        let patch = serde_json::json!({ "spec": { "content": content } }).to_string();
        tutorial.kubectl(&[
            "patch",
            &cluster::resource(name),
            cluster::WEBSITE,
            "-n",
            name,
            "--type",
            "merge",
            "-p",
            &patch,
        ])?;
        let after = cluster.wait_for_content(name, &content, PATIENCE)?;
        let resumed = host
            .log
            .wait_for(position, PATIENCE, &format!("resumed line of {name}"), |record| record.is("resumed", name))?;
        let micros =
            |field: &str| resumed.number(field).with_context(|| format!("the resumed line of {name} has no {field}"));
        tutorial.saw(&format!(
            "{name} was resumed in {:.0} µs and ran its first step in {:.0} µs; ConfigMap {} now has the new content",
            micros("resume_us")?,
            micros("step_us")?,
            cluster::WEBSITE
        ));
        if after <= before {
            bail!("{name} reports {after} reconciles after {before}: its memory was lost");
        }
        tutorial.saw(&format!("the counter in its memory continued from {before} to {after}"));
    }
    show_suspended(tutorial, host, names).context("after the change")?;
    if fs::read_dir(options.current_dir.as_deref().unwrap_or(Path::new(".")).join(&options.state_dir))?.next().is_none()
    {
        bail!("the state directory is empty");
    }
    Ok(())
}

/// Waits until both are suspended, and prints the memory and disk space of each.
fn show_suspended(tutorial: &mut Tutorial, host: &mut Host, names: [&str; 2]) -> Result<()> {
    for name in names {
        let suspended = suspended_for_good(host, name)?;
        let bytes = |field: &str| {
            suspended.number(field).with_context(|| format!("the suspended line of {name} has no {field}"))
        };
        tutorial.saw(&format!(
            "{name:<10}  suspended: {:>9} in RAM, {:>9} on disk",
            sizes::bytes(bytes("ram_bytes")?),
            sizes::bytes(bytes("disk_bytes")?)
        ));
    }
    Ok(())
}

/// The `suspended` line of `name` that no resume follows.
fn suspended_for_good(host: &mut Host, name: &str) -> Result<Record> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let turns = ["suspended", "resumed", "controller ready"];
        let last = host.log.records()?.iter().rev().find(|record| turns.iter().any(|turn| record.is(turn, name)));
        if let Some(record) = last.filter(|record| record.message() == "suspended") {
            return Ok(record.clone());
        }
        if Instant::now() > deadline {
            bail!("{name} is not suspended after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn stop(tutorial: &mut Tutorial, mut host: Host, plane: ControlPlane) -> Result<()> {
    tutorial.chapter("Stop: the host suspends what is resident; the next run would continue from there");
    tutorial.note("kill -TERM the host");
    let status = host.terminate()?;
    if !status.success() {
        bail!("the host exited with {status}; the end of its log:\n{}", host.log.tail(15));
    }
    host.log
        .wait_for(0, Duration::ZERO, "line `shutdown complete`", |record| record.message() == "shutdown complete")?;
    tutorial.saw("the host exited successfully");
    plane.stop()
}
