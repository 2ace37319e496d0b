//! From a component that another tool made to the facts packaging needs, or to a named refusal.
//!
//! Such a component runs in the soft tier: the host can't read its globals, nor restore its WASI
//! handles, but it owns its one linear memory.

use wasmparser::{MemoryType, Parser, Payload, Validator, WasmFeatures};

use crate::function_body::check_body_sizes;
use crate::memory_type::check_memory;
use crate::package::{self, Interfaces, interfaces};
use crate::refusal::{Refusal, malformed};
use crate::structure::{Footprint, Structure};
use crate::tier::Tier;
use crate::{section, tier, world};

/// Checks that it is of the controller world and imports nothing but that and WASI. Returns what an instance
/// begins with.
pub(crate) fn validate(component: &[u8]) -> Result<Footprint, Refusal> {
    if section::find(component, package::MANIFEST_SECTION).is_some() {
        return Err(Refusal::AlreadyPackage);
    }
    Validator::new_with_features(WasmFeatures::default()).validate_all(component).map_err(malformed)?;
    let Interfaces { imports, exports } =
        interfaces(component).map_err(|error| Refusal::Invalid { offset: 0, detail: error.to_string() })?;
    if !exports.iter().any(|name| name == world::GUEST) {
        return Err(Refusal::ComponentWorld { exports });
    }
    let foreign = |name: &String| *name != world::SYS && *name != world::RUNTIME && !tier::is_provided_wasi(name);
    if let Some(name) = imports.into_iter().find(foreign) {
        return Err(Refusal::ComponentImport { name });
    }
    let memories = memories(component)?;
    let [memory] = memories[..] else {
        return Err(Refusal::ComponentMemoryCount { count: memories.len() });
    };
    check_memory(memory)?;
    let structure = Structure::check(component, Tier::Soft).map_err(|detail| Refusal::ComponentStructure { detail })?;
    for module in &structure.modules {
        check_body_sizes(&component[module.clone()])?;
    }
    Ok(structure.footprint)
}

/// The memories that its core modules define, at whatever depth.
fn memories(component: &[u8]) -> Result<Vec<MemoryType>, Refusal> {
    let mut memories = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::MemorySection(section) = payload.map_err(malformed)? {
            for memory in section {
                memories.push(memory.map_err(malformed)?);
            }
        }
    }
    Ok(memories)
}

#[cfg(test)]
#[path = "component_tests.rs"]
mod tests;
