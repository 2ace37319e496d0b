//! A controller that does as it should, whose object is changed again and again.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use wasmop_e2e::probe::{Probe, spec};
use wasmop_e2e::test_cluster::PATIENCE;

const OBJECT: &str = "neighbour";
/// Between two changes: they are to stay well below the neighbour's own `api-rate`.
const PAUSE: Duration = Duration::from_millis(15);

pub struct Neighbour(Api<Probe>);

impl Neighbour {
    /// `guest`: its controller's name, and that of the namespace its object is created in.
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

    /// The one that was created before.
    pub fn of(client: &Client, guest: &str) -> Neighbour {
        Neighbour(Api::namespaced(client.clone(), guest))
    }

    /// Waits until it has been reconciled as it is now.
    pub async fn until_current(&self, patience: Duration) -> Result<()> {
        let current = async {
            while !self.0.get(OBJECT).await?.is_current() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        tokio::time::timeout(patience, current).await.context("it is not reconciled")?
    }

    /// Changes it; returns after which time that has been reconciled.
    async fn change(&self, number: u64) -> Result<Duration> {
        let begun = Instant::now();
        let patch = serde_json::json!({ "spec": spec("child", &number.to_string()) });
        self.0.patch(OBJECT, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.until_current(PATIENCE).await.with_context(|| format!("change {number}"))?;
        Ok(begun.elapsed())
    }

    /// Changes it until `work` is done, and at least so often, each time waiting until the change has been
    /// reconciled. Returns what came of the work, how many changes there were, and how long the slowest took.
    pub async fn reconcile_during<T>(&self, least: u64, work: impl Future<Output = T>) -> Result<(T, u64, Duration)> {
        let mut work = std::pin::pin!(work);
        let (mut changes, mut slowest) = (0, Duration::ZERO);
        let mut result = None;
        while result.is_none() || changes < least {
            tokio::time::sleep(PAUSE).await;
            let mut change = std::pin::pin!(self.change(changes));
            // Each change is seen through, also the one under way when the work is done.
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
