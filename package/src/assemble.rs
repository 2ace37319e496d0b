//! From a toolchain's core module or component and a manifest to a package: the whole of what `wasmop
//! build` does after the compiler. Pure: the same input gives the same bytes.

use thiserror::Error;
use wit_component::ComponentEncoder;

use crate::adapter::{self, RT_ADAPTER, WASI_ADAPTER};
use crate::instrument::instrument;
use crate::manifest::{Manifest, ManifestError};
use crate::package::{IMAGE_SECTION, MANIFEST_SECTION};
use crate::refusal::Refusal;
use crate::validate::validate;
use crate::{component, section};

/// Why a module or component did not become a package.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AssembleError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "the module begins with {needs} bytes of memory and tables, more than the package's limit of {limit}\n\
         help: raise `memory` under [limits] in wasmop.toml"
    )]
    MemoryLimit { needs: u64, limit: u64 },
    /// The validator should have refused the module with a better message.
    #[error(
        "the module can't be made a component: {detail}\n\
         help: please report this as a bug of wasmop, with the output of `wasmop build --debug`"
    )]
    Encode { detail: String },
}

/// Makes a package: of the full tier from a core module, which it validates, instruments and adapts;
/// of the soft tier from a component, which it validates and leaves as it is.
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

    // Ours come last: what is before them is the component, and the manifest can be replaced alone.
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
