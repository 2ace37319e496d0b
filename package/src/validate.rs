//! From the bytes of a core module to the facts instrumentation needs, or to a named refusal.
//!
//! What is refused is what could not be continued from a saved memory and a few numbers: state the
//! host can't read (tables, segments, reference globals, other memories) and imports it doesn't
//! have.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;

use wasmparser::{
    CompositeInnerType, DataKind, ElementItems, ElementKind, Encoding, ExternalKind, FuncType, FunctionBody,
    GlobalType, KnownCustom, MemoryType, Name, Operator, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

use crate::adapter::{self, RT_ADAPTER, WASI_ADAPTER};
use crate::component::check_memory;
use crate::instrument::ADDED;
use crate::refusal::{FunctionRef, Refusal};
use crate::world;

/// What controllers may use of WebAssembly: what is deterministic and has no state outside memory
/// and globals. Also in docs/package.md.
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

pub(crate) const PAGE: u64 = 65_536;

/// Mutable globals of a controller, at most. They are read and written one by one at each suspension;
/// toolchains make fewer than ten.
pub const MAX_MUTABLE_GLOBALS: usize = 256;

/// Bytes of a function's body, at most: nothing interrupts a compiler, and some of its passes take time that grows with
/// the square of that. The largest function of CPython, its interpreter, has 417 KiB.
const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// Bytes that an entry of a table, a global, and a function that a table, an import or an export refers to take in the
/// host.
const TABLE_ENTRY: u64 = 8;
const GLOBAL: u64 = 16;
const FUNCTION_REFERENCE: u64 = 32;

/// A module that passed, with what instrumentation has to know of it.
#[derive(Debug, Default)]
pub(crate) struct Core<'a> {
    /// Entries of the type index space.
    pub(crate) types: u32,
    pub(crate) imported_functions: u32,
    pub(crate) defined_functions: u32,
    /// Mutable globals: index and type, in the order the accessors number them.
    pub(crate) globals: Vec<(u32, ValType)>,
    /// The start section's function.
    pub(crate) start: Option<u32>,
    /// Exported `_initialize` (libraries, Go) and `_start` (commands, Rust binaries).
    pub(crate) initialize: Option<u32>,
    pub(crate) command: Option<u32>,
    pub(crate) step: u32,
    /// Bytes of linear memory it begins with.
    pub(crate) memory: u64,
    /// Active segments in order: offset and content.
    pub(crate) data: Vec<(u32, &'a [u8])>,
    /// Whether `memory.init` is used, so segments must keep their numbers.
    pub(crate) uses_memory_init: bool,
    /// Whether it imports from `wasi_snapshot_preview1` and `wasmop_rt`.
    pub(crate) imports_wasi: bool,
    pub(crate) imports_rt: bool,
    pub(crate) exports: BTreeMap<&'a str, (ExternalKind, u32)>,
    /// Where the last function bodies are, oldest first; as many as instrumentation appends.
    pub(crate) last_bodies: VecDeque<Range<usize>>,
    /// What an instance holds besides its memory.
    pub(crate) overhead: Overhead,
}

/// What instances of a core module hold in the host besides linear memory, in numbers of things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overhead {
    pub(crate) table_entries: u64,
    pub(crate) globals: u64,
    /// Items of element segments.
    pub(crate) elements: u64,
    /// Items of segments that stay with the instance.
    pub(crate) passive_elements: u64,
    /// Imported and exported functions.
    pub(crate) functions: u64,
}

impl Overhead {
    /// Adds what a section declares. Others than those of tables, globals and elements count nothing.
    pub(crate) fn section(&mut self, payload: &Payload<'_>) -> Result<(), Refusal> {
        match payload {
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let initial = table.map_err(malformed)?.ty.initial;
                    self.table_entries = self.table_entries.saturating_add(initial);
                }
            }
            Payload::GlobalSection(section) => self.globals += u64::from(section.count()),
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    if let TypeRef::Func(_) | TypeRef::FuncExact(_) = import.map_err(malformed)?.ty {
                        self.functions += 1;
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    if let ExternalKind::Func | ExternalKind::FuncExact = export.map_err(malformed)?.kind {
                        self.functions += 1;
                    }
                }
            }
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    let element = element.map_err(malformed)?;
                    let items = u64::from(match element.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    });
                    self.elements += items;
                    if matches!(element.kind, ElementKind::Passive) {
                        self.passive_elements += items;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what so many instances of another module hold.
    pub(crate) fn add(&mut self, other: &Overhead, instances: u64) {
        for (sum, one) in [
            (&mut self.table_entries, other.table_entries),
            (&mut self.globals, other.globals),
            (&mut self.elements, other.elements),
            (&mut self.passive_elements, other.passive_elements),
            (&mut self.functions, other.functions),
        ] {
            *sum = sum.saturating_add(one.saturating_mul(instances));
        }
    }

    pub(crate) fn table_bytes(&self) -> u64 {
        self.table_entries.saturating_mul(TABLE_ENTRY)
    }

    /// Of everything but the tables.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        let references = self.elements.saturating_add(self.functions).saturating_mul(FUNCTION_REFERENCE);
        let segments = self.passive_elements.saturating_mul(2 * TABLE_ENTRY);
        self.globals.saturating_mul(GLOBAL).saturating_add(references).saturating_add(segments)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.table_bytes().saturating_add(self.fixed_bytes())
    }
}

/// Reads the sections and checks what they declare, but no function body: fast, also for large modules.
pub(crate) fn survey(wasm: &[u8]) -> Result<Core<'_>, Refusal> {
    check_header(wasm)?;
    let mut scan = Scan { is_linked: true, ..Scan::default() };
    scan.read(wasm)?;
    scan.finish()
}

/// Checks that every function body of a module can be compiled in a reasonable time.
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

fn check_body_size(body: &FunctionBody<'_>, function: impl FnOnce() -> FunctionRef) -> Result<(), Refusal> {
    let bytes = body.range().len();
    if bytes > MAX_FUNCTION_BYTES {
        return Err(Refusal::FunctionSize { function: function(), bytes, max: MAX_FUNCTION_BYTES });
    }
    Ok(())
}

/// Checks that no function body of a module changes state that the host can't read.
pub(crate) fn check_bodies(wasm: &[u8]) -> Result<(), Refusal> {
    let mut scan = Scan::default();
    let mut index = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(malformed)? {
            scan.body(index, &body)?;
            index += 1;
        }
    }
    Ok(())
}

/// Checks everything; see [`Refusal`].
pub(crate) fn validate(wasm: &[u8]) -> Result<Core<'_>, Refusal> {
    validate_as(wasm, false)
}

/// The same for a module in a component.
pub(crate) fn validate_linked(wasm: &[u8]) -> Result<Core<'_>, Refusal> {
    validate_as(wasm, true)
}

fn validate_as(wasm: &[u8], is_linked: bool) -> Result<Core<'_>, Refusal> {
    check_header(wasm)?;
    let mut scan = Scan { names: function_names(wasm), reads_bodies: true, is_linked, ..Scan::default() };
    scan.read(wasm)?;
    let core = scan.finish();
    // What the scan doesn't look for. Where the scan has an answer too, that one is more precise.
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
        // Components go another way (component.rs).
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => {
            Err(Refusal::Invalid { offset: 0, detail: "a component, not a module".to_string() })
        }
        Some(Err(error)) => Err(malformed(error)),
        _ => Ok(()),
    }
}

pub(crate) fn malformed(error: wasmparser::Error) -> Refusal {
    let offset = error.offset();
    if error.message().starts_with("unexpected end") {
        Refusal::Truncated { offset }
    } else {
        Refusal::Invalid { offset, detail: error.message().to_string() }
    }
}

/// The name section's functions; what is damaged in it is left out.
fn function_names(wasm: &[u8]) -> HashMap<u32, String> {
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

/// One pass over the sections. Index spaces are collected as they appear.
#[derive(Default)]
struct Scan<'a> {
    core: Core<'a>,
    names: HashMap<u32, String>,
    /// The type index space; `None` for types that are not functions.
    types: Vec<Option<FuncType>>,
    /// The function index space, as type indices.
    functions: Vec<u32>,
    globals: Vec<GlobalType>,
    memories: Vec<MemoryType>,
    reads_bodies: bool,
    /// The module is in a component: `wit-component` has numbered imports of the same name.
    is_linked: bool,
    bodies: u32,
    segments: u32,
}

impl<'a> Scan<'a> {
    fn read(&mut self, wasm: &'a [u8]) -> Result<(), Refusal> {
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(malformed)?;
            self.core.overhead.section(&payload)?;
            self.payload(payload)?;
        }
        Ok(())
    }

    fn payload(&mut self, payload: Payload<'a>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.map_err(malformed)?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(malformed)?;
                    self.import(import.module, import.name, import.ty)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.core.defined_functions = section.count();
                for ty in section {
                    self.functions.push(ty.map_err(malformed)?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memory(memory.map_err(malformed)?)?;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.map_err(malformed)?.ty;
                    self.global(ty)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    self.core.exports.insert(export.name, (export.kind, export.index));
                }
            }
            Payload::StartSection { func, .. } => self.core.start = Some(func),
            Payload::CodeSectionEntry(body) => {
                let index = self.core.imported_functions.saturating_add(self.bodies);
                self.bodies += 1;
                if self.core.last_bodies.len() == ADDED as usize {
                    self.core.last_bodies.pop_front();
                }
                self.core.last_bodies.push_back(body.range());
                if self.reads_bodies {
                    self.body(index, &body)?;
                }
            }
            Payload::DataSection(section) => {
                for segment in section {
                    let segment = segment.map_err(malformed)?;
                    let number = self.segments;
                    self.segments += 1;
                    if let DataKind::Active { offset_expr, .. } = segment.kind {
                        let offset = constant_offset(&offset_expr).ok_or(Refusal::DataOffset { segment: number })?;
                        self.core.data.push((offset, segment.data));
                        self.bounds(number, offset, segment.data)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &'a str, name: &'a str, ty: TypeRef) -> Result<(), Refusal> {
        let owned = || (module.to_string(), name.to_string());
        let kind = match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.core.imported_functions += 1;
                self.functions.push(ty);
                return self.imported_function(module, name, ty);
            }
            TypeRef::Memory(_) => {
                let (module, name) = owned();
                return Err(Refusal::MemoryImported { module, name });
            }
            TypeRef::Global(_) => {
                let (module, name) = owned();
                return Err(Refusal::GlobalImported { module, name });
            }
            TypeRef::Table(_) => "table",
            TypeRef::Tag(_) => "exception tag",
        };
        let (module, name) = owned();
        Err(Refusal::ImportKind { module, name, kind })
    }

    fn imported_function(&mut self, module: &str, name: &str, ty: u32) -> Result<(), Refusal> {
        let name = if self.is_linked { unnumbered(name) } else { name };
        let unknown = || Refusal::ImportUnknown { module: module.to_string(), name: name.to_string() };
        let expected = if module == adapter::WASI {
            self.core.imports_wasi = true;
            WASI_ADAPTER.functions.get(name).ok_or_else(|| Refusal::WasiUnknown { name: name.to_string() })?
        } else if module == adapter::RT {
            self.core.imports_rt = true;
            RT_ADAPTER.functions.get(name).ok_or_else(unknown)?
        } else if module == world::RUNTIME && name == world::READ {
            return Err(Refusal::ReadWithoutAdapter);
        } else {
            world::IMPORTS.get(&(module.to_string(), name.to_string())).ok_or_else(unknown)?
        };
        match self.types.get(ty as usize).and_then(Option::as_ref) {
            Some(found) if found == expected => Ok(()),
            found => Err(Refusal::ImportSignature {
                module: module.to_string(),
                name: name.to_string(),
                found: found.map_or_else(|| "no function".to_string(), signature),
                expected: signature(expected),
            }),
        }
    }

    fn global(&mut self, ty: GlobalType) -> Result<(), Refusal> {
        // Imported globals are refused, so positions are indices.
        let index = self.globals.len() as u32;
        self.globals.push(ty);
        if !ty.mutable {
            return Ok(());
        }
        match ty.content_type {
            ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 if !ty.shared => {
                if self.core.globals.len() >= MAX_MUTABLE_GLOBALS {
                    return Err(Refusal::GlobalCount { max: MAX_MUTABLE_GLOBALS });
                }
                self.core.globals.push((index, ty.content_type));
                Ok(())
            }
            other => Err(Refusal::GlobalType { global: index.to_string(), ty: other.to_string() }),
        }
    }

    fn body(&mut self, index: u32, body: &FunctionBody<'_>) -> Result<(), Refusal> {
        check_body_size(body, || self.function(index))?;
        let mut operators = body.get_operators_reader().map_err(malformed)?;
        while !operators.eof() {
            let operator = operators.read().map_err(malformed)?;
            match operator {
                Operator::MemoryInit { .. } => self.core.uses_memory_init = true,
                Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. }
                | Operator::DataDrop { .. } => {
                    let (_, name) = describe(&operator);
                    return Err(Refusal::StateOutsideMemory {
                        operator: readable(name),
                        function: self.function(index),
                    });
                }
                _ => {
                    let (proposal, name) = describe(&operator);
                    if let Some(proposal) = refused_proposal(proposal) {
                        let function = self.function(index);
                        return Err(Refusal::Proposal { operator: readable(name), proposal, function });
                    }
                }
            }
        }
        Ok(())
    }

    fn bounds(&self, segment: u32, offset: u32, data: &[u8]) -> Result<(), Refusal> {
        let end = u64::from(offset) + data.len() as u64;
        let memory = self.core.memory;
        if end > memory && !self.memories.is_empty() {
            return Err(Refusal::DataOutOfBounds { segment, end, memory });
        }
        Ok(())
    }

    fn function(&self, index: u32) -> FunctionRef {
        FunctionRef { index, name: self.names.get(&index).cloned() }
    }

    /// What can only be said after the last section.
    fn finish(mut self) -> Result<Core<'a>, Refusal> {
        self.core.types = self.types.len() as u32;
        self.check_memory()?;
        self.core.initialize = self.exported_function("_initialize");
        self.core.command = self.exported_function("_start");
        self.core.step = self.check_step()?;
        Ok(self.core)
    }

    fn memory(&mut self, memory: MemoryType) -> Result<(), Refusal> {
        self.memories.push(memory);
        self.core.memory = memory.initial.saturating_mul(PAGE);
        check_memory(memory)
    }

    fn check_memory(&self) -> Result<(), Refusal> {
        if self.memories.len() != 1 {
            return Err(Refusal::MemoryCount { count: self.memories.len() as u32 });
        }
        match self.core.exports.get("memory") {
            Some((ExternalKind::Memory, 0)) => Ok(()),
            _ => Err(Refusal::MemoryNotExported),
        }
    }

    fn check_step(&self) -> Result<u32, Refusal> {
        let Some((kind, index)) = self.core.exports.get(world::STEP) else {
            let exports = self.core.exports.keys().filter(|name| name.contains('#') || name.contains(':'));
            return Err(Refusal::StepMissing { exports: exports.map(|name| format!("`{name}`")).collect() });
        };
        if !matches!(kind, ExternalKind::Func | ExternalKind::FuncExact) {
            return Err(Refusal::StepSignature { found: format!("a {kind:?}").to_lowercase() });
        }
        match self.function_type(*index) {
            Some(ty) if ty.params().is_empty() && ty.results().is_empty() => Ok(*index),
            found => Err(Refusal::StepSignature { found: found.map_or_else(|| "no function".to_string(), signature) }),
        }
    }

    /// An exported function without parameters and results.
    fn exported_function(&self, name: &str) -> Option<u32> {
        let (ExternalKind::Func, index) = *self.core.exports.get(name)? else { return None };
        let ty = self.function_type(index)?;
        (ty.params().is_empty() && ty.results().is_empty()).then_some(index)
    }

    fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(index as usize)? as usize)?.as_ref()
    }
}

/// `fd_write` of `fd_write [v2]`.
fn unnumbered(name: &str) -> &str {
    let digits = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = name.strip_suffix(']').and_then(|name| name.rsplit_once(" [v"));
    numbered.filter(|(_, number)| digits(number)).map_or(name, |(name, _)| name)
}

fn constant_offset(expr: &wasmparser::ConstExpr<'_>) -> Option<u32> {
    let mut operators = expr.get_operators_reader();
    let Ok(Operator::I32Const { value }) = operators.read() else { return None };
    matches!(operators.read(), Ok(Operator::End)).then_some(value as u32)
}

fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ty.results() {
        [] => format!("({})", list(ty.params())),
        results => format!("({}) -> {}", list(ty.params()), list(results)),
    }
}

/// The proposal's name in the specification's repositories, if controllers can't use it.
fn refused_proposal(proposal: &str) -> Option<&'static str> {
    Some(match proposal {
        "threads" => "threads",
        "shared_everything_threads" => "shared-everything-threads",
        "gc" => "garbage collection",
        "custom_descriptors" => "custom descriptors",
        "function_references" => "typed function references",
        "exceptions" | "legacy_exceptions" => "exception handling",
        "memory_control" => "memory control",
        "stack_switching" => "stack switching",
        "wide_arithmetic" => "wide arithmetic",
        "relaxed_simd" => "relaxed SIMD",
        _ => return None,
    })
}

macro_rules! define_describe {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        /// The proposal an operator comes from and its visitor's name.
        fn describe(operator: &Operator<'_>) -> (&'static str, &'static str) {
            match operator {
                $(Operator::$op { .. } => (stringify!($proposal), stringify!($visit)),)*
                _ => ("unknown", "visit_unknown"),
            }
        }
    };
}
wasmparser::for_each_operator!(define_describe);

/// `visit_table_set` as the text format writes it: `table.set`.
fn readable(visitor: &str) -> String {
    let name = visitor.trim_start_matches("visit_");
    for prefix in [
        "memory_atomic",
        "atomic",
        "i32_atomic",
        "i64_atomic",
        "table",
        "elem",
        "data",
        "memory",
        "struct",
        "array",
        "ref",
    ] {
        if let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) {
            return format!("{}.{rest}", prefix.replace('_', "."));
        }
    }
    name.to_string()
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
