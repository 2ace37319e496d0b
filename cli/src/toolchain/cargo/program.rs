//! How a program runs in a host: by the crate `wasmop`, or by its own loop on kube-rs.

use cargo_metadata::Package;
use wasmop_package::manifest::{Mode, Sdk};

use crate::error::{Failure, failure};

/// The crate of programs whose reconciles the host runs.
const WASMOP: &str = "wasmop";

/// The crates of programs that run their own loop.
const KUBE: [&str; 2] = ["kube", "kube-client"];

/// The SDK of a program, and whose loop runs its reconciles.
pub fn sdk_and_mode(program: &str, dependencies: &[&Package]) -> Result<(Sdk, Mode), Failure> {
    let found = |name: &str| dependencies.iter().find(|package| package.name.as_str() == name);
    let sdk = |package: &Package| Sdk::new(&package.name, &package.version.to_string());
    if let Some(package) = found(WASMOP) {
        return Ok((sdk(package), Mode::HostDriven));
    }
    if let Some(package) = KUBE.iter().find_map(|name| found(name)) {
        return Ok((sdk(package), Mode::GuestDriven));
    }
    Err(failure(
        format!("{program} depends neither on `kube` nor on `{WASMOP}`, so it cannot be a controller"),
        format!(
            "put wasmop.toml beside the Cargo.toml of a kube-rs program (`cargo add kube`), or begin with `wasmop new NAME --lang rust`, which uses the crate `{WASMOP}`"
        ),
    ))
}
