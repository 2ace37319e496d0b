//! The operator as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wasmop_core::startup::NAMESPACE_VARIABLE;
use wasmop_core::variable_references;

use super::project::Project;

/// How long a program may take to fail at its start.
const START: Duration = Duration::from_secs(3);

/// A running operator, which is killed when it is dropped.
pub struct Native {
    child: Child,
    log: PathBuf,
}

impl Native {
    /// Starts it with the package's environment and arguments.
    ///
    /// # Errors
    /// It ends at once: the end of its log.
    pub async fn start(project: &Project, program: &Path, kubeconfig: &Path, log: &Path) -> Result<Native> {
        let file = File::create(log)?;
        let mut command = Command::new(program);
        let (mut env, mut args) = (project.manifest.env.clone(), project.manifest.args.clone());
        env.entry(NAMESPACE_VARIABLE.to_owned()).or_insert_with(|| "default".to_owned());
        variable_references::expand(&mut env, &mut args);
        command.args(&args);
        // Programs without controller-runtime or kube-rs know no KUBECONFIG.
        if knows_flag(program) {
            command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        }
        command.env("KUBECONFIG", kubeconfig).envs(&env);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).current_dir(&project.dir);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut native = Native { child, log: log.to_owned() };
        tokio::time::sleep(START).await;
        if let Some(status) = native.child.try_wait()? {
            bail!("the native program ended with {status}:\n{}", native.log_end());
        }
        Ok(native)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether its help mentions `-kubeconfig`.
fn knows_flag(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--help").stdin(Stdio::null()).output() else { return false };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).contains("-kubeconfig")
}
