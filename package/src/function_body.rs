//! The sizes and names of function bodies.

use std::collections::HashMap;

use wasmparser::{FunctionBody, KnownCustom, Name, Parser, Payload, TypeRef};

use crate::refusal::{FunctionRef, Refusal, malformed};

/// A function body has at most this many bytes.
///
/// The host cannot interrupt the compiler, and the time of some of its passes is quadratic in the size of a function.
/// The largest function of CPython, its interpreter loop, has 417 KiB.
const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// Checks the sizes of all function bodies of a module.
pub(crate) fn check_body_sizes(wasm: &[u8]) -> Result<(), Refusal> {
    let mut index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(malformed)? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(_) | TypeRef::FuncExact(_) = import.map_err(malformed)?.ty {
                        index += 1;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                check_body_size(&body, || FunctionRef { index, name: function_names(wasm).remove(&index) })?;
                index += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the size of one function body. `function` identifies it in the error.
pub(crate) fn check_body_size(body: &FunctionBody<'_>, function: impl FnOnce() -> FunctionRef) -> Result<(), Refusal> {
    let bytes = body.range().len();
    if bytes > MAX_FUNCTION_BYTES {
        return Err(Refusal::FunctionSize { function: function(), bytes, max: MAX_FUNCTION_BYTES });
    }
    Ok(())
}

/// Returns the function names of the name section. Skips damaged entries.
pub(crate) fn function_names(wasm: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Name(section) = section.as_known() else { continue };
        for subsection in section.into_iter().map_while(Result::ok) {
            if let Name::Function(map) = subsection {
                names.extend(
                    map.into_iter().map_while(Result::ok).map(|naming| (naming.index, naming.name.to_string())),
                );
            }
        }
    }
    names
}
