//! Packages with changes that `wasmop build` never makes.

const HEADER: usize = 8;
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const EXPORT: u8 = 7;
const START: u8 = 8;
const ELEMENT: u8 = 9;
const FUNCTION_KIND: u8 = 0;
const IMAGE: &[u8] = b"wasmop:memory-image";

/// Adds a start function to the controller's module.
pub fn with_start(package: &[u8], function: u32) -> Vec<u8> {
    changed(package, |id, content, main| {
        if id != CORE_MODULE || !main {
            return content;
        }
        let mut sections = sections(&content);
        let at = sections.iter().position(|(id, _)| *id >= ELEMENT).unwrap_or(sections.len());
        sections.insert(at, (START, leb(function)));
        join(&content[..HEADER], sections)
    })
}

/// Changes an export of the controller's module, whose name ends with `name`, to this function.
pub fn with_export(package: &[u8], name: &str, function: u32) -> Vec<u8> {
    changed(package, |id, content, main| {
        if id != CORE_MODULE || !main {
            return content;
        }
        let mut sections = sections(&content);
        for (_, exports) in sections.iter_mut().filter(|(id, _)| *id == EXPORT) {
            *exports = renumbered(exports, name, function);
        }
        join(&content[..HEADER], sections)
    })
}

/// Replaces the memory image with one of `size` bytes that has these bytes at `offset`.
pub fn with_image(package: &[u8], size: u64, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut image = [&leb(IMAGE.len() as u32), IMAGE, b"wmim", &1u32.to_le_bytes()].concat();
    image.extend(size.to_le_bytes());
    image.extend([1, 0, offset, bytes.len() as u32].iter().flat_map(|number| number.to_le_bytes()));
    image.extend(bytes);
    changed(package, |id, content, _| {
        let is_image = id == CUSTOM && content.get(1..).is_some_and(|name| name.starts_with(IMAGE));
        if is_image { image.clone() } else { content }
    })
}

/// Applies `change` to each section. Its last argument is true for the first core module, which is the controller's.
fn changed(package: &[u8], change: impl Fn(u8, Vec<u8>, bool) -> Vec<u8>) -> Vec<u8> {
    let mut modules = 0;
    let sections = sections(package).into_iter().map(|(id, content)| {
        modules += usize::from(id == CORE_MODULE);
        (id, change(id, content, modules == 1))
    });
    join(&package[..HEADER], sections.collect())
}

fn renumbered(exports: &[u8], name: &str, function: u32) -> Vec<u8> {
    let (count, mut at) = read_leb(exports, 0);
    let mut changed = leb(count);
    for _ in 0..count {
        let (len, begin) = read_leb(exports, at);
        let end = begin + len as usize;
        let (index, next) = read_leb(exports, end + 1);
        let is_meant = exports[end] == FUNCTION_KIND && exports[begin..end].ends_with(name.as_bytes());
        changed.extend(&exports[at..=end]);
        changed.extend(leb(if is_meant { function } else { index }));
        at = next;
    }
    changed
}

fn sections(wasm: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut sections = Vec::new();
    let mut at = HEADER;
    while at < wasm.len() {
        let (len, begin) = read_leb(wasm, at + 1);
        let end = begin + len as usize;
        sections.push((wasm[at], wasm[begin..end].to_vec()));
        at = end;
    }
    sections
}

fn join(header: &[u8], sections: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    let sections =
        sections.into_iter().flat_map(|(id, content)| [vec![id], leb(content.len() as u32), content].concat());
    header.iter().copied().chain(sections).collect()
}

fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// The number, and the position after it.
fn read_leb(bytes: &[u8], at: usize) -> (u32, usize) {
    let (mut value, mut end, mut shift) = (0, at, 0);
    loop {
        let byte = bytes[end];
        value |= u32::from(byte & 0x7f) << shift;
        (end, shift) = (end + 1, shift + 7);
        if byte & 0x80 == 0 {
            return (value, end);
        }
    }
}
