//! One pass over the sections of a core module.

use std::collections::HashMap;

use wasmparser::{
    CompositeInnerType, DataKind, ExternalKind, FuncType, FunctionBody, GlobalType, MemoryType, Operator, Parser,
    Payload, TypeRef, ValType,
};

use super::operators::{describe, readable, refused_proposal};
use crate::adapter::{self, RT_ADAPTER, WASI_ADAPTER};
use crate::function_body::check_body_size;
use crate::memory_type::{PAGE, check_memory};
use crate::module_facts::ModuleFacts;
use crate::refusal::{FunctionRef, Refusal, malformed};
use crate::world;

/// A controller has at most this many mutable globals.
///
/// Each suspend reads and each resume writes them one by one. Toolchains emit fewer than ten.
pub const MAX_MUTABLE_GLOBALS: usize = 256;

/// The state of the pass. It collects index spaces as they appear.
#[derive(Default)]
pub(super) struct Scan<'a> {
    core: ModuleFacts<'a>,
    names: HashMap<u32, String>,
    /// The type index space; `None` for types that are not functions.
    types: Vec<Option<FuncType>>,
    /// The function index space, as type indices.
    functions: Vec<u32>,
    globals: Vec<GlobalType>,
    memories: Vec<MemoryType>,
    reads_bodies: bool,
    /// Whether the module is part of a component. `wit-component` numbers imports of the same name.
    is_linked: bool,
    bodies: u32,
    segments: u32,
}

impl<'a> Scan<'a> {
    /// A scan that skips the contents of function bodies.
    pub(super) fn without_bodies(is_linked: bool) -> Scan<'a> {
        Scan { is_linked, ..Scan::default() }
    }

    /// A scan that reads function bodies. `names` are for error messages.
    pub(super) fn with_bodies(is_linked: bool, names: HashMap<u32, String>) -> Scan<'a> {
        Scan { names, reads_bodies: true, is_linked, ..Scan::default() }
    }

    pub(super) fn read(&mut self, wasm: &'a [u8]) -> Result<(), Refusal> {
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
                if self.core.last_bodies.len() == world::STATE_FUNCTIONS.len() {
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
        // Imported globals are refused, so the position is the index.
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

    pub(super) fn body(&mut self, index: u32, body: &FunctionBody<'_>) -> Result<(), Refusal> {
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

    /// Checks what depends on all sections, and returns the facts.
    pub(super) fn finish(mut self) -> Result<ModuleFacts<'a>, Refusal> {
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

    /// Returns the index of an exported function without parameters and results.
    fn exported_function(&self, name: &str) -> Option<u32> {
        let (ExternalKind::Func, index) = *self.core.exports.get(name)? else { return None };
        let ty = self.function_type(index)?;
        (ty.params().is_empty() && ty.results().is_empty()).then_some(index)
    }

    fn function_type(&self, index: u32) -> Option<&FuncType> {
        self.types.get(*self.functions.get(index as usize)? as usize)?.as_ref()
    }
}

/// Removes the number of an import name: `fd_write [v2]` becomes `fd_write`.
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
