//! The reasons to refuse a module or component. Each message names the construct and its place, and offers help.

use std::fmt;

use thiserror::Error;

/// A function of the refused module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRef {
    /// The index in the function index space.
    pub index: u32,
    /// The name, if the module has a name section.
    pub name: Option<String>,
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "function `{name}` (index {})", self.index),
            None => write!(f, "function {} (the module has no names; build with --debug to see them)", self.index),
        }
    }
}

/// Why a module or component cannot become a package.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each variant is its documentation")]
pub enum Refusal {
    #[error(
        "not a WebAssembly file: it begins with {found}\n\
         help: pass the core module a toolchain wrote, or build the project with `wasmop build`"
    )]
    NotWasm { found: String },
    #[error(
        "the file is truncated: it ends within the item that begins before offset {offset}\n\
         help: build or copy it again"
    )]
    Truncated { offset: usize },
    #[error(
        "not a valid module, at offset {offset}: {detail}\nhelp: rebuild it; if it comes from a compiler, that compiler has a bug"
    )]
    Invalid { offset: usize, detail: String },
    #[error(
        "the component does not export `{}`, so it is not a controller{}\n\
         help: build it for the world `controller` of wit/wasmop.wit; docs/package.md has examples",
        crate::world::GUEST, other_world(.exports)
    )]
    ComponentWorld { exports: Vec<String> },
    #[error(
        "the component imports `{name}`, which wasmop does not provide\n\
         help: {}", component_import_help(.name)
    )]
    ComponentImport { name: String },
    #[error(
        "the component has {count} linear memories; a controller has exactly one\n\
         help: don't compose components, and use an adapter that has no memory of its own"
    )]
    ComponentMemoryCount { count: usize },
    #[error(
        "the component can't be a controller: {detail}\n\
         help: don't compose components; use a tool that produces a single core module"
    )]
    ComponentStructure { detail: String },
    #[error("this is already a wasmop package\nhelp: run it with `wasmop run`, or show it with `wasmop inspect`")]
    AlreadyPackage,

    #[error(
        "the module has {count} memories; a controller has exactly one\n\
         help: build for wasm32-wasip1 (Rust) or GOOS=wasip1 (Go) without the multi-memory feature"
    )]
    MemoryCount { count: u32 },
    #[error(
        "the memory is imported from `{module}` `{name}`; it must be defined by the module\n\
         help: remove the linker flag --import-memory"
    )]
    MemoryImported { module: String, name: String },
    #[error(
        "the memory is shared between threads, but controllers cannot have threads\nhelp: build for wasm32-wasip1, not wasm32-wasip1-threads"
    )]
    MemoryShared,
    #[error("the memory is 64-bit; controllers are 32-bit\nhelp: build for wasm32-wasip1, not wasm64")]
    Memory64,
    #[error(
        "the memory has pages of {bytes} bytes; they must be 65536\nhelp: build without the custom-page-sizes feature"
    )]
    MemoryPageSize { bytes: u64 },
    #[error(
        "the memory is not exported as `memory`\n\
         help: link an executable or a cdylib for wasip1; both export the memory"
    )]
    MemoryNotExported,

    #[error(
        "global {global} is mutable and of type {ty}: a suspend can save only i32, i64, f32 and f64\n\
         help: build without the features that use such globals (SIMD registers, reference types)"
    )]
    GlobalType { global: String, ty: String },
    #[error(
        "the module has more than {max} mutable globals, and each suspend saves them one by one\n\
         help: keep state in memory; compilers use fewer than ten"
    )]
    GlobalCount { max: usize },
    #[error(
        "global `{module}` `{name}` is imported; a controller defines all its globals\n\
         help: link statically, without -shared or --import-*"
    )]
    GlobalImported { module: String, name: String },

    #[error(
        "{function} uses `{operator}`: a suspend loses changes of tables and segments\n\
         help: don't change function tables at run time (dynamic linking, JIT, reference types); toolchains for wasip1 emit this only on request"
    )]
    StateOutsideMemory { operator: String, function: FunctionRef },
    #[error(
        "{function} uses `{operator}` of the {proposal} proposal, which controllers cannot use\n\
         help: build without that target feature (Rust: -C target-feature=-...); docs/package.md lists the allowed features"
    )]
    Proposal { operator: String, proposal: &'static str, function: FunctionRef },
    #[error(
        "{function} has {bytes} bytes of code, more than the {max} that a host compiles: compile time grows faster than linearly with the size of a function\n\
         help: split the function; if it contains large tables, keep them as data"
    )]
    FunctionSize { function: FunctionRef, bytes: usize, max: usize },
    #[error(
        "the module uses a feature that controllers cannot use: {detail} (offset {offset})\n\
         help: build for plain wasm32-wasip1; docs/package.md lists the allowed features"
    )]
    Feature { offset: usize, detail: String },

    #[error(
        "data segment {segment} has an offset that is not a constant\n\
         help: link statically, not as position-independent code (-fPIC, -shared)"
    )]
    DataOffset { segment: u32 },
    #[error(
        "data segment {segment} ends at {end}, past the initial {memory} bytes of memory\n\
         help: raise the linker's initial memory"
    )]
    DataOutOfBounds { segment: u32, end: u64, memory: u64 },

    #[error(
        "the module imports WASI function `{name}`, which wasmop does not provide\n\
         help: only the functions of wasi_snapshot_preview1 exist; find out which library calls it and disable that feature"
    )]
    WasiUnknown { name: String },
    #[error(
        "the module imports `{module}` `{name}`, which wasmop does not provide\n\
         help: {}", import_help(.module)
    )]
    ImportUnknown { module: String, name: String },
    #[error(
        "the module imports `{module}` `{name}` as {found}; wasmop provides it as {expected}\n\
         help: use an SDK of the same release as this wasmop"
    )]
    ImportSignature { module: String, name: String, found: String, expected: String },
    #[error(
        "the module imports `runtime.read`, which returns a list and needs an allocator in the guest\n\
         help: import `read` from module `wasmop_rt` (dst, len, scratch) instead; the SDKs do"
    )]
    ReadWithoutAdapter,
    #[error(
        "the module imports the {kind} `{module}` `{name}`; a controller can import only functions\n\
         help: link statically, without -shared or --import-*"
    )]
    ImportKind { module: String, name: String, kind: &'static str },

    #[error("the module exports no `{}`, so it is not a controller{}\nhelp: {STEP_HELP}", crate::world::STEP, other_world(.exports))]
    StepMissing { exports: Vec<String> },
    #[error(
        "the module exports `{}` as {found}; it must be a function without parameters or results\n\
         help: use an SDK of the same release as this wasmop",
        crate::world::STEP
    )]
    StepSignature { found: String },
}

const STEP_HELP: &str =
    "Rust: put #[wasmop::main] on `async fn main`; Go: import the SDK's wasmop package in package main";

fn import_help(module: &str) -> &'static str {
    if module == "wasi_unstable" {
        "this is the WASI snapshot of 2019; use a toolchain that builds for wasi_snapshot_preview1"
    } else if module.starts_with("wasi:") {
        "build for wasm32-wasip1 (Rust) or GOOS=wasip1 (Go), not wasip2"
    } else if module.starts_with("wasmop:") || module == crate::adapter::RT {
        "use an SDK of the same release as this wasmop"
    } else if module.starts_with("__wbindgen") {
        "a dependency was built for browsers (wasm-bindgen); disable its feature `js`, `wasm-bindgen` or `wasmbind`"
    } else if module == "gojs" || module == "go" {
        "build with GOOS=wasip1, not GOOS=js"
    } else if module == "env" {
        "the linker left a function undefined, usually one of a C library; remove the dependency or its feature"
    } else {
        "a controller can import only what the SDK uses; remove the dependency that imports this"
    }
}

fn component_import_help(name: &str) -> &'static str {
    if name.starts_with("wasi:http/") {
        "requests go through `wasmop:controller/runtime`; build without HTTP (componentize-js: `disableFeatures: ['http', 'fetch-event']`)"
    } else if name.starts_with("wasi:") {
        "wasmop provides WASI 0.2: cli, clocks, filesystem, io, random and sockets; build for these"
    } else if name.starts_with("wasmop:") {
        "use the wit/wasmop.wit of the same release as this wasmop"
    } else {
        "a controller can import only `wasmop:controller` and WASI; compose it with a component that provides this interface"
    }
}

fn other_world(exports: &[String]) -> String {
    if exports.is_empty() {
        return String::new();
    }
    format!(" (it is built for another world: it exports {})", exports.join(", "))
}

/// The refusal of a file that the parser rejects.
pub(crate) fn malformed(error: wasmparser::Error) -> Refusal {
    let offset = error.offset();
    if error.message().starts_with("unexpected end") {
        Refusal::Truncated { offset }
    } else {
        Refusal::Invalid { offset, detail: error.message().to_string() }
    }
}
