//! What a controller continues with when its host starts: its snapshot, or nothing.

use std::sync::Arc;
use std::time::Duration;

use wasmop_api::connections::Share;
use wasmop_core::control_loop::{HostState, Leadership, NewController, PackageFacts, Recovered};
use wasmop_core::permissions::Permissions;
use wasmop_core::startup::Startup;
use wasmop_core::watch::NamespaceLimit;
use wasmop_package::Tier;
use wasmop_package::manifest::Mode;

use super::{Home, Host};
use crate::guest::BASE_MEMORY;
use crate::guest::program::Program;
use crate::observer::Invariant;
use crate::plant::Plant;
use crate::world::lock;

/// What the monotonic clock of a fresh instance shows.
const FIRST_MONOTONIC: u64 = 1_000_000;

impl Host {
    /// Adds the controllers with what is on the disk of them.
    pub(super) fn install(&mut self) {
        for program in self.world.programs.clone() {
            let startup = Arc::new(Startup::default());
            let (recovered, has_snapshot) = match self.world.has_peers {
                true => (Recovered::fresh(Duration::ZERO, FIRST_MONOTONIC), false),
                false => self.recover(&program, &startup),
            };
            if !self.world.has_peers {
                let now = self.world.server.now();
                self.world.ledger().up(&program.name, now);
            }
            self.homes.push(Home::Suspended(has_snapshot));
            self.shares.push(Share::default());
            self.control.add(NewController {
                name: program.name.clone(),
                package: Arc::new(facts(&program)),
                startup,
                permissions: Arc::new(Permissions::new(program.rules())),
                service_account: None,
                namespaces: NamespaceLimit::default(),
                policy: None,
                leadership: if self.world.has_peers { Leadership::Standby } else { Leadership::Alone },
                cached: Arc::default(),
                ignored: Arc::default(),
                recovered,
            });
        }
    }

    /// What a controller continues with, and whether that is its snapshot.
    pub(super) fn recover(&mut self, program: &Program, startup: &Startup) -> (Recovered, bool) {
        let now = self.started.elapsed();
        let snapshot = lock(&self.disk).snapshot(&program.name).cloned();
        let Some(snapshot) = snapshot else {
            self.world.ledger().forget(&program.name);
            self.world.ledger().set_timer(&program.name, None);
            return (Recovered::fresh(now, FIRST_MONOTONIC), false);
        };
        let elapsed = self.world.wall().saturating_sub(snapshot.wall);
        let lost_time = self.world.server.now().saturating_sub(snapshot.world).saturating_sub(elapsed);
        let elapsed = if self.world.plant == Some(Plant::ForgetElapsed) { Duration::ZERO } else { elapsed };
        let clock = (snapshot.monotonic_ns, elapsed);
        let recovered = HostState::decode(&snapshot.host_state).and_then(|state| {
            Recovered::from_snapshot(state, snapshot.host_state.len() as u64, clock, startup.fingerprint(), now)
        });
        let timer = snapshot.guest.parked.map(|(_, at)| {
            let left = Duration::from_nanos(at.saturating_sub(snapshot.monotonic_ns));
            snapshot.world + left + lost_time
        });
        match recovered {
            Ok(recovered) => {
                let mut ledger = self.world.ledger();
                ledger.set_timer(&program.name, timer);
                ledger.delay(&program.name, lost_time);
                drop(ledger);
                (recovered, true)
            }
            Err(why) => {
                self.violate(Invariant::Protocol, format_args!("{}: snapshot refused: {why}", program.name));
                (Recovered::fresh(now, FIRST_MONOTONIC), false)
            }
        }
    }
}

fn facts(program: &Program) -> PackageFacts {
    let is_soft = program.tier == Tier::Soft;
    PackageFacts {
        name: program.name.to_string(),
        version: "1.0.0".into(),
        tier: program.tier,
        mode: Mode::HostDriven,
        has_kept_up_watches: false,
        limits: program.limits,
        suspend_policy: None,
        base_memory_bytes: (!is_soft).then_some(BASE_MEMORY),
        base_data_bytes: (!is_soft).then_some(BASE_MEMORY / 8),
        first_monotonic_ns: FIRST_MONOTONIC,
    }
}
