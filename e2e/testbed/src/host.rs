//! `wasmop run` as a child process, with its log in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};

use crate::controlplane::Lifetime;
use crate::log::Log;
use crate::process::Process;

/// The deadline for a host to stop, which finishes steps and suspends everything in far less time.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The options of a host.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The `wasmop` program.
    pub program: PathBuf,
    pub packages: Vec<PathBuf>,
    pub kubeconfig: PathBuf,
    pub state_dir: PathBuf,
    /// `None` for the host's default.
    pub suspend_after: Option<Duration>,
    /// More arguments.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, PathBuf)>,
    pub log: PathBuf,
    /// The file for standard output; `None` discards it.
    pub output: Option<PathBuf>,
    /// The working directory of the host. The path `log` is not relative to it.
    pub current_dir: Option<PathBuf>,
    pub lifetime: Lifetime,
}

impl HostOptions {
    /// The arguments of the command line.
    pub fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(self.packages.iter().map(|package| text(package)));
        arguments.extend(["--kubeconfig".into(), text(&self.kubeconfig), "--state-dir".into(), text(&self.state_dir)]);
        if let Some(suspend_after) = self.suspend_after {
            let suspend_after = match suspend_after.as_millis() {
                millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
                millis => format!("{millis}ms"),
            };
            arguments.extend(["--suspend-after".into(), suspend_after]);
        }
        arguments.extend(["--log-format".into(), "json".into()]);
        arguments.extend(self.args.iter().cloned());
        arguments
    }
}

/// A running host.
pub struct Host {
    process: Process,
    pub log: Log,
}

impl Host {
    /// Starts the host, without waiting.
    pub fn spawn(options: &HostOptions) -> Result<Host> {
        use std::os::unix::process::CommandExt;
        if let Some(parent) = options.log.parent() {
            fs::create_dir_all(parent)?;
        }
        let log = File::create(&options.log).with_context(|| format!("creating {}", options.log.display()))?;
        let mut command = Command::new(&options.program);
        let output = match &options.output {
            None => Stdio::null(),
            Some(path) => File::create(path).with_context(|| format!("creating {}", path.display()))?.into(),
        };
        command.args(options.arguments()).stdin(Stdio::null()).stdout(output).stderr(log);
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &options.current_dir {
            command.current_dir(dir);
        }
        if options.lifetime == Lifetime::Detached {
            command.process_group(0);
        }
        let child =
            command.spawn().map_err(|error| anyhow!("{} cannot be started: {error}", options.program.display()))?;
        Ok(Host { process: Process::new("wasmop run", child, STOP_TIMEOUT), log: Log::open(&options.log)? })
    }

    /// Waits until all these controllers are ready.
    pub fn wait_ready(&mut self, controllers: &[&str], timeout: Duration) -> Result<()> {
        for controller in controllers {
            let deadline = Instant::now() + timeout;
            while !self.log.records()?.iter().any(|record| record.is("controller ready", controller)) {
                let ended = self.process.ended();
                if ended.is_some() || Instant::now() > deadline {
                    let why = ended.map_or_else(
                        || format!("{controller} is not ready after {timeout:?}"),
                        |status| format!("the host ended ({status})"),
                    );
                    bail!("{why}; the end of its log:\n{}", self.log.tail(15));
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits until the host ends by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.process.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the host is still running after {timeout:?}; the end of its log:\n{}", self.log.tail(15));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The exit status, if the host has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Sends SIGHUP, which reloads the configuration.
    pub fn hang_up(&self) {
        self.process.hang_up();
    }

    /// Sends SIGTERM, without waiting.
    pub fn ask_to_end(&self) {
        self.process.terminate();
    }

    /// Sends SIGTERM and waits.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate();
        self.wait(STOP_TIMEOUT)
    }

    /// Sends SIGKILL and waits.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Leaves the host running; only for `Lifetime::Detached`.
    pub fn detach(mut self) {
        self.process.detach();
    }
}
