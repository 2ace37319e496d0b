//! The adapters `wasi_snapshot_preview1` and `wasmop_rt`: core modules in WAT that map the imports of toolchains to the
//! world's interfaces.
//!
//! Both keep no state between calls.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use wasm_encoder::{CustomSection, Encode, Section};
use wasmparser::{CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef};

use crate::world::{self, World};

pub(crate) const WASI: &str = "wasi_snapshot_preview1";
pub(crate) const RT: &str = "wasmop_rt";

/// A core module that `wit-component` links between a guest and the world.
pub(crate) struct Adapter {
    /// The module with its world in a `component-type` section.
    pub(crate) wasm: Vec<u8>,
    /// The functions that a guest may import.
    pub(crate) functions: BTreeMap<String, FuncType>,
}

pub(crate) static WASI_ADAPTER: LazyLock<Adapter> =
    LazyLock::new(|| Adapter::new(include_str!("adapters/wasi_snapshot_preview1.wat"), World::WasiAdapter));

pub(crate) static RT_ADAPTER: LazyLock<Adapter> =
    LazyLock::new(|| Adapter::new(include_str!("adapters/wasmop_rt.wat"), World::RtAdapter));

impl Adapter {
    /// Assembles an adapter. `text` is part of this crate, so the tests cover its errors.
    fn new(text: &str, world: World) -> Adapter {
        let mut wasm = wat::parse_str(text).expect("the embedded adapters are valid WAT");
        let functions = exported_functions(&wasm).expect("the embedded adapters can be read");
        let section = CustomSection { name: "component-type".into(), data: world::metadata(world).into() };
        wasm.push(section.id());
        section.encode(&mut wasm);
        Adapter { wasm, functions }
    }
}

fn exported_functions(wasm: &[u8]) -> wasmparser::Result<BTreeMap<String, FuncType>> {
    let mut types = Vec::new();
    let mut functions = Vec::new();
    let mut exports = BTreeMap::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group?.into_types().map(|ty| ty.composite_type.inner));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) = import?.ty {
                        functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.push(ty?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind != ExternalKind::Func || export.name.starts_with("cabi_") {
                        continue;
                    }
                    let ty = functions.get(export.index as usize).and_then(|ty| types.get(*ty as usize));
                    if let Some(CompositeInnerType::Func(ty)) = ty {
                        exports.insert(export.name.to_string(), ty.clone());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(exports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wasi_adapter_exports_every_preview_1_function() {
        let preview_1 = "args_get args_sizes_get clock_res_get clock_time_get environ_get environ_sizes_get \
            fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags fd_fdstat_set_rights \
            fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread fd_prestat_dir_name fd_prestat_get \
            fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell fd_write path_create_directory \
            path_filestat_get path_filestat_set_times path_link path_open path_readlink path_remove_directory \
            path_rename path_symlink path_unlink_file poll_oneoff proc_exit proc_raise random_get sched_yield \
            sock_accept sock_recv sock_send sock_shutdown";
        let answered: Vec<&str> = WASI_ADAPTER.functions.keys().map(String::as_str).collect();
        assert_eq!(answered, preview_1.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn the_rt_adapter_exports_only_read() {
        assert_eq!(RT_ADAPTER.functions.keys().collect::<Vec<_>>(), ["read"]);
    }
}
