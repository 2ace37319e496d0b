//! Answers questions of the status server.

use std::collections::HashSet;
use std::sync::Arc;

use wasmop_core::status::observed::{Election, Observed};

use super::Shell;
use crate::status::Question;

impl Shell {
    /// Answers a question, if the status server still waits.
    pub(super) fn answer(&self, question: Question) {
        match question {
            Question::Alive(tx) => {
                let _ = tx.send(());
            }
            Question::All(tx) => {
                let _ = tx.send(self.observe());
            }
        }
    }

    fn observe(&self) -> Observed {
        let mut seen = HashSet::new();
        let packages = self.tenants.iter().map(|tenant| &tenant.package);
        let code_bytes = packages.filter(|package| seen.insert(Arc::as_ptr(package))).map(|p| p.code_bytes()).sum();
        let hub = &self.control.environment().hub;
        let mut controllers = self.control.observe();
        controllers.extend(self.failed.iter().cloned());
        Observed {
            now: self.now().host,
            controllers,
            watches: hub.status(),
            guest_watches: self.requests.guest_watches(),
            totals: self.control.totals().clone(),
            code_bytes,
            spare_bytes: self.engine.memory_pool().bytes(),
            memory_budget: self.control.memory_budget(),
            cached: hub.objects_usage(),
            cache_memory: self.control.cache_memory(),
            election: self
                .peers
                .as_ref()
                .map(|peers| Election { identity: peers.identity().clone(), trouble: peers.trouble().map(Into::into) }),
        }
    }
}
