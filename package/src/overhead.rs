//! What an instance of a core module occupies in the host besides its linear memory.

use wasmparser::{ElementItems, ElementKind, ExternalKind, Payload, TypeRef};

use crate::refusal::{Refusal, malformed};

/// Bytes per table entry in the host.
const TABLE_ENTRY: u64 = 8;
/// Bytes per global in the host.
const GLOBAL: u64 = 16;
/// Bytes per function that a table, an import or an export refers to, in the host.
const FUNCTION_REFERENCE: u64 = 32;

/// Counts of what instances of a core module hold in the host besides linear memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overhead {
    /// Initial entries of all tables.
    pub(crate) table_entries: u64,
    pub(crate) globals: u64,
    /// Items of element segments.
    pub(crate) elements: u64,
    /// Items of passive element segments, which an instance keeps.
    pub(crate) passive_elements: u64,
    /// Imported and exported functions.
    pub(crate) functions: u64,
}

impl Overhead {
    /// Adds the declarations of a section.
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

    /// Adds the overhead of `instances` instances of another module.
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

    /// Returns the bytes of the tables.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.table_entries.saturating_mul(TABLE_ENTRY)
    }

    /// Returns the bytes of everything except tables.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        let references = self.elements.saturating_add(self.functions).saturating_mul(FUNCTION_REFERENCE);
        let segments = self.passive_elements.saturating_mul(2 * TABLE_ENTRY);
        self.globals.saturating_mul(GLOBAL).saturating_add(references).saturating_add(segments)
    }

    /// Returns the total bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.table_bytes().saturating_add(self.fixed_bytes())
    }
}
