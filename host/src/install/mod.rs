//! Turns packages into controllers: compiles each package once, and continues from snapshots of an earlier host.

mod preparation;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use wasmop_core::cached_reads::Resource;
use wasmop_core::control_loop::{HostState, Leadership, NewController, Notice, PackageFacts, Recovered};
use wasmop_core::limits::problem::Problem;
use wasmop_core::permissions::external::ExternalGrant;
use wasmop_core::permissions::{Grant, Permissions};
use wasmop_core::startup::{NAMESPACE_VARIABLE, Startup};
use wasmop_core::status::counters::Counters;
use wasmop_core::status::observed;
use wasmop_core::status::state::State;
use wasmop_core::variable_references;
use wasmop_package::Tier;
use wasmop_package::external::HostPattern;
use wasmop_package::manifest::Limits;
use wasmop_snapshot::format::FormatError;
use wasmop_snapshot::image::ImageError;
use wasmop_snapshot::{ControllerStore, PAGE, StateDir};
use wasmop_vm::address_space::{AddressSpace, AddressSpaceError};
use wasmop_vm::compiled_package::{InstallError, InstalledPackage};
use wasmop_vm::instance::Origin;
use wasmop_vm::step_input::wall_clock_ns;
use wasmop_vm::wasi::WasiGrant;

use self::preparation::prepare;
use crate::error::HostError;
use crate::options::Deployment;
use crate::settings::ControllerSettings;
use crate::shell::{Home, Shell, Tenant};

/// A package with the data that its controllers share.
#[derive(Clone)]
struct Installed {
    package: Arc<InstalledPackage>,
    facts: Arc<PackageFacts>,
    /// All permissions that it asks for.
    permissions: Arc<Permissions>,
    /// Resources that it reads from the cache.
    cached: Arc<[Resource]>,
    /// Resources that it watches except for its own writes.
    ignored: Arc<[Resource]>,
}

impl Installed {
    fn new(package: InstalledPackage) -> Installed {
        let manifest = &package.manifest;
        let watches = || manifest.registrations.iter().flat_map(|r| std::iter::once(&r.primary).chain(&r.watches));
        Installed {
            facts: Arc::new(facts(&package)),
            permissions: Arc::new(
                Permissions::new(manifest.permissions.clone()).with_external(manifest.external_hosts.clone()),
            ),
            cached: watches().filter(|watch| watch.keeps_objects()).map(Resource::of).collect(),
            ignored: watches().filter(|watch| watch.ignore_own_writes).map(Resource::of).collect(),
            package: Arc::new(package),
        }
    }
}

fn facts(package: &InstalledPackage) -> PackageFacts {
    let manifest = &package.manifest;
    PackageFacts {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        tier: package.tier(),
        mode: manifest.mode,
        has_kept_up_watches: manifest.has_kept_up_watches(),
        limits: *package.limits(),
        suspend_policy: manifest.suspend_policy,
        base_memory_bytes: package.image().map(|image| image.size()),
        base_data_bytes: package.image().map(|image| image.header.data_pages() * PAGE as u64),
        first_monotonic_ns: package.first_monotonic_ns(),
    }
}

impl Shell {
    pub(crate) async fn install(
        &mut self,
        deployments: Vec<Deployment>,
        state: &Arc<StateDir>,
        limit_caps: &Limits,
    ) -> Result<(), HostError> {
        // Instances that can be in memory at once: all may have something to do at the same time.
        let address_space = AddressSpace::limited();
        let room = address_space.map_or(usize::MAX, |limited| limited.instances() as usize);
        let packages = deployments.iter().map(|deployment| deployment.package.clone());
        let prepared = prepare(&self.engine, state, packages, limit_caps, room).await?;
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
        self.tenants.reserve_exact(deployments.len());
        let mut first_error = None;
        let mut startups = HashSet::new();
        for deployment in deployments {
            let wasi = deployment.settings.wasi.as_deref();
            if let Some(Err(source)) = wasi.map(WasiGrant::check) {
                return Err(HostError::Wasi { name: deployment.name, source });
            }
            let found = match (installed.get(&deployment.package.digest), address_space) {
                (Some(Ok(_)), Some(limited)) if self.tenants.len() >= room => {
                    let name = deployment.name.clone();
                    Err(InstallError::AddressSpace { name, source: AddressSpaceError(limited) }.into())
                }
                (Some(found), _) => found.clone(),
                // Every package was prepared.
                (None, _) => continue,
            };
            match found {
                Ok(installed) => self.add(deployment, installed, state, &mut startups)?,
                // A package that cannot run does not affect the others.
                Err(error) => {
                    self.leave_out(&deployment.name, deployment.package.tier(), &error.to_string());
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if self.tenants.is_empty() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Adds a controller of an installed package.
    fn add(
        &mut self,
        deployment: Deployment,
        installed: Installed,
        state: &StateDir,
        startups: &mut HashSet<Arc<Startup>>,
    ) -> Result<(), HostError> {
        let Deployment { name, settings, .. } = deployment;
        let Installed { package, facts, permissions, cached, ignored } = installed;
        let ControllerSettings { policy, grant, wasi, env, args, log_level, namespaces } = settings;
        let now = self.now().host;
        let startup = {
            let namespace = grant.service_account.as_ref().map(|account| account.namespace());
            let namespace = namespace.unwrap_or_else(|| self.client.default_namespace());
            let manifest = &package.manifest;
            let mut all = BTreeMap::from([(NAMESPACE_VARIABLE.to_owned(), namespace.to_owned())]);
            all.extend(manifest.env.clone());
            all.extend(env);
            let mut args = args.unwrap_or_else(|| manifest.args.clone());
            variable_references::expand(&mut all, &mut args);
            let startup = Startup { env: all, args, log_level };
            // Controllers with equal values share one copy.
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
        // Among several hosts, a snapshot may be out of date; the host checks it when it acquires the Lease.
        let (leadership, (recovered, origin)) = match &self.peers {
            None => (Leadership::Alone, recover(&name, &package, &store, &startup, now)?),
            Some(_) => (Leadership::Standby, fresh(&package, now)),
        };
        let permissions = match grant {
            Grant { rules: None, ref external, .. } if *external == ExternalGrant::default() => permissions,
            Grant { rules, external, .. } => permissions.granting(rules).granting_external(external).into(),
        };
        if wasi.is_some() && package.tier() == Tier::Full {
            tracing::warn!(controller = name, "its package imports nothing of WASI: its [wasi] grant has no effect");
        }
        let name: Arc<str> = name.into();
        if let hosts @ [_, ..] = permissions.external_asked() {
            let list = |hosts: &[HostPattern]| hosts.iter().map(HostPattern::to_string).collect::<Vec<_>>().join(", ");
            let granted = permissions.external_granted().hosts.as_deref().map_or_else(|| "all".into(), list);
            tracing::info!(controller = &*name, asks = list(hosts), granted, "external hosts");
        }
        self.tenants.push(Tenant {
            package,
            store: Arc::new(store),
            wasi,
            startup: startup.clone(),
            home: Home::Suspended(origin),
        });
        self.control.add(NewController {
            name,
            package: facts,
            startup,
            permissions,
            service_account: grant.service_account,
            namespaces,
            policy,
            leadership,
            cached,
            ignored,
            recovered,
        });
        Ok(())
    }

    /// Reports a package that cannot run; the host continues without it.
    pub(crate) fn leave_out(&mut self, name: &str, tier: Tier, error: &str) {
        tracing::error!(controller = name, error, "left out: its package cannot be run");
        let mut counters = Counters::default();
        counters.problem(self.now().host, "", Problem::Install, error);
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
        let notice =
            Notice { controller: name.into(), problem: Problem::Install, object: None, message: error.to_owned() };
        self.telemetry.publish(&self.client, notice);
    }
}

/// The state of a controller without a snapshot.
fn fresh(package: &InstalledPackage, now: Duration) -> (Recovered, Origin) {
    (Recovered::fresh(now, package.first_monotonic_ns()), Origin::Fresh)
}

/// Continues from the snapshot of an earlier host, or starts from the base image.
pub(crate) fn recover(
    name: &str,
    package: &InstalledPackage,
    store: &ControllerStore,
    startup: &Startup,
    now: Duration,
) -> Result<(Recovered, Origin), HostError> {
    let fail = |source| HostError::Controller { name: name.into(), source };
    let Some(image) = package.image() else {
        tracing::info!(
            controller = name,
            "runs in the soft tier: suspended in this process only, and restarted with the host"
        );
        store.discard().map_err(fail)?;
        return Ok(fresh(package, now));
    };
    let rejected = match store.recover(&package.digest, image) {
        Ok(None) => return Ok(fresh(package, now)),
        Ok(Some((snapshot, header))) => {
            let elapsed = Duration::from_nanos(wall_clock_ns().saturating_sub(header.wall_ns));
            let clocks = (header.monotonic_ns, elapsed);
            let recovered = HostState::decode(&header.host_state).and_then(|state| {
                Recovered::from_snapshot(state, snapshot.disk_bytes, clocks, startup.fingerprint(), now)
            });
            match recovered {
                Ok(recovered) => {
                    tracing::info!(
                        controller = name,
                        registrations = recovered.controller.registered(),
                        from = "snapshot",
                        disk_bytes = snapshot.disk_bytes,
                        "controller ready"
                    );
                    return Ok((recovered, Origin::Snapshot(snapshot)));
                }
                Err(reason) => reason,
            }
        }
        Err(ImageError::Format(error @ (FormatError::NoKey | FormatError::OtherKey))) => {
            let with = if error == FormatError::NoKey { "" } else { " with another key" };
            return Err(HostError::Encrypted { name: name.into(), with });
        }
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        controller = name,
        reason = %rejected,
        "snapshot rejected: starting from the base image, all objects will be reconciled"
    );
    store.discard().map_err(fail)?;
    Ok(fresh(package, now))
}
