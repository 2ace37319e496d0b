//! The linear memories that a host can map.

use wasmparser::MemoryType;

use crate::refusal::Refusal;

/// Bytes per WebAssembly page.
pub(crate) const PAGE: u64 = 65_536;

/// Checks that a host can map a memory of this type, in either tier.
pub(crate) fn check_memory(memory: MemoryType) -> Result<(), Refusal> {
    if memory.shared {
        return Err(Refusal::MemoryShared);
    }
    if memory.memory64 {
        return Err(Refusal::Memory64);
    }
    match memory.page_size_log2.map(|log2| 1u64.checked_shl(log2).unwrap_or(0)) {
        None | Some(PAGE) => Ok(()),
        Some(bytes) => Err(Refusal::MemoryPageSize { bytes }),
    }
}
