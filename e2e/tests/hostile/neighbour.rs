//! A well-behaved controller whose object changes all the time.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::TIMEOUT;

const OBJECT: &str = "neighbour";
/// The pause between two changes, which keeps them well below the neighbour's own `api-rate`.
const PAUSE: Duration = Duration::from_millis(15);

pub struct Neighbour(Api<Probe>);

impl Neighbour {
    /// Creates the object. `guest`: the name of its controller and of its namespace.
    pub async fn create(client: &Client, guest: &str) -> Result<Neighbour> {
        let metadata = ObjectMeta {
            name: Some(OBJECT.into()),
            labels: Some([("guest".to_owned(), guest.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let neighbour = Neighbour::of(client, guest);
        let probe = Probe { metadata, spec: spec("child", "0"), status: None };
        neighbour.0.create(&PostParams::default(), &probe).await?;
        Ok(neighbour)
    }

    /// The neighbour that was created before.
    pub fn of(client: &Client, guest: &str) -> Neighbour {
        Neighbour(Api::namespaced(client.clone(), guest))
    }

    /// Waits until the current spec has been reconciled.
    pub async fn until_current(&self, timeout: Duration) -> Result<()> {
        let current = async {
            while !self.0.get(OBJECT).await?.is_current() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        tokio::time::timeout(timeout, current).await.context("it is not reconciled")?
    }

    /// Changes the object, and returns the time until the change has been reconciled.
    async fn change(&self, number: u64) -> Result<Duration> {
        let begun = Instant::now();
        let patch = serde_json::json!({ "spec": spec("child", &number.to_string()) });
        self.0.patch(OBJECT, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.until_current(TIMEOUT).await.with_context(|| format!("change {number}"))?;
        Ok(begun.elapsed())
    }

    /// Changes the object until `work` is done, and at least `least` times. Waits until each change is reconciled.
    ///
    /// Returns the result of the work, the number of changes, and the time of the slowest one.
    pub async fn reconcile_during<T>(&self, least: u64, work: impl Future<Output = T>) -> Result<(T, u64, Duration)> {
        let mut work = std::pin::pin!(work);
        let (mut changes, mut slowest) = (0, Duration::ZERO);
        let mut result = None;
        while result.is_none() || changes < least {
            tokio::time::sleep(PAUSE).await;
            let mut change = std::pin::pin!(self.change(changes));
            // The change in flight completes even if the work is done.
            let took = loop {
                tokio::select! {
                    took = &mut change => break took?,
                    done = &mut work, if result.is_none() => result = Some(done),
                }
            };
            changes += 1;
            slowest = slowest.max(took);
        }
        let result = result.context("the work is not done")?;
        Ok((result, changes, slowest))
    }
}
