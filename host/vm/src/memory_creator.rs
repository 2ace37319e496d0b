//! Gives wasmtime its linear memories: new mappings of a file, or memories from the pool.
//!
//! wasmtime calls [`HostMemoryCreator`] on the thread that instantiates, without a way to pass an argument. So
//! [`with_mapping`] hands over in a thread-local what to map, and takes the memory that was made from another.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::os::fd::AsRawFd;

use wasmop_snapshot::PAGE;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::memory::{DEFAULT_RESERVATION, FileMapping, Mapping, Memory, PooledMemory};

/// The memory that this thread's next call of `new_memory` makes.
enum PendingMemory {
    /// Zeros.
    Empty,
    /// A mapping, with `size` bytes in all.
    Mapped { mapping: FileMapping, size: usize },
    /// A memory from the pool, resized.
    Reused { memory: PooledMemory, size: usize },
}

thread_local! {
    static PENDING: RefCell<Option<PendingMemory>> = const { RefCell::new(None) };
    static CREATED: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Runs `instantiate`, whose one linear memory begins as `mapping`, or as zeros. Returns its result, the memory, and the
/// memory's stale pages.
///
/// `pooled` replaces a new mapping. It must come from an instance that started from the same image. Its stale pages hold
/// content of that instance, and the caller resets them.
///
/// # Errors
/// [`MemoryCount`] if `instantiate` made no memory or several, and its own errors.
pub fn with_mapping<T, E: From<MemoryCount>>(
    mapping: Option<Mapping<'_>>,
    pooled: Option<PooledMemory>,
    instantiate: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Memory, Vec<u32>), E> {
    let mut stale = Vec::new();
    let pending = match (mapping, pooled) {
        (None, _) => PendingMemory::Empty,
        (Some(Mapping { file, offset, len, size }), None) => {
            PendingMemory::Mapped { mapping: FileMapping { fd: file.as_raw_fd(), offset, len }, size }
        }
        (Some(m), Some(mut memory)) => {
            stale = memory.take_stale(m.size);
            PendingMemory::Reused { memory, size: m.size }
        }
    };
    PENDING.with(|p| *p.borrow_mut() = Some(pending));
    CREATED.with(|c| *c.borrow_mut() = None);
    let made = instantiate();
    let unused = PENDING.with(|p| p.borrow_mut().take());
    let memory = CREATED.with(|c| c.borrow_mut().take());
    let made = made?;
    match (memory, unused) {
        (Some(memory), None) => Ok((made, memory, stale)),
        _ => Err(MemoryCount.into()),
    }
}

/// A component without exactly one linear memory.
#[derive(Debug, thiserror::Error)]
#[error("the component must have exactly one linear memory")]
pub struct MemoryCount;

/// Makes the memories of an engine. Install it with `Config::with_host_memory`, and switch `memory_init_cow` off, since
/// wasmtime panics otherwise (bytecodealliance/wasmtime#10740).
pub(crate) struct HostMemoryCreator(());

impl HostMemoryCreator {
    /// # Errors
    /// If the kernel's pages do not have [`PAGE`] bytes.
    pub fn new() -> Result<HostMemoryCreator, String> {
        match rustix::param::page_size() {
            PAGE => Ok(HostMemoryCreator(())),
            other => Err(format!("the kernel's page size is {other}, only {PAGE} is supported")),
        }
    }
}

struct HostMemory(Memory);

// SAFETY: a new memory has the requested minimum, reservation and guard (`Memory::map`), and `PooledMemory::reuse`
// refuses one with another reservation. `HostMemory` keeps it mapped.
unsafe impl MemoryCreator for HostMemoryCreator {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let pending = PENDING.with(|p| p.borrow_mut().take()).unwrap_or(PendingMemory::Empty);
        let size = match &pending {
            PendingMemory::Empty => minimum,
            PendingMemory::Mapped { size, .. } | PendingMemory::Reused { size, .. } => minimum.max(*size),
        };
        let capacity = reserved.unwrap_or(DEFAULT_RESERVATION);
        if size > capacity {
            return Err(format!("memory of {size} bytes exceeds the reservation of {capacity}"));
        }
        let memory = match pending {
            PendingMemory::Empty => Memory::map(size, capacity, guard, None)?,
            PendingMemory::Mapped { mapping, .. } => Memory::map(size, capacity, guard, Some(mapping))?,
            PendingMemory::Reused { memory, .. } => memory.reuse(size, capacity, guard)?,
        };
        CREATED.with(|c| {
            let mut c = c.borrow_mut();
            if c.is_some() {
                return Err("more than one linear memory".to_string());
            }
            *c = Some(memory.clone());
            Ok(())
        })?;
        Ok(Box::new(HostMemory(memory)))
    }
}

// SAFETY: the pointer stays valid for `byte_capacity` bytes and the guard until the drop, the memory never moves, and
// bytes that it grows by are zero (`Memory`).
unsafe impl LinearMemory for HostMemory {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > self.0.capacity() {
            return Err(wasmtime::Error::msg("memory exceeds its reservation"));
        }
        self.0.grow(new_size).map_err(|error| wasmtime::Error::msg(format!("growing memory: {error}")))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}
