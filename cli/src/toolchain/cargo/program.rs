//! What a program is written for: the crate `wasmop`, or kube-rs alone.

use cargo_metadata::Package;
use wasmop_package::manifest::Sdk;

use crate::error::{Failure, failure};

/// The crate of programs that are written for wasmop.
const WASMOP: &str = "wasmop";

/// The crates of other controllers.
const KUBE: [&str; 2] = ["kube", "kube-client"];

/// The SDK of a program, and whether the program is unmodified: it does not use the crate `wasmop`.
pub fn sdk(program: &str, dependencies: &[&Package]) -> Result<(Sdk, bool), Failure> {
    let found = |name: &str| dependencies.iter().find(|package| package.name.as_str() == name);
    let sdk = |package: &Package| Sdk::new(&package.name, &package.version.to_string());
    if let Some(package) = found(WASMOP) {
        return Ok((sdk(package), false));
    }
    if let Some(package) = KUBE.iter().find_map(|name| found(name)) {
        return Ok((sdk(package), true));
    }
    Err(failure(
        format!("{program} depends neither on `kube` nor on `{WASMOP}`, so it cannot be a controller"),
        format!(
            "put wasmop.toml beside the Cargo.toml of a kube-rs program (`cargo add kube`), or begin with `wasmop new NAME --lang rust`, which uses the crate `{WASMOP}`"
        ),
    ))
}
