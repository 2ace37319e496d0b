//! Checks the structure of a package's component. This happens for every parsed package, because packages are
//! untrusted.
//!
//! ```text
//! component
//! ├─ main core module     has the only memory; instrumented (full tier)
//! ├─ other core modules   adapters and linking: no memory, no start, no data; at most `MAX_LINKING_MODULES`
//! ├─ core instances       one per module
//! ├─ lifted functions     step and the state functions of the main module, without callbacks
//! └─ nested components    only types, imports and exports
//! ```
//!
//! Consequently, code of a package of the full tier runs only in the functions that the host calls, and the footprint
//! of an instance is known before instantiation. Components of the soft tier come from other tools. For these, only the
//! rules about nested components and the single memory apply. Function bodies are checked before compilation.

use std::collections::HashSet;
use std::ops::Range;

use wasmparser::{
    BinaryReader, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExport, ComponentExternalKind,
    ComponentImport, ComponentOuterAliasKind, ComponentTypeRef, Encoding, ExternalKind, FromReader, Instance,
    MemoryType, Parser, Payload, SectionLimited, ValType,
};

use crate::instrument::check_instrumented;
use crate::memory_type::{PAGE, check_memory};
use crate::overhead::Overhead;
use crate::section::{self, Section};
use crate::tier::Tier;
use crate::validate::survey;

/// Two adapters, and two modules with which `wit-component` links them.
const MAX_LINKING_MODULES: usize = 4;
/// The tables of a linking module have at most this many entries. They need one per function of the world.
const MAX_LINKING_TABLE: u64 = 256;
/// A linking module has at most this many mutable globals. The `wasmop_rt` adapter has two.
const MAX_LINKING_GLOBALS: usize = 2;

/// What an instance of a component occupies before any of its code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of initial linear memory.
    pub memory: u64,
    /// Bytes of tables.
    pub tables: u64,
    /// Bytes of globals and function references.
    pub fixed: u64,
}

impl Footprint {
    /// Returns the total bytes, which count toward the memory limit.
    pub fn bytes(&self) -> u64 {
        self.memory.saturating_add(self.tables).saturating_add(self.fixed)
    }
}

/// The structure of a checked component.
#[derive(Clone, Debug)]
pub(crate) struct Structure {
    pub(crate) footprint: Footprint,
    /// The positions of the core modules.
    pub(crate) modules: Vec<Range<usize>>,
    /// The index of the module with the memory.
    pub(crate) main: usize,
}

impl Structure {
    /// Checks a component. The error is a phrase about the component.
    pub(crate) fn check(component: &[u8], tier: Tier) -> Result<Structure, String> {
        let modules = modules(component)?;
        let instances = instances(component, modules.len())?;
        let mut overhead = Overhead::default();
        let mut memories = Vec::new();
        for (number, (module, instances)) in modules.iter().zip(&instances).enumerate() {
            let mut one = Overhead::default();
            let memory = declared(&component[module.clone()], &mut one)?;
            overhead.add(&one, *instances);
            memories.extend(memory.into_iter().map(|memory| (number, memory)));
        }
        let [(main, memory)] = memories[..] else {
            return Err(format!("it has {} linear memories; there is exactly one", memories.len()));
        };
        check_memory(memory).map_err(|refusal| headline(&refusal.to_string()))?;
        if instances[main] > 1 {
            return Err("the core module with the memory is instantiated twice".into());
        }
        let memory = memory.initial.saturating_mul(PAGE);
        let footprint = Footprint { memory, tables: overhead.table_bytes(), fixed: overhead.fixed_bytes() };
        let structure = Structure { footprint, modules, main };
        if tier == Tier::Full {
            structure.check_full(component)?;
        }
        Ok(structure)
    }

    fn check_full(&self, component: &[u8]) -> Result<(), String> {
        if self.modules.len() - 1 > MAX_LINKING_MODULES {
            return Err(format!("it has {} core modules", self.modules.len()));
        }
        for (number, module) in self.modules.iter().enumerate() {
            let module = &component[module.clone()];
            if number == self.main {
                let core = survey(module).map_err(|refusal| headline(&refusal.to_string()))?;
                check_instrumented(module, &core)?;
            } else {
                check_linking(module)?;
            }
        }
        Wiring { main: self.main, modules: self.modules.len(), ..Wiring::default() }.check(component)
    }
}

/// Returns the first line of an error. The help is for authors of the source project, not for users of the package.
fn headline(message: &str) -> String {
    message.lines().next().unwrap_or_default().into()
}

fn damaged(error: &wasmparser::Error) -> String {
    format!("at offset {}: {}", error.offset(), error.message())
}

fn items<'a, T: FromReader<'a>>(component: &'a [u8], section: &Section<'_>) -> Result<Vec<T>, String> {
    let reader = BinaryReader::new(&component[section.content.clone()], section.content.start);
    let items = SectionLimited::new(reader).map_err(|error| damaged(&error))?;
    items.into_iter().collect::<Result<_, _>>().map_err(|error| damaged(&error))
}

fn sections(component: &[u8]) -> impl Iterator<Item = Result<Section<'_>, String>> {
    section::sections(component)
        .map(|section| section.map_err(|cut| format!("it is truncated at offset {}", cut.offset)))
}

/// Returns the core modules of a component. Nested components must not have any.
fn modules(component: &[u8]) -> Result<Vec<Range<usize>>, String> {
    let mut modules = Vec::new();
    for section in sections(component) {
        let section = section?;
        match section.id {
            section::CORE_MODULE => modules.push(section.content),
            section::COMPONENT => check_nested(&component[section.content])?,
            section::START => return Err("it has a start function".into()),
            _ => {}
        }
    }
    Ok(modules)
}

/// Returns how often each core module of the component is instantiated.
///
/// Imported, exported and aliased modules are refused, because they would shift the module indices.
fn instances(component: &[u8], modules: usize) -> Result<Vec<u64>, String> {
    let mut instances = vec![0; modules];
    let renamed = || Err("it imports, exports or renames a core module".into());
    for section in sections(component) {
        let section = section?;
        match section.id {
            section::CORE_INSTANCE => {
                for instance in items::<Instance<'_>>(component, &section)? {
                    if let Instance::Instantiate { module_index, .. } = instance {
                        let count = instances.get_mut(module_index as usize);
                        *count.ok_or("it instantiates a core module that it does not have")? += 1;
                    }
                }
            }
            section::ALIAS => {
                let is_module = |alias: &ComponentAlias<'_>| {
                    matches!(
                        alias,
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
                            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }
                    )
                };
                if items(component, &section)?.iter().any(is_module) {
                    return renamed();
                }
            }
            section::IMPORT => {
                let imports: Vec<ComponentImport<'_>> = items(component, &section)?;
                if imports.iter().any(|import| matches!(import.ty, ComponentTypeRef::Module(_))) {
                    return renamed();
                }
            }
            section::EXPORT => {
                let exports: Vec<ComponentExport<'_>> = items(component, &section)?;
                if exports.iter().any(|export| export.kind == ComponentExternalKind::Module) {
                    return renamed();
                }
            }
            _ => {}
        }
    }
    Ok(instances)
}

/// Checks a nested component. It may only turn functions into exported instances, without code or instances of its own.
fn check_nested(component: &[u8]) -> Result<(), String> {
    if !component.starts_with(&section::COMPONENT_HEADER) {
        return Err("a nested component has another version".into());
    }
    for section in sections(component) {
        let allowed = [section::CUSTOM, section::ALIAS, section::TYPE, section::IMPORT, section::EXPORT];
        if !allowed.contains(&section?.id) {
            return Err("a nested component has code or instances of its own".into());
        }
    }
    Ok(())
}

/// Adds the overhead of a module's declarations. Returns its memories.
fn declared(module: &[u8], overhead: &mut Overhead) -> Result<Vec<MemoryType>, String> {
    let mut memories = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| damaged(&error))?;
        if let Payload::Version { encoding: Encoding::Component, .. } = payload {
            return Err("a component is in place of a core module".into());
        }
        overhead.section(&payload).map_err(|refusal| headline(&refusal.to_string()))?;
        if let Payload::MemorySection(section) = payload {
            for memory in section {
                memories.push(memory.map_err(|error| damaged(&error))?);
            }
        }
    }
    Ok(memories)
}

/// Checks a module of the full tier other than the main module.
fn check_linking(module: &[u8]) -> Result<(), String> {
    let mut overhead = Overhead::default();
    let mut mutable = 0;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| damaged(&error))?;
        overhead.section(&payload).map_err(|refusal| headline(&refusal.to_string()))?;
        match payload {
            Payload::StartSection { .. } => return Err("an adapter has a start function".into()),
            Payload::DataSection(section) if section.count() > 0 => return Err("an adapter has data segments".into()),
            Payload::GlobalSection(section) => {
                for global in section {
                    let ty = global.map_err(|error| damaged(&error))?.ty;
                    if ty.mutable {
                        mutable += 1;
                    }
                    if mutable > MAX_LINKING_GLOBALS || ty.content_type != ValType::I32 {
                        return Err("an adapter has globals of its own".into());
                    }
                }
            }
            _ => {}
        }
    }
    if overhead.table_entries > MAX_LINKING_TABLE || overhead.passive_elements > 0 {
        return Err("an adapter has tables of its own".into());
    }
    Ok(())
}

/// Checks how the core modules of a component are connected.
#[derive(Default)]
struct Wiring<'a> {
    main: usize,
    modules: usize,
    instantiated: HashSet<u32>,
    /// The core instance index space. True for instances of the main module.
    instances: Vec<bool>,
    /// The core function index space. Names for exports of the main instance, `None` for others.
    functions: Vec<Option<&'a str>>,
}

impl<'a> Wiring<'a> {
    fn check(mut self, component: &'a [u8]) -> Result<(), String> {
        for section in sections(component) {
            let section = section?;
            match section.id {
                section::CORE_INSTANCE => {
                    items(component, &section)?.into_iter().try_for_each(|i| self.instance(&i))?
                }
                section::ALIAS => items(component, &section)?.into_iter().for_each(|alias| self.alias(&alias)),
                section::CANONICAL => {
                    items(component, &section)?.into_iter().try_for_each(|function| self.canonical(&function))?;
                }
                _ => {}
            }
        }
        if self.instantiated.len() == self.modules { Ok(()) } else { Err("a core module is not used".into()) }
    }

    fn instance(&mut self, instance: &Instance<'_>) -> Result<(), String> {
        let is_main = match instance {
            Instance::Instantiate { module_index, .. } => {
                if !self.instantiated.insert(*module_index) {
                    return Err("a core module is instantiated twice".into());
                }
                *module_index as usize == self.main
            }
            Instance::FromExports(_) => false,
        };
        self.instances.push(is_main);
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) {
        if let ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } = alias {
            let of_main = self.instances.get(*instance_index as usize) == Some(&true);
            self.functions.push(of_main.then_some(name));
        }
    }

    fn canonical(&mut self, function: &CanonicalFunction) -> Result<(), String> {
        match function {
            CanonicalFunction::Lower { options, .. } => {
                self.functions.push(None);
                let synchronous = |option: &CanonicalOption| {
                    !matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_) | CanonicalOption::Gc)
                };
                if options.iter().all(synchronous) { Ok(()) } else { Err("it imports asynchronous functions".into()) }
            }
            CanonicalFunction::Lift { core_func_index, options, .. } => {
                if !matches!(self.functions.get(*core_func_index as usize), Some(Some(_))) {
                    return Err("it exports a function that is not of its module".into());
                }
                let plain = |option: &CanonicalOption| {
                    matches!(option, CanonicalOption::UTF8 | CanonicalOption::Memory(_) | CanonicalOption::CoreType(_))
                };
                if options.iter().all(plain) { Ok(()) } else { Err("its exported functions call others".into()) }
            }
            _ => Err("it uses functions of the component model that controllers do not need".into()),
        }
    }
}

#[cfg(test)]
#[path = "structure_tests.rs"]
mod tests;
