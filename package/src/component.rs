//! Validates a component from another tool. Returns its footprint, or a refusal that names the construct.
//!
//! Such a component runs in the soft tier. The host can save its linear memory, but cannot read its globals or restore
//! its WASI handles.

use wasmparser::{MemoryType, Parser, Payload, Validator, WasmFeatures};

use crate::function_body::check_body_sizes;
use crate::memory_type::check_memory;
use crate::package::{self, Interfaces, interfaces};
use crate::refusal::{Refusal, malformed};
use crate::structure::{Footprint, Structure};
use crate::tier::Tier;
use crate::{section, tier, world};

/// Checks that a component exports the controller interface and imports only the controller world and WASI.
///
/// Returns the footprint of an instance.
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

/// Returns the memories of all core modules, including nested ones.
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
