//! Two plans, before and after a change of the configuration file, into the keys that a running host cannot
//! follow.

use wasmop_host::{ControllerSettings, SHUTDOWN_TIMEOUT};

use super::{HostKeys, Plan};

impl Plan {
    /// Keys of the file that say something else than in `running`, and that only a restart can bring about.
    pub fn needs_restart(&self, running: &Plan) -> Vec<String> {
        // Whole, so that a new field has to be thought of here.
        let Plan { host, verbose: _, limits, packages, election: _, settings } = self;
        let HostKeys {
            kubeconfig,
            context,
            namespace,
            state_dir,
            memory_budget: _,
            cache_memory: _,
            record_trace,
            durability,
            encryption_key_file,
            external_ca_file,
            metrics_address,
            otlp_endpoint,
            shutdown_timeout,
            log_format,
            election,
        } = host;
        let before = &running.host;
        let mut keys: Vec<String> = [
            ("kubeconfig", *kubeconfig != before.kubeconfig),
            ("context", *context != before.context),
            ("namespace", *namespace != before.namespace),
            ("state-dir", *state_dir != before.state_dir),
            ("record-trace", *record_trace != before.record_trace),
            ("durability", durability.unwrap_or_default() != before.durability.unwrap_or_default()),
            ("encryption-key-file", *encryption_key_file != before.encryption_key_file),
            ("external-ca-file", *external_ca_file != before.external_ca_file),
            ("metrics-address", *metrics_address != before.metrics_address),
            ("otlp-endpoint", *otlp_endpoint != before.otlp_endpoint),
            (
                "shutdown-timeout",
                shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT) != before.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT),
            ),
            ("log-format", log_format.unwrap_or_default() != before.log_format.unwrap_or_default()),
            ("limits", *limits != running.limits),
        ]
        .into_iter()
        .chain(election.differences(&before.election))
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
        for (name, controller) in &settings.controllers {
            // Whole, too.
            let ControllerSettings { policy: _, grant: _, wasi, env, args, log_level, namespaces } = controller;
            let Some(before) = running.settings.controllers.get(name) else { continue };
            for (key, differs) in [
                ("wasi", before.wasi != *wasi),
                ("env", before.env != *env),
                ("args", before.args != *args),
                ("log-level", before.log_level != *log_level),
                ("namespace", before.namespaces != *namespaces && self.host.namespace == running.host.namespace),
            ] {
                if differs {
                    keys.push(format!("controllers.{name}.{key}"));
                }
            }
        }
        keys
    }
}
