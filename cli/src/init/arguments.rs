//! Arguments of an operator's container, sorted into those for the controller and those for what the host does.

/// An argument that is not taken, and what the host does instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// As it was written, with its value.
    pub argument: String,
    pub why: &'static str,
}

const ELECTS: &str = "the host elects its leader (`wasmop run --leader-elect`)";
const SERVES: &str = "the host serves metrics and probes (`wasmop run --metrics-address`)";
const NO_WEBHOOKS: &str = "a controller has no sockets, so it serves no webhooks";
const NO_SOCKETS: &str = "a controller has no sockets to listen on";
const CONNECTS: &str = "the host connects to the API server";
pub const OF_CHART: &str = "their values are the chart's. Write out those that the controller needs";
pub const FILLED_IN: &str = "Kubernetes fills in a part. Write out those that the controller needs";

/// Words in the names of flags, without dashes and underscores, and why such a flag is left out.
const BY_THE_HOST: [(&[&str], &str); 6] = [
    (&["leaderelect", "enablelease"], ELECTS),
    (
        &[
            "metricsbind",
            "metricsaddr",
            "metricssecure",
            "metricscert",
            "metricsport",
            "securemetrics",
            "listenmetrics",
        ],
        SERVES,
    ),
    (&["healthprobe", "healthaddr", "healthport", "probeaddr", "probebind", "readinessaddr", "livenessaddr"], SERVES),
    (&["webhookcert", "webhookport", "webhookhost", "webhookbind", "enablewebhook"], NO_WEBHOOKS),
    (&["pprofaddr", "pprofbind", "enablepprof", "enablehttp2", "listenaddr", "profilingaddr"], NO_SOCKETS),
    (&["kubeconfig", "masterurl"], CONNECTS),
];

/// Flags without a value of their own, so that the next argument is another one.
const SWITCHES: [&str; 7] = [
    "leaderelect",
    "enableleaderelection",
    "leaderelection",
    "metricssecure",
    "enablepprof",
    "enablehttp2",
    "enablewebhooks",
];

/// Sorts arguments.
pub fn sort(arguments: &[String]) -> (Vec<String>, Vec<LeftOut>) {
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let Some(why) = why_left_out(argument) else {
            kept.push(argument.clone());
            continue;
        };
        let mut argument = argument.clone();
        let has_value = argument.contains('=') || SWITCHES.contains(&bare_name(&argument).as_str());
        if !has_value && let Some(value) = rest.next_if(|next| !next.starts_with('-')) {
            argument = format!("{argument} {value}");
        }
        left_out.push(LeftOut { argument, why });
    }
    (kept, left_out)
}

/// Why a flag is left out. Arguments that are no flags are kept.
pub fn why_left_out(argument: &str) -> Option<&'static str> {
    if !argument.starts_with('-') {
        return None;
    }
    by_name(&bare_name(argument))
}

/// Why an environment variable is left out that names such a flag, like `ENABLE_LEADER_ELECTION`.
pub fn why_variable_left_out(name: &str) -> Option<&'static str> {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
    by_name(&name).filter(|why| [ELECTS, SERVES].contains(why))
}

fn by_name(name: &str) -> Option<&'static str> {
    let found = BY_THE_HOST.iter().find(|(words, _)| words.iter().any(|word| name.contains(word)));
    found.map(|(_, why)| *why)
}

/// A flag's name in lower case without dashes, underscores and value.
fn bare_name(argument: &str) -> String {
    let name = argument.split('=').next().unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_for_what_the_host_does_are_left_out_with_their_values() {
        for (arguments, kept, left_out) in [
            ("--leader-elect --zap-devel", "--zap-devel", vec!["--leader-elect"]),
            ("--leader-elect run", "run", vec!["--leader-elect"]),
            ("--metrics-bind-address :8080 --v=2", "--v=2", vec!["--metrics-bind-address :8080"]),
            ("--metrics-bind-address=:8080", "", vec!["--metrics-bind-address=:8080"]),
            ("--leader-election-id x --namespace a", "--namespace a", vec!["--leader-election-id x"]),
            ("-enable-leader-election=true -x", "-x", vec!["-enable-leader-election=true"]),
            ("--webhook-cert-path=/tmp/certs", "", vec!["--webhook-cert-path=/tmp/certs"]),
            ("--listen-addr :80 --key-prefix p", "--key-prefix p", vec!["--listen-addr :80"]),
            ("--image=a --leader-elect", "--image=a", vec!["--leader-elect"]),
            ("leader-elect", "leader-elect", vec![]),
        ] {
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            let (found, found_left_out) = sort(&arguments);
            assert_eq!(found.join(" "), kept, "{arguments:?}");
            let found_left_out: Vec<_> = found_left_out.iter().map(|it| it.argument.as_str()).collect();
            assert_eq!(found_left_out, left_out, "{arguments:?}");
        }
    }

    #[test]
    fn variables_for_leader_election_are_left_out() {
        for (name, left_out) in [
            ("SYSTEM_UPGRADE_CONTROLLER_LEADER_ELECT", true),
            ("ENABLE_LEADER_ELECTION", true),
            ("METRICS_BIND_ADDRESS", true),
            ("RUST_LOG", false),
            ("ENABLE_WEBHOOKS", false),
        ] {
            assert_eq!(why_variable_left_out(name).is_some(), left_out, "{name}");
        }
    }
}
