//! Instruments a validated core module, so that the host can read and write the whole state of an instance.
//!
//! The state consists of the linear memory and the mutable globals. Instrumentation does the following:
//!
//! * It appends four functions and exports them as `wasmop:internal/state`: `init`, `global-count`, `global-get` and
//!   `global-set`.
//! * It moves active data segments to the memory image.
//! * It makes `init` call the start function and `_initialize` or `_start`. So instantiating a module runs no guest
//!   code and can be repeated.
//! * It removes all exports except the memory, `step` and the new functions.
//!
//! Sections are copied or extended as bytes, and no existing function body changes. So function indices, the name
//! section and DWARF stay valid: DWARF addresses are relative to the code section, and the appended bodies come last.
//! There is one exception: if the LEB128 of the function count needs another byte, every address moves by one. This
//! happens at 127 → 131 and 16383 → 16387 functions. In that case the DWARF sections are dropped, because they would
//! point to wrong lines. The name section stays, unless it is damaged.

use std::borrow::Cow;

use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, RawSection, Section,
    TypeSection,
};
use wasmparser::{
    BinaryReader, CustomSectionReader, DataKind, ExternalKind, FunctionBody, KnownCustom, Name, NameMap, Operator,
    Parser, Payload, ValType,
};

use crate::image::ImageBuilder;
use crate::module_facts::ModuleFacts;
use crate::refusal::Refusal;
use crate::section::leb_u32;
use crate::world::{self, STATE, STATE_FUNCTIONS, World};

/// Number of appended types and of appended functions.
const ADDED: u32 = STATE_FUNCTIONS.len() as u32;

const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const EXPORT: u8 = 7;
const START: u8 = 8;
const CODE: u8 = 10;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

/// An instrumented module and its initial memory.
pub(crate) struct Instrumented {
    pub(crate) module: Vec<u8>,
    /// The content of a `wasmop:memory-image` section.
    pub(crate) image: Vec<u8>,
}

/// Instruments the module `wasm` with the facts `core`.
pub(crate) fn instrument(wasm: &[u8], core: &ModuleFacts<'_>) -> Result<Instrumented, Refusal> {
    let malformed = |offset: usize| Refusal::Invalid { offset, detail: "a section cannot be parsed".to_string() };
    let mut module = Module::new();
    let mut keep_dwarf = true;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload =
            payload.map_err(|error| Refusal::Invalid { offset: error.offset(), detail: error.to_string() })?;
        let Some((id, range)) = payload.as_section() else { continue };
        let raw = &wasm[range.clone()];
        let content: Cow<'_, [u8]> = match id {
            TYPE => extended(raw, &added_types()).ok_or(malformed(range.start))?.0.into(),
            FUNCTION => extended(raw, &added_functions(core)).ok_or(malformed(range.start))?.0.into(),
            CODE => {
                let (content, same_width) = extended(raw, &added_bodies(core)).ok_or(malformed(range.start))?;
                keep_dwarf = same_width;
                content.into()
            }
            EXPORT => {
                module.section(&exports(core));
                continue;
            }
            START => continue,
            DATA | DATA_COUNT if !core.uses_memory_init => continue,
            DATA => match payload {
                Payload::DataSection(section) => {
                    module.section(&emptied(section).ok_or(malformed(range.start))?);
                    continue;
                }
                _ => continue,
            },
            _ => match &payload {
                Payload::CustomSection(custom)
                    if custom.name().starts_with("component-type")
                        || (custom.name().starts_with(".debug_") && !keep_dwarf)
                        || has_damaged_names(custom) =>
                {
                    continue;
                }
                _ => raw.into(),
            },
        };
        module.section(&RawSection { id, data: &content });
    }
    for (name, world) in [("controller", World::Controller), ("state", World::StateAccessors)] {
        module.section(&wasm_encoder::CustomSection {
            name: format!("component-type:wasmop-{name}").into(),
            data: world::metadata(world).into(),
        });
    }

    let mut image = ImageBuilder::default();
    for (offset, data) in &core.data {
        image.write(*offset, data);
    }
    Ok(Instrumented { module: module.finish(), image: image.finish() })
}

/// Appends the items of `added`, an encoded section without its ID, to the vector `raw`.
///
/// The count keeps its width in bytes if the sum fits. The second result says whether it does.
fn extended(raw: &[u8], added: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (count, items) = leb_u32(raw, 0)?;
    let (_, added_start) = leb_u32(added, 0)?;
    let (added_count, added_items) = leb_u32(added, added_start)?;
    let total = count.checked_add(added_count)?;
    let mut content = Vec::with_capacity(raw.len() + added.len());
    let mut rest = total;
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        let last = rest == 0 && content.len() + 1 >= items;
        content.push(if last { byte } else { byte | 0x80 });
        if last {
            break;
        }
    }
    let same_width = content.len() == items;
    content.extend_from_slice(raw.get(items..)?);
    content.extend_from_slice(added.get(added_items..)?);
    Some((content, same_width))
}

fn encoded(section: &impl Section) -> Vec<u8> {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    bytes
}

fn added_types() -> Vec<u8> {
    use wasm_encoder::ValType::{I32, I64};
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [I32]);
    types.ty().function([I32], [I64]);
    types.ty().function([I32, I64], []);
    encoded(&types)
}

fn added_functions(core: &ModuleFacts<'_>) -> Vec<u8> {
    let mut functions = FunctionSection::new();
    for ty in 0..ADDED {
        functions.function(core.types + ty);
    }
    encoded(&functions)
}

fn added_bodies(core: &ModuleFacts<'_>) -> Vec<u8> {
    let mut bodies = CodeSection::new();
    bodies.function(&init(core));
    bodies.function(&global_count(core));
    bodies.function(&global_get(core));
    bodies.function(&global_set(core));
    encoded(&bodies)
}

/// The function `init`. `_initialize` takes precedence over `_start`; no toolchain exports both.
fn init(core: &ModuleFacts<'_>) -> Function {
    let mut body = Function::new([]);
    for function in [core.start, core.initialize.or(core.command)].into_iter().flatten() {
        body.instructions().call(function);
    }
    body.instructions().end();
    body
}

fn global_count(core: &ModuleFacts<'_>) -> Function {
    let mut body = Function::new([]);
    body.instructions().i32_const(core.globals.len() as i32).end();
    body
}

fn global_get(core: &ModuleFacts<'_>) -> Function {
    let mut body = Function::new([]);
    for (number, (global, ty)) in (0i32..).zip(&core.globals) {
        let mut code = body.instructions();
        code.local_get(0).i32_const(number).i32_eq().if_(BlockType::Empty).global_get(*global);
        match ty {
            ValType::I32 => code.i64_extend_i32_u(),
            ValType::F32 => code.i32_reinterpret_f32().i64_extend_i32_u(),
            ValType::F64 => code.i64_reinterpret_f64(),
            _ => &mut code,
        }
        .return_()
        .end();
    }
    body.instructions().unreachable().end();
    body
}

fn global_set(core: &ModuleFacts<'_>) -> Function {
    let mut body = Function::new([]);
    for (number, (global, ty)) in (0i32..).zip(&core.globals) {
        let mut code = body.instructions();
        code.local_get(0).i32_const(number).i32_eq().if_(BlockType::Empty).local_get(1);
        match ty {
            ValType::I32 => code.i32_wrap_i64(),
            ValType::F32 => code.i32_wrap_i64().f32_reinterpret_i32(),
            ValType::F64 => code.f64_reinterpret_i64(),
            _ => &mut code,
        }
        .global_set(*global)
        .return_()
        .end();
    }
    body.instructions().unreachable().end();
    body
}

fn exports(core: &ModuleFacts<'_>) -> ExportSection {
    let added = core.imported_functions + core.defined_functions;
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(world::STEP, ExportKind::Func, core.step);
    for (function, name) in (added..).zip(STATE_FUNCTIONS) {
        exports.export(&format!("{STATE}#{name}"), ExportKind::Func, function);
    }
    exports
}

/// Checks that a module could be a result of [`instrument`]: instantiating it runs no code, and the state functions are
/// the generated ones.
///
/// `instrumented` are the facts about `wasm`. The error names the difference.
pub(crate) fn check_instrumented(wasm: &[u8], instrumented: &ModuleFacts<'_>) -> Result<(), String> {
    if instrumented.start.is_some() {
        return Err("its module has a start function".into());
    }
    if !instrumented.data.is_empty() {
        return Err("its module has active data segments".into());
    }
    let functions = instrumented.imported_functions.saturating_add(instrumented.defined_functions);
    let Some(added) = instrumented.defined_functions.checked_sub(ADDED).map(|_| functions - ADDED) else {
        return Err("its module has no state functions".into());
    };
    let state = (added..).zip(STATE_FUNCTIONS).map(|(function, name)| (format!("{STATE}#{name}"), function));
    for (name, function) in state {
        if instrumented.exports.get(&*name) != Some(&(ExternalKind::Func, function)) {
            return Err(format!("its module's export `{name}` is another function"));
        }
    }
    // The other two are the memory and `step`.
    if instrumented.exports.len() != STATE_FUNCTIONS.len() + 2 {
        return Err("its module has further exports".into());
    }
    let bodies: Vec<&[u8]> = instrumented.last_bodies.iter().filter_map(|body| wasm.get(body.clone())).collect();
    let expected = [global_count(instrumented), global_get(instrumented), global_set(instrumented)];
    let accessors = expected.into_iter().map(Function::into_raw_body);
    match &bodies[..] {
        [init, found @ ..] if is_init(init, added) && accessors.eq(found.iter().copied()) => Ok(()),
        _ => Err("its state functions do something else than those of `wasmop build`".into()),
    }
}

/// Returns whether a body could be a result of [`init`]: at most two calls of the module's own functions.
fn is_init(body: &[u8], added: u32) -> bool {
    let body = FunctionBody::new(BinaryReader::new(body, 0));
    let (Ok(locals), Ok(operators)) = (body.get_locals_reader(), body.get_operators_reader()) else { return false };
    let Ok(operators) = operators.into_iter().collect::<Result<Vec<_>, _>>() else { return false };
    let is_call =
        |operator: &Operator<'_>| matches!(operator, Operator::Call { function_index } if *function_index < added);
    let ends = |operators: &[Operator<'_>]| match operators {
        [calls @ .., Operator::End] => calls.len() <= 2 && calls.iter().all(is_call),
        _ => false,
    };
    locals.get_count() == 0 && ends(&operators)
}

/// Returns whether this is a name section that cannot be parsed. The encoder of components would refuse it.
fn has_damaged_names(custom: &CustomSectionReader<'_>) -> bool {
    let KnownCustom::Name(section) = custom.as_known() else { return false };
    let damaged = |map: NameMap<'_>| map.into_iter().any(|naming| naming.is_err());
    section.into_iter().any(|subsection| match subsection {
        Ok(
            Name::Function(map)
            | Name::Type(map)
            | Name::Table(map)
            | Name::Memory(map)
            | Name::Global(map)
            | Name::Element(map)
            | Name::Data(map)
            | Name::Tag(map),
        ) => damaged(map),
        Ok(Name::Local(maps) | Name::Label(maps) | Name::Field(maps)) => {
            maps.into_iter().any(|map| map.map_or(true, |map| damaged(map.names)))
        }
        Ok(Name::Module { .. } | Name::Unknown { .. }) => false,
        Err(_) => true,
    })
}

/// Replaces each active segment by an empty passive one, so that segments keep their numbers for `memory.init`.
///
/// An empty passive segment behaves like an active segment after instantiation.
fn emptied(section: wasmparser::DataSectionReader<'_>) -> Option<wasm_encoder::DataSection> {
    let mut segments = wasm_encoder::DataSection::new();
    for segment in section {
        let segment = segment.ok()?;
        match segment.kind {
            DataKind::Active { .. } => segments.passive([]),
            DataKind::Passive => segments.passive(segment.data.iter().copied()),
        };
    }
    Some(segments)
}

#[cfg(test)]
#[path = "instrument_tests.rs"]
mod tests;
