//! Makes a healthy API server slow, faulty or unreachable on a test's command.
//!
//! A plain HTTP listener on loopback forwards every request with the upstream client's credentials. It passes bodies
//! through as they arrive, so that watches work. A test adds and drops rules, which decide which requests fail and how:
//!
//! ```no_run
//! # async fn example(cluster: kube::Client) -> anyhow::Result<()> {
//! use wasmop_e2e::fault_proxy::{Fault, FaultProxy, Rule};
//! let proxy = FaultProxy::start(cluster).await?;
//! std::fs::write("kubeconfig", proxy.kubeconfig())?;
//! let busy = Fault::Status { code: 429, retry_after_seconds: Some(1) };
//! let _busy = proxy.add(Rule::new("PATCH", "/configmaps/", busy).times(2));
//! let held = proxy.hold("/configmaps/");
//! held.until_waiting(3).await?; // three requests wait
//! held.release();               // they go on, and later ones are not held
//! # Ok(())
//! # }
//! ```

mod listener;
mod response;
mod rule;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use listener::Listener;
use rule::State;

pub use rule::{ActiveRule, Fault, Rule};

/// A running proxy. Dropping it closes all its connections.
pub struct FaultProxy {
    state: Arc<State>,
    listener: Listener,
}

impl FaultProxy {
    /// Listens on a free port of loopback, and forwards to the server of `upstream`.
    pub async fn start(upstream: kube::Client) -> Result<FaultProxy> {
        let state = Arc::new(State::new(upstream));
        let listener = Listener::start(state.clone()).await?;
        Ok(FaultProxy { state, listener })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// A kubeconfig for a client that reaches the cluster through the proxy.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: proxy\n\
             clusters: [{{name: proxy, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: proxy, user: {{}}}}]\n\
             contexts: [{{name: proxy, context: {{cluster: proxy, user: proxy}}}}]\n"
        )
    }

    /// Puts a rule in force.
    #[must_use = "dropping it removes the rule"]
    pub fn add(&self, rule: Rule) -> ActiveRule {
        self.state.add(rule)
    }

    /// Holds every request with this part of the path until the rule is released or dropped.
    #[must_use = "dropping it removes the rule"]
    pub fn hold(&self, path: &str) -> ActiveRule {
        self.add(Rule::new("", path, Fault::Hold))
    }

    /// Delays every request with this part of the path.
    #[must_use = "dropping it removes the rule"]
    pub fn delay(&self, path: &str, delay: Duration) -> ActiveRule {
        self.add(Rule::new("", path, Fault::Delay(delay)))
    }

    /// Requests so far with this method (empty for any) and this part of the path, query excluded.
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let matches = |(m, p): &(String, String)| (method.is_empty() || m == method) && p.contains(path);
        self.state.lock().counts.iter().filter(|(request, _)| matches(request)).map(|(_, count)| count).sum()
    }

    /// Requests so far by method and path without query.
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        self.state.lock().counts.clone()
    }

    /// The values of the header `traceparent`.
    pub fn traceparents(&self) -> Vec<String> {
        self.state.lock().traceparents.clone()
    }

    /// Lists so far by path, including those that start a watch and reads of single objects.
    pub fn list_counts(&self) -> BTreeMap<String, u64> {
        self.state.lock().lists.clone()
    }

    /// Breaks all open connections.
    pub async fn cut_connections(&self) {
        self.listener.cut().await;
    }

    /// Takes the API server down: connections break, new ones are refused.
    pub async fn stop_accepting(&self) {
        self.listener.close().await;
    }

    /// Brings the API server back at the same address.
    pub async fn accept_again(&self) -> Result<()> {
        self.listener.open().await
    }
}

#[cfg(test)]
mod tests;
