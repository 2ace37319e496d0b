//! The embedded WIT: the imports of controllers as core signatures, and the metadata that turns a core module into a
//! component.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use wasmparser::{FuncType, ValType};
use wit_component::StringEncoding;
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{PackageId, Resolve};

const CONTROLLER_WIT: &str = include_str!("../../wit/wasmop.wit");
const STATE_WIT: &str = include_str!("../../wit/internal/state.wit");

/// The interfaces of a component: two imports, the guest's export and the generated export.
pub(crate) const SYS: &str = "wasmop:controller/sys@0.1.0";
pub(crate) const RUNTIME: &str = "wasmop:controller/runtime@0.1.0";
pub(crate) const GUEST: &str = "wasmop:controller/guest@0.1.0";
pub(crate) const STATE: &str = "wasmop:internal/state";
/// The functions of the generated interface, in the order in which instrumentation appends them.
pub(crate) const STATE_FUNCTIONS: [&str; 4] = ["init", "global-count", "global-get", "global-set"];
/// The core function that every guest exports.
pub(crate) const STEP: &str = "wasmop:controller/guest@0.1.0#step";
/// The function that returns a payload as a list. Only the `wasmop_rt` adapter can import it.
pub(crate) const READ: &str = "read";

/// A world of the embedded WIT.
#[derive(Clone, Copy)]
pub(crate) enum World {
    Controller,
    StateAccessors,
    WasiAdapter,
    RtAdapter,
}

struct Wit {
    resolve: Resolve,
    controller: PackageId,
    internal: PackageId,
}

// The text is part of this crate and covered by its tests, so parsing it does not depend on input.
static WIT: LazyLock<Wit> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    let controller = resolve.push_str("wasmop.wit", CONTROLLER_WIT).expect("the embedded world parses");
    let internal = resolve.push_str("state.wit", STATE_WIT).expect("the embedded state interface parses");
    Wit { resolve, controller, internal }
});

/// Returns the content of a `component-type` section for a world.
pub(crate) fn metadata(world: World) -> Vec<u8> {
    let (package, name) = match world {
        World::Controller => (WIT.controller, "controller"),
        World::StateAccessors => (WIT.internal, "state-accessors"),
        World::WasiAdapter => (WIT.controller, "wasi-adapter"),
        World::RtAdapter => (WIT.controller, "rt-adapter"),
    };
    let world = WIT.resolve.select_world(&[package], Some(name)).expect("the embedded WIT has its worlds");
    wit_component::metadata::encode(&WIT.resolve, world, StringEncoding::UTF8, None)
        .expect("the embedded worlds can be encoded")
}

/// The core signatures of the world's imports by (module, name), except `read`.
pub(crate) static IMPORTS: LazyLock<BTreeMap<(String, String), FuncType>> = LazyLock::new(|| {
    let mut imports = BTreeMap::new();
    for (_, interface) in &WIT.resolve.packages[WIT.controller].interfaces {
        let Some(module) = WIT.resolve.id_of(*interface) else { continue };
        if module != SYS && module != RUNTIME {
            continue;
        }
        for (name, function) in &WIT.resolve.interfaces[*interface].functions {
            if name == READ {
                continue;
            }
            let signature = WIT.resolve.wasm_signature(AbiVariant::GuestImport, function);
            let core = |types: &[WasmType]| types.iter().map(core_type).collect::<Vec<_>>();
            let ty = FuncType::new(core(&signature.params), core(&signature.results));
            imports.insert((module.clone(), name.clone()), ty);
        }
    }
    imports
});

fn core_type(ty: &WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guest SDKs declare these by hand. A change here changes the ABI.
    #[test]
    fn the_core_signatures_are_the_documented_abi() {
        use ValType::{I32, I64};
        let expected: &[(&str, &str, &[ValType], &[ValType])] = &[
            (SYS, "log", &[I32, I32, I32, I32, I32, I32, I32], &[]),
            (SYS, "now", &[], &[I64]),
            (SYS, "monotonic", &[], &[I64]),
            (SYS, "random", &[], &[I64]),
            (SYS, "park", &[I64], &[]),
            (SYS, "startup-size", &[I32], &[I64]),
            (SYS, "startup-bytes", &[I32, I32], &[I64]),
            (RUNTIME, "next", &[I32], &[]),
            (RUNTIME, "register", &[I32, I32], &[I32]),
            (RUNTIME, "call", &[I64, I64, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32], &[]),
            (RUNTIME, "drop-call", &[I64], &[]),
            (RUNTIME, "done", &[I64, I32, I64, I32, I32, I32], &[]),
            (RUNTIME, "mapped", &[I64, I32, I32], &[]),
            (RUNTIME, "enter", &[I64], &[]),
        ];
        assert_eq!(IMPORTS.len(), expected.len());
        for (module, name, params, results) in expected {
            let found = &IMPORTS[&((*module).to_string(), (*name).to_string())];
            let wanted = FuncType::new(params.iter().copied(), results.iter().copied());
            assert_eq!(*found, wanted, "{module} {name}");
        }
    }
}
