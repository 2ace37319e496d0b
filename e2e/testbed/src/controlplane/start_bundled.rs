//! Starts the bundled program: etcd, kube-apiserver and kube-controller-manager in one process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::component::{Lifetime, spawn};
use super::running::{Bundled, ControlPlane};
use crate::process::Process;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Starts the program. `port`: of the API server; `None` for a free one.
pub(crate) fn start(bundled: Bundled, port: Option<u16>) -> Result<ControlPlane> {
    let Bundled { program, dir, lifetime, apiserver_flags } = &bundled;
    let kubeconfig = dir.join("kubeconfig");
    let log = dir.join("controlplane.log");
    let mut command = Command::new(program);
    command.arg("-dir").arg(dir).arg("-kubeconfig").arg(&kubeconfig).stdout(Stdio::piped());
    command.arg("-port").arg(port.unwrap_or_default().to_string());
    command.arg("-apiserver-args").arg(apiserver_flags.join(" "));
    if *lifetime == Lifetime::Owned {
        // The pipe closes however this process ends.
        command.arg("-until-stdin-closes").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    let mut child = spawn("the control plane", command, &log, *lifetime)?;
    let stdout = child.stdout.take().expect("piped");
    let process = Process::new("control plane", child, STOP_TIMEOUT);

    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let Some(server) = line.strip_prefix("READY ").and_then(|rest| rest.split(' ').next()) else {
        bail!("the control plane did not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
    };
    let server = server.to_owned();
    Ok(ControlPlane { kubeconfig, server, processes: vec![process], bundled: Some(bundled) })
}
