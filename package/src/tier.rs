//! The tiers of packages: how completely an instance can be suspended.

use serde::{Deserialize, Serialize};

use crate::world;

/// How completely an instance of a package can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Memory and globals are the instance's whole state, and the host can read both. The host suspends the instance to
    /// disk and can resume it in any process. Packages built from core modules have this tier.
    Full,
    /// The host cannot read a part of the state. It writes the memory to disk and keeps the rest. After a restart of
    /// the host, the instance starts from scratch. Components from other tools have this tier.
    Soft,
}

/// Explains the tier of a package with these imports.
pub(crate) fn reason(tier: Tier, imports: &[String]) -> String {
    if tier == Tier::Full {
        return "memory and globals are its whole state".to_string();
    }
    match WITH_HANDLES.iter().find_map(|prefix| imports.iter().find(|name| name.starts_with(prefix))) {
        Some(name) => format!("imports {name}, whose handles can't be restored in another process"),
        None => {
            format!("exports no {}: it is not built from a core module, so its globals can't be read", world::STATE)
        }
    }
}

/// Prefixes of WASI interfaces with resources, the most informative ones first.
const WITH_HANDLES: [&str; 7] = [
    "wasi:filesystem/types@",
    "wasi:sockets/",
    "wasi:filesystem/",
    "wasi:io/streams@",
    "wasi:io/",
    "wasi:cli/std",
    "wasi:cli/terminal-",
];

/// Returns whether the host provides a WASI interface to packages of the soft tier: WASI 0.2 without HTTP.
pub(crate) fn is_provided_wasi(name: &str) -> bool {
    let Some((package, version)) =
        name.split_once('/').and_then(|(package, rest)| Some((package, rest.split_once('@')?.1)))
    else {
        return false;
    };
    matches!(package, "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random" | "wasi:sockets")
        && version.starts_with("0.2.")
}
