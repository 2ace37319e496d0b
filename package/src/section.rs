//! The outermost level of a WebAssembly binary: an eight-byte header, followed by sections of `id, length, content`.
//!
//! It does not interpret the contents of sections, except for the names of custom sections.

use std::ops::Range;

/// The length of `\0asm`, version and layer.
pub(crate) const HEADER: usize = 8;
pub(crate) const COMPONENT_HEADER: [u8; HEADER] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
pub(crate) const MODULE_HEADER: [u8; HEADER] = [0, b'a', b's', b'm', 1, 0, 0, 0];

/// Section IDs of components.
pub(crate) const CUSTOM: u8 = 0;
pub(crate) const CORE_MODULE: u8 = 1;
pub(crate) const CORE_INSTANCE: u8 = 2;
pub(crate) const COMPONENT: u8 = 4;
pub(crate) const ALIAS: u8 = 6;
pub(crate) const TYPE: u8 = 7;
pub(crate) const CANONICAL: u8 = 8;
pub(crate) const START: u8 = 9;
pub(crate) const IMPORT: u8 = 10;
pub(crate) const EXPORT: u8 = 11;

/// The position of a section in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    pub(crate) id: u8,
    /// The name of a custom section. Empty for other sections.
    pub(crate) name: &'a str,
    /// From the ID to the end of the content.
    pub(crate) whole: Range<usize>,
    /// The content. In a custom section, this excludes the name.
    pub(crate) content: Range<usize>,
}

/// A section extends past the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where the section begins.
    pub(crate) offset: usize,
}

/// Iterates over the sections after the header. Ends at the first damaged section.
pub(crate) fn sections(wasm: &[u8]) -> impl Iterator<Item = Result<Section<'_>, Cut>> {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        if at >= wasm.len() {
            return None;
        }
        let section = section_at(wasm, at).ok_or(Cut { offset: at });
        at = section.as_ref().map_or(wasm.len(), |section| section.whole.end);
        Some(section)
    })
}

/// Returns the first custom section with this name.
pub(crate) fn find<'a>(wasm: &'a [u8], name: &str) -> Option<Section<'a>> {
    sections(wasm).map_while(Result::ok).find(|section| section.id == CUSTOM && section.name == name)
}

/// Appends a custom section.
pub(crate) fn push_custom(wasm: &mut Vec<u8>, name: &str, content: &[u8]) {
    use wasm_encoder::{CustomSection, Encode, Section as _};
    let section = CustomSection { name: name.into(), data: content.into() };
    wasm.push(section.id());
    section.encode(wasm);
}

fn section_at(wasm: &[u8], at: usize) -> Option<Section<'_>> {
    let id = *wasm.get(at)?;
    let (len, start) = leb_u32(wasm, at + 1)?;
    let end = start.checked_add(len as usize).filter(|end| *end <= wasm.len())?;
    let mut section = Section { id, name: "", whole: at..end, content: start..end };
    if id == CUSTOM {
        let (len, name) = leb_u32(wasm, start)?;
        let name_end = name.checked_add(len as usize).filter(|name_end| *name_end <= end)?;
        section.name = std::str::from_utf8(&wasm[name..name_end]).ok()?;
        section.content = name_end..end;
    }
    Some(section)
}

/// Decodes an unsigned LEB128 number of at most 32 bits at `at`. Returns its value and its end.
pub(crate) fn leb_u32(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let mut value = 0u64;
    for (count, byte) in bytes.get(at..)?.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * count);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, at + count + 1));
        }
    }
    None
}
