//! Packages to slots: compiles each package once, and continues from what an earlier host has left.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use wasmop_core::cached_reads::{Resource, Writes};
use wasmop_core::controller::Controller;
use wasmop_core::limits::cpu_share::Pace;
use wasmop_core::limits::log_rate::Lines;
use wasmop_core::limits::problem::Problem;
use wasmop_core::limits::request_rate::Requests;
use wasmop_core::own_writes::OwnWrites;
use wasmop_core::permissions::external::ExternalGrant;
use wasmop_core::permissions::{Grant, Permissions};
use wasmop_core::startup::{NAMESPACE_VARIABLE, Startup};
use wasmop_core::status::counters::Counters;
use wasmop_core::status::observed;
use wasmop_core::status::state::State;
use wasmop_core::watch::Place;
use wasmop_package::Tier;
use wasmop_package::external::HostPattern;
use wasmop_policy::Predictor;
use wasmop_snapshot::format::FormatError;
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::PAGE;
use wasmop_snapshot::{ControllerStore, StateDir};
use wasmop_vm::address_space::{AddressSpace, AddressSpaceError};
use wasmop_vm::compiled_package::{InstallError, InstalledPackage};
use wasmop_vm::instance::Origin;
use wasmop_vm::step_input::wall_clock_ns;
use wasmop_vm::wasi::WasiGrant;

use super::deciding::Deciding;
use super::leading::Lead;
use super::preparing::prepare;
use super::telling::Regarding;
use super::{ControllerSettings, Deployment, Host, HostError, HostState, Phase, Slot};

/// State, predictor and instance of a controller, and what it has seen of its watches.
pub(super) type Recovered = (Controller, Predictor, Phase, Vec<Place>);

/// A package, and what its controllers share.
#[derive(Clone)]
struct Installed {
    package: Arc<InstalledPackage>,
    /// All that it asks for.
    permissions: Arc<Permissions>,
    /// What it reads from the cache.
    cached: Arc<[Resource]>,
    /// What it watches without its own writes.
    ignored: Arc<[Resource]>,
}

impl Installed {
    fn new(package: InstalledPackage) -> Installed {
        let manifest = &package.manifest;
        let watches = || manifest.registrations.iter().flat_map(|r| std::iter::once(&r.primary).chain(&r.watches));
        Installed {
            permissions: Arc::new(
                Permissions::new(manifest.permissions.clone()).with_external(manifest.external_hosts.clone()),
            ),
            cached: watches().filter(|watch| watch.keeps_objects()).map(Resource::of).collect(),
            ignored: watches().filter(|watch| watch.ignore_own_writes).map(Resource::of).collect(),
            package: Arc::new(package),
        }
    }
}

impl Host {
    pub(super) async fn install(
        &mut self,
        deployments: Vec<Deployment>,
        state: &Arc<StateDir>,
    ) -> Result<(), HostError> {
        // Instances that can be in memory at once: all may have something to do at the same time.
        let address_space = AddressSpace::limited();
        let room = address_space.map_or(usize::MAX, |limited| limited.instances() as usize);
        let packages = deployments.iter().map(|deployment| deployment.package.clone());
        let prepared = prepare(&self.engine, state, packages, &self.limits, room).await?;
        let mut installed: HashMap<[u8; 32], Result<Installed, Arc<InstallError>>> = HashMap::new();
        for (digest, result) in prepared {
            let result = result.map(Installed::new).map_err(Arc::new);
            if let Err(error) = &result
                && error.concerns_all()
            {
                return Err(error.clone().into());
            }
            installed.insert(digest, result);
        }
        self.slots.reserve_exact(deployments.len());
        let mut first_error = None;
        let mut startups: HashSet<Arc<Startup>> = HashSet::new();
        for Deployment { name, package, settings } in deployments {
            let ControllerSettings { policy, grant, wasi, env, args, log_level, namespaces } = settings;
            if let Some(Err(source)) = wasi.as_deref().map(WasiGrant::check) {
                return Err(HostError::Wasi { name, source });
            }
            let found = match (installed.get(&package.digest), address_space) {
                (Some(Ok(_)), Some(limited)) if self.slots.len() >= room => {
                    Err(InstallError::AddressSpace { name: name.clone(), source: AddressSpaceError(limited) }.into())
                }
                (Some(found), _) => found.clone(),
                // Every package was prepared.
                (None, _) => continue,
            };
            let Installed { package, permissions, cached, ignored } = match found {
                Ok(found) => found,
                // The others don't suffer from a package that is no good.
                Err(error) => {
                    self.leave_out(&name, package.tier(), &error.to_string());
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            let startup = {
                let namespace = grant.service_account.as_ref().map(|account| account.namespace());
                let namespace = namespace.unwrap_or_else(|| self.client.default_namespace());
                let manifest = &package.manifest;
                let mut all = BTreeMap::from([(NAMESPACE_VARIABLE.to_owned(), namespace.to_owned())]);
                all.extend(manifest.env.clone());
                all.extend(env);
                let startup = Startup { env: all, args: args.unwrap_or_else(|| manifest.args.clone()), log_level };
                match startups.get(&startup) {
                    Some(shared) => shared.clone(),
                    None => {
                        let startup = Arc::new(startup);
                        startups.insert(startup.clone());
                        startup
                    }
                }
            };
            let fail = |source| HostError::Controller { name: name.clone(), source };
            let store = state.controller(&name).map_err(fail)?.with_quota(package.limits().disk_bytes);
            // With other hosts what is on disk may be out of date, which shows when its Lease is acquired.
            let (lead, recovered) = match &self.others {
                None => (Lead::Alone, self.recover(&name, &package, &store, &startup)?),
                Some(_) => (Lead::Standby, self.anew(&package)),
            };
            let (controller, predictor, phase, places) = recovered;
            if !places.is_empty() {
                self.returning.insert(self.slots.len() as u32, places);
            }
            let mut counters = Counters::default();
            if let Phase::Suspended(Origin::Snapshot(snapshot)) = &phase {
                counters.on_disk(snapshot.disk_bytes);
            }
            let policy = policy.or(package.manifest.suspend_policy).unwrap_or(self.policy);
            let permissions = match grant {
                Grant { rules: None, ref external, .. } if *external == ExternalGrant::default() => permissions,
                Grant { rules, external, .. } => permissions.granting(rules).granting_external(external).into(),
            };
            if wasi.is_some() && package.tier() == Tier::Full {
                tracing::warn!(
                    controller = name,
                    "its package imports nothing of WASI: what it is granted of the machine has no effect"
                );
            }
            let name: Arc<str> = name.into();
            if let hosts @ [_, ..] = permissions.external_asked() {
                let list =
                    |hosts: &[HostPattern]| hosts.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(", ");
                let granted = permissions.external_granted().hosts.as_deref().map_or_else(|| "all".into(), list);
                tracing::info!(controller = &*name, asks = list(hosts), granted, "external hosts");
            }
            if let Some(learning) = &self.learning {
                learning.add(&name, &permissions);
            }
            let writes = Writes::of(&cached).map(Box::new);
            let own_writes = OwnWrites::of(&ignored).map(Box::new);
            self.slots.push(Slot {
                name,
                package,
                lead,
                store: Arc::new(store),
                permissions,
                service_account: grant.service_account,
                wasi,
                startup,
                namespaces,
                controller,
                phase,
                primaries: Vec::new(),
                watches: Vec::new(),
                requests: BTreeMap::new(),
                waiting: Requests::default(),
                writes,
                own_writes,
                self_triggers: None,
                pace: Pace::default(),
                liveness: None,
                lines: Lines::default(),
                credit: None,
                share: None,
                wake: None,
                deciding: Deciding::new(policy, predictor),
                save_after: Duration::ZERO,
                counters,
            });
        }
        match first_error {
            Some(error) if self.slots.is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Tells of a package that can't be run, and goes on without it.
    pub(super) fn leave_out(&mut self, name: &str, tier: Tier, error: &str) {
        tracing::error!(controller = name, error, "left out: its package cannot be run");
        let mut counters = Counters::default();
        counters.problem(self.now(), "", Problem::Install, error);
        self.failed.push(observed::Controller {
            name: name.into(),
            tier,
            state: State::Failed,
            resident_bytes: 0,
            queue: observed::Queue::default(),
            active: 0,
            requests: 0,
            registered: false,
            unwatched: None,
            counters,
        });
        self.publish(name.into(), Problem::Install, Regarding::Host, error);
    }

    /// Refuses a budget that not even one instance fits into.
    pub(super) fn check_budget(&self, budget: Option<u64>) -> Result<(), HostError> {
        let Some(budget) = budget else { return Ok(()) };
        for slot in &self.slots {
            let Some(image) = slot.package.image() else { continue };
            let needed = image.header.data_pages() * PAGE as u64;
            if needed > budget {
                return Err(HostError::Budget { budget, name: slot.name.to_string(), needed });
            }
        }
        Ok(())
    }

    /// What a controller begins with that has no snapshot.
    pub(super) fn anew(&self, package: &InstalledPackage) -> Recovered {
        let controller = Controller::new(self.now(), package.first_monotonic_ns());
        (controller, Predictor::default(), Phase::Suspended(Origin::Fresh), Vec::new())
    }

    /// Continues from the snapshot of an earlier host, or starts anew.
    pub(super) fn recover(
        &self,
        name: &str,
        package: &InstalledPackage,
        store: &ControllerStore,
        startup: &Startup,
    ) -> Result<Recovered, HostError> {
        let now = self.now();
        let fresh = || self.anew(package);
        let Some(image) = package.image() else {
            tracing::info!(
                controller = name,
                "runs in the soft tier: suspended in this process only, and started anew after a restart of the host"
            );
            store.discard().map_err(|source| HostError::Controller { name: name.into(), source })?;
            return Ok(fresh());
        };
        let rejected = match store.recover(&package.digest, image) {
            Ok(None) => return Ok(fresh()),
            Ok(Some((snapshot, header))) => {
                let elapsed = Duration::from_nanos(wall_clock_ns().saturating_sub(header.wall_ns));
                let clock = header.monotonic_ns.wrapping_add(elapsed.as_nanos() as u64);
                let restored = postcard::from_bytes::<HostState>(&header.host_state)
                    .map_err(|e| e.to_string())
                    .and_then(|saved| {
                        // A program reads these once, and what it has made of them is in its memory.
                        if saved.startup != startup.fingerprint() {
                            return Err("environment, arguments or log level have changed".into());
                        }
                        let controller = Controller::restore(saved.controller, now, clock, elapsed)?;
                        Ok((controller, saved.predictor, saved.places))
                    });
                match restored {
                    Ok((controller, predictor, places)) => {
                        tracing::info!(
                            controller = name,
                            registrations = controller.registered(),
                            from = "snapshot",
                            disk_bytes = snapshot.disk_bytes,
                            "controller ready"
                        );
                        let phase = Phase::Suspended(Origin::Snapshot(snapshot));
                        return Ok((controller, predictor, phase, places));
                    }
                    Err(reason) => reason,
                }
            }
            Err(ImageError::Format(error @ (FormatError::NoKey | FormatError::OtherKey))) => {
                let with = if error == FormatError::NoKey { "" } else { " with another key" };
                return Err(HostError::Sealed { name: name.into(), with });
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            controller = name,
            reason = %rejected,
            "snapshot rejected: starting from the base image, all objects will be reconciled"
        );
        store.discard().map_err(|source| HostError::Controller { name: name.into(), source })?;
        Ok(fresh())
    }
}
