//! Two plans, before and after a change of the configuration file, into the keys that a running host cannot
//! follow.

use super::Plan;

impl Plan {
    /// Keys of the file that say something else than in `running`, and that only a restart can bring about.
    pub fn needs_restart(&self, running: &Plan) -> Vec<String> {
        // Whole, so that a new field has to be thought of here.
        let Plan {
            kubeconfig,
            context,
            namespace,
            state_dir,
            record_trace,
            durability,
            encryption_key_file,
            metrics_address,
            log_format,
            verbose: _,
            limits,
            packages,
            settings: _,
        } = self;
        let mut keys: Vec<String> = [
            ("kubeconfig", *kubeconfig != running.kubeconfig),
            ("context", *context != running.context),
            ("namespace", *namespace != running.namespace),
            ("state-dir", *state_dir != running.state_dir),
            ("record-trace", *record_trace != running.record_trace),
            ("durability", *durability != running.durability),
            ("encryption-key-file", *encryption_key_file != running.encryption_key_file),
            ("metrics-address", *metrics_address != running.metrics_address),
            ("log-format", *log_format != running.log_format),
            ("limits", *limits != running.limits),
        ]
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key.to_owned())
        .collect();
        let names: std::collections::BTreeSet<_> = packages.keys().chain(running.packages.keys()).collect();
        for name in names {
            match (packages.get(name), running.packages.get(name)) {
                (Some(now), Some(before)) if now == before => {}
                (Some(_), Some(_)) => keys.push(format!("controllers.{name}.package")),
                // It is new, or gone.
                _ => keys.push(format!("controllers.{name}")),
            }
        }
        keys
    }
}
