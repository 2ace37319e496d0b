//! Waits for objects in the cluster, which it reads with kubectl.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use wasmop_testbed::controlplane::{Binaries, ControlPlane};

use crate::command;

/// The name of the Website in the samples of the templates. The names of its children end with the project's name.
pub const WEBSITE: &str = "hello";

/// The Websites of a project. Each project has its own API group.
pub fn resource(project: &str) -> String {
    format!("websites.{project}.wasmop.dev")
}

/// A cluster, and the kubectl to read it with.
pub struct Cluster {
    binaries: Binaries,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The cluster of a control plane.
    pub fn new(binaries: &Binaries, plane: &ControlPlane) -> Cluster {
        Cluster { binaries: binaries.clone(), kubeconfig: plane.kubeconfig.clone() }
    }

    fn website(&self, project: &str) -> Result<Value> {
        self.get(project, &resource(project), WEBSITE)
    }

    fn child(&self, project: &str, resource: &str) -> Result<Value> {
        self.get(project, resource, &format!("{WEBSITE}-{project}"))
    }

    fn get(&self, project: &str, resource: &str, name: &str) -> Result<Value> {
        let mut kubectl = self.binaries.kubectl();
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).args([
            "get",
            resource,
            name,
            "-n",
            project,
            "-o",
            "json",
            "--ignore-not-found",
        ]);
        let text = command::output(&mut kubectl)?;
        Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Waits until the Website has all its children and a status. Returns its count of reconciles.
    ///
    /// # Errors
    ///
    /// `patience` is over; the message says what is missing.
    pub fn wait_for_website(&self, project: &str, patience: Duration) -> Result<u64> {
        poll(patience, || {
            let website = self.website(project)?;
            let uid = &website["metadata"]["uid"];
            for kind in ["configmap", "deployment", "service"] {
                let child = self.child(project, kind)?;
                if uid.is_null() || child["metadata"]["ownerReferences"][0]["uid"] != *uid {
                    return Ok(Err(format!("{project}: the Website has no {kind} yet")));
                }
            }
            Ok(reported(&website).ok_or_else(|| format!("{project}: the Website's status is {}", website["status"])))
        })
    }

    /// Waits until the ConfigMap has `content` and the status is current. Returns the count of reconciles.
    ///
    /// # Errors
    ///
    /// `patience` is over; the message says what is missing.
    pub fn wait_for_content(&self, project: &str, content: &str, patience: Duration) -> Result<u64> {
        poll(patience, || {
            let child = self.child(project, "configmap")?;
            if child["data"]["index.html"] != content {
                return Ok(Err(format!("{project}: the ConfigMap's content is {}", child["data"]["index.html"])));
            }
            let website = self.website(project)?;
            Ok(reported(&website).ok_or_else(|| format!("{project}: the Website's status is {}", website["status"])))
        })
    }
}

/// The count of reconciles in a status that is current and has its condition.
fn reported(website: &Value) -> Option<u64> {
    let status = &website["status"];
    let current = status["observedGeneration"] == website["metadata"]["generation"];
    let ready = status["conditions"].as_array()?.iter().any(|condition| condition["type"] == "Ready");
    status["reconciles"].as_u64().filter(|_| current && ready)
}

/// Repeats `ask` until its answer is `Ok`. The error has the last answer.
fn poll<T>(patience: Duration, mut ask: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask()? {
            Ok(value) => return Ok(value),
            Err(problem) if Instant::now() > deadline => bail!("{problem} after {patience:?}"),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
