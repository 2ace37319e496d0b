//! Assembles a package from a manifest and the core module or component that a toolchain produced.
//!
//! This is everything that `wasmop build` does after compilation. It is deterministic: the same input gives the same
//! bytes.

use thiserror::Error;
use wit_component::ComponentEncoder;

use crate::adapter::{self, RT_ADAPTER, WASI_ADAPTER};
use crate::instrument::instrument;
use crate::manifest::{Manifest, ManifestError};
use crate::package::{IMAGE_SECTION, MANIFEST_SECTION};
use crate::refusal::Refusal;
use crate::validate::validate;
use crate::{component, section};

/// Why a package could not be assembled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The module or component is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The initial memory and tables exceed the memory limit.
    #[error(
        "the module begins with {needs} bytes of memory and tables, more than the package's limit of {limit}\n\
         help: raise `memory` under [limits] in wasmop.toml"
    )]
    MemoryLimit {
        /// Initial bytes of memory and tables.
        needs: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Encoding the component failed. The validator should have refused the module with a better message.
    #[error(
        "cannot encode the module as a component: {detail}\n\
         help: please report this bug in wasmop with the output of `wasmop build --debug`"
    )]
    Encode {
        /// The error of the encoder.
        detail: String,
    },
}

/// Assembles a package.
///
/// A core module is validated, instrumented and linked with the adapters. The package is of the full tier. A component
/// is validated and left unchanged. The package is of the soft tier.
///
/// # Errors
///
/// Fails if the code or the manifest is refused, or if the initial memory exceeds the manifest's memory limit.
pub fn assemble(code: &[u8], manifest: &Manifest) -> Result<Vec<u8>, AssembleError> {
    let section = manifest.to_section()?;
    if code.starts_with(&section::COMPONENT_HEADER) {
        check_limit(component::validate(code)?.bytes(), manifest)?;
        let mut package = code.to_vec();
        section::push_custom(&mut package, MANIFEST_SECTION, &section);
        return Ok(package);
    }
    let core = code;
    let facts = validate(core)?;
    check_limit(facts.memory.saturating_add(facts.overhead.bytes()), manifest)?;
    let instrumented = instrument(core, &facts)?;

    let encode = |error: Box<dyn std::error::Error + Send + Sync>| AssembleError::Encode { detail: chain(&*error) };
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(&instrumented.module)
        .map_err(|error| encode(error.into()))?;
    if facts.imports_wasi {
        encoder = encoder.adapter(adapter::WASI, &WASI_ADAPTER.wasm).map_err(|error| encode(error.into()))?;
    }
    if facts.imports_rt {
        encoder = encoder.adapter(adapter::RT, &RT_ADAPTER.wasm).map_err(|error| encode(error.into()))?;
    }
    let mut package = encoder.encode().map_err(|error| encode(error.into()))?;

    // Wasmop's sections come last, so the component is a prefix and the manifest can be replaced alone.
    section::push_custom(&mut package, IMAGE_SECTION, &instrumented.image);
    section::push_custom(&mut package, MANIFEST_SECTION, &section);
    Ok(package)
}

fn check_limit(needs: u64, manifest: &Manifest) -> Result<(), AssembleError> {
    let limit = manifest.limits.memory_bytes;
    if needs > limit { Err(AssembleError::MemoryLimit { needs, limit }) } else { Ok(()) }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
