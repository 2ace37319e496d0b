//! How far an instance of a package can be suspended, and why no further.

use serde::{Deserialize, Serialize};

use crate::world;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Memory and globals are its whole state, and the host can read both: it is suspended to disk
    /// and continues in any process. Everything made from a core module.
    Full,
    /// Part of its state is out of reach: its memory goes to disk, the rest stays in the host, and
    /// after a restart of the host it starts anew. Components made by other tools.
    Soft,
}

/// Why an instance with these imports is of its tier.
pub(crate) fn reason(tier: Tier, imports: &[String]) -> String {
    if tier == Tier::Full {
        return "memory and globals are its whole state".to_string();
    }
    match WITH_HANDLES.iter().find_map(|prefix| imports.iter().find(|name| name.starts_with(prefix))) {
        Some(name) => format!("imports {name}, whose handles can't be restored in another process"),
        None => {
            format!("exports no {}: it is not made from a core module, so its globals can't be read", world::STATE)
        }
    }
}

/// Interfaces of WASI with resources, those first that say most about a component.
const WITH_HANDLES: [&str; 7] = [
    "wasi:filesystem/types@",
    "wasi:sockets/",
    "wasi:filesystem/",
    "wasi:io/streams@",
    "wasi:io/",
    "wasi:cli/std",
    "wasi:cli/terminal-",
];

/// Whether the host of soft packages has this interface: WASI 0.2 without HTTP.
pub(crate) fn is_provided_wasi(name: &str) -> bool {
    let Some((package, version)) =
        name.split_once('/').and_then(|(package, rest)| Some((package, rest.split_once('@')?.1)))
    else {
        return false;
    };
    matches!(package, "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:io" | "wasi:random" | "wasi:sockets")
        && version.starts_with("0.2.")
}
