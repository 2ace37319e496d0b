//! Validates a core module. Returns the facts that instrumentation needs, or a refusal that names the construct.
//!
//! A module is refused if an instance could not continue from its saved memory and globals. This concerns state that
//! the host cannot read: modified tables and segments, globals of reference types, and further memories. Imports that
//! the host does not provide are refused as well.

mod operators;
mod scan;

use std::collections::HashMap;

use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::function_body::function_names;
use crate::module_facts::ModuleFacts;
use crate::refusal::{Refusal, malformed};
use scan::Scan;

pub use scan::MAX_MUTABLE_GLOBALS;

/// The WebAssembly features that controllers may use. They are deterministic and add no state outside memory and
/// globals. `docs/package.md` lists them as well.
const FEATURES: WasmFeatures = WasmFeatures::WASM1
    .difference(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// Checks the sections but not the function bodies. This is fast even for large modules.
pub(crate) fn survey(wasm: &[u8]) -> Result<ModuleFacts<'_>, Refusal> {
    check_header(wasm)?;
    let mut scan = Scan::without_bodies(true);
    scan.read(wasm)?;
    scan.finish()
}

/// Checks that no function body changes state that the host cannot read.
pub(crate) fn check_bodies(wasm: &[u8]) -> Result<(), Refusal> {
    let mut scan = Scan::with_bodies(false, HashMap::new());
    let mut index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(malformed)? {
            scan.body(index, &body)?;
            index += 1;
        }
    }
    Ok(())
}

/// Checks a core module that a toolchain produced; see [`Refusal`].
pub(crate) fn validate(wasm: &[u8]) -> Result<ModuleFacts<'_>, Refusal> {
    validate_as(wasm, false)
}

/// Like [`validate`], for a core module in a component.
pub(crate) fn validate_linked(wasm: &[u8]) -> Result<ModuleFacts<'_>, Refusal> {
    validate_as(wasm, true)
}

fn validate_as(wasm: &[u8], is_linked: bool) -> Result<ModuleFacts<'_>, Refusal> {
    check_header(wasm)?;
    let mut scan = Scan::with_bodies(is_linked, function_names(wasm));
    scan.read(wasm)?;
    let core = scan.finish();
    // The validator covers everything else. A refusal by the scan takes precedence, because it is more precise.
    match Validator::new_with_features(FEATURES).validate_all(wasm) {
        Ok(_) => core,
        Err(error) if Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).is_ok() => {
            core.and(Err(Refusal::Feature { offset: error.offset(), detail: error.message().to_string() }))
        }
        Err(error) => Err(malformed(error)),
    }
}

fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    if !wasm.starts_with(b"\0asm") {
        if wasm.len() < 4 && b"\0asm".starts_with(wasm) && !wasm.is_empty() {
            return Err(Refusal::Truncated { offset: wasm.len() });
        }
        let found = match wasm.get(..wasm.len().min(4)) {
            None | Some([]) => "nothing (it is empty)".to_string(),
            Some(start) => format!("\"{}\"", start.escape_ascii()),
        };
        return Err(Refusal::NotWasm { found });
    }
    match Parser::new(0).parse_all(wasm).next() {
        // The module `component` validates components.
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {
            Err(Refusal::Invalid { offset: 0, detail: "a component, not a module".to_string() })
        }
        Some(Err(error)) => Err(malformed(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
