//! Packages to slots: compiles each package once, and continues from what an earlier host has left.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Deployment, Host, HostError, Phase, Slot};
use crate::code::{InstalledPackage, wall_clock_ns};
use crate::controller::{Controller, Saved as SavedController};
use crate::engine::Engine;
use crate::instance::Origin;
use crate::permissions::Permissions;
use crate::snapshot::{ControllerStore, StateDir};

impl Host {
    pub(super) async fn install(
        &mut self,
        deployments: Vec<Deployment>,
        engine: &Engine,
        state: &Arc<StateDir>,
    ) -> Result<(), HostError> {
        let mut installed: HashMap<[u8; 32], (Arc<InstalledPackage>, Arc<Permissions>)> = HashMap::new();
        for Deployment { name, package } in deployments {
            let (package, permissions) = match installed.get(&package.digest) {
                Some(found) => found.clone(),
                None => {
                    let (engine, state) = (engine.clone(), state.clone());
                    let install = move || InstalledPackage::install(&engine, &state, &package);
                    let package = Arc::new(tokio::task::block_in_place(install)?);
                    let permissions = Arc::new(Permissions::new(package.manifest.permissions.clone()));
                    installed.insert(package.digest, (package.clone(), permissions.clone()));
                    (package, permissions)
                }
            };
            let fail = |source| HostError::Controller { name: name.clone(), source };
            let store = state.controller(&name).map_err(fail)?;
            let (controller, phase) = self.recover(&name, &package, &store).map_err(fail)?;
            self.slots.push(Slot {
                name: name.into(),
                package,
                store: Arc::new(store),
                permissions,
                controller,
                phase,
                primaries: Vec::new(),
                requests: BTreeMap::new(),
                credit: None,
                generation: wall_clock_ns(),
                wake: None,
                save_after: Duration::ZERO,
            });
        }
        Ok(())
    }

    /// Continues from the snapshot of an earlier host, or starts anew.
    pub(super) fn recover(
        &self,
        name: &str,
        package: &InstalledPackage,
        store: &ControllerStore,
    ) -> io::Result<(Controller, Phase)> {
        let now = self.now();
        let fresh = || {
            let controller = Controller::new(now, package.first_monotonic_ns());
            (controller, Phase::Suspended(Origin::Fresh))
        };
        let Some(image) = package.image() else {
            tracing::info!(
                controller = name,
                "runs in the soft tier: suspended in this process only, and started anew after a restart of the host"
            );
            store.discard()?;
            return Ok(fresh());
        };
        let rejected = match store.recover(&package.digest, image) {
            Ok(None) => return Ok(fresh()),
            Ok(Some((snapshot, header))) => {
                let elapsed = Duration::from_nanos(wall_clock_ns().saturating_sub(header.wall_ns));
                let clock = header.monotonic_ns.wrapping_add(elapsed.as_nanos() as u64);
                let restored = postcard::from_bytes::<SavedController>(&header.host_state)
                    .map_err(|e| e.to_string())
                    .and_then(|saved| Controller::restore(saved, now, clock, elapsed));
                match restored {
                    Ok(controller) => {
                        tracing::info!(
                            controller = name,
                            registrations = controller.registered(),
                            from = "snapshot",
                            "controller ready"
                        );
                        return Ok((controller, Phase::Suspended(Origin::Snapshot(snapshot))));
                    }
                    Err(reason) => reason,
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            controller = name,
            reason = %rejected,
            "snapshot rejected: starting from the base image, all objects will be reconciled"
        );
        store.discard()?;
        Ok(fresh())
    }
}
