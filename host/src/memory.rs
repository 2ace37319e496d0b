//! Linear memory owned by the host: a file mapped copy-on-write, and which of its pages are dirty.
//!
//! A fresh instance, one started from a base image and a resumed one are the same operation: map a
//! file `MAP_PRIVATE` where wasmtime expects the memory. Nothing the guest writes reaches the file;
//! a written page becomes anonymous, and `/proc/self/pagemap` tells which ones did.
//!
//! This is the one place with `unsafe` memory code. wasmtime calls [`Creator`] on the thread that
//! instantiates, so what to map is handed over in a thread-local by [`with_mapping`].

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// Bytes in a page as the snapshot format counts them; also the kernel's page size on every
/// platform the host supports (checked in [`Creator::new`]).
pub const PAGE: usize = 4096;

/// Wasm memories are at most 4 GiB; reserving all of it lets compiled code skip bounds checks.
const DEFAULT_RESERVATION: usize = 4 << 30;

/// What a new memory starts with: `len` bytes of `file` from `offset`, and zeros up to `size`.
#[derive(Clone)]
pub struct Mapping {
    pub file: Arc<File>,
    /// Page-aligned position in the file.
    pub offset: u64,
    /// Bytes taken from the file; page-aligned, at most `size`.
    pub len: usize,
    /// Size of the memory in bytes; a multiple of the wasm page size, at least the module's minimum.
    pub size: usize,
}

thread_local! {
    static PENDING: RefCell<Option<Mapping>> = const { RefCell::new(None) };
    static CREATED: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Runs `instantiate`, whose one linear memory begins as `mapping` (zeros if `None`); returns it
/// with a handle to that memory. `Err(MemoryCount)` if it created none or several.
pub fn with_mapping<T, E: From<MemoryCount>>(
    mapping: Option<Mapping>,
    instantiate: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Memory), E> {
    PENDING.with(|p| *p.borrow_mut() = mapping);
    CREATED.with(|c| *c.borrow_mut() = None);
    let made = instantiate();
    let unused = PENDING.with(|p| p.borrow_mut().take());
    let memory = CREATED.with(|c| c.borrow_mut().take());
    let made = made?;
    match (memory, unused) {
        (Some(memory), None) => Ok((made, memory)),
        _ => Err(MemoryCount.into()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the component must have exactly one linear memory")]
pub struct MemoryCount;

/// A handle to the memory of a live instance. Reading is sound only while no guest code runs,
/// which its owner ensures by holding the `Store` mutably: see [`Memory::pages`].
#[derive(Clone)]
pub struct Memory(Arc<Region>);

/// One reserved stretch of address space; unmapped when the last handle goes.
struct Region {
    base: usize,
    reserved: usize,
    /// Accessible bytes from `base`; only grows, only through `LinearMemory::grow_to`.
    size: AtomicUsize,
    capacity: usize,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region was mapped by `Creator::new_memory` and nobody else holds it: the
        // instance's `LinearMemory` and every `Memory` share this `Arc`.
        unsafe { libc::munmap(self.base as *mut _, self.reserved) };
    }
}

impl Memory {
    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.size.load(Ordering::Acquire)
    }

    /// The whole memory. `_quiescent` is the store of the instance: holding it exclusively proves
    /// that no guest code runs while the slice lives.
    pub fn bytes<'a, T>(&'a self, _quiescent: &'a mut wasmtime::Store<T>) -> &'a [u8] {
        // SAFETY: `base..base+size` is mapped readable for the life of the region, and the
        // exclusive borrow of the store keeps guest code from writing meanwhile.
        unsafe { std::slice::from_raw_parts(self.0.base as *const u8, self.size()) }
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "outside of memory")),
        }
    }

    /// Copies `data` to `offset`, before the instance runs for the first time in this process.
    pub fn write<T>(&self, _quiescent: &mut wasmtime::Store<T>, offset: usize, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        // SAFETY: in bounds (just checked), mapped writable, and not aliased: see `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), (self.0.base + offset) as *mut u8, data.len()) };
        Ok(())
    }

    /// Reads `len` bytes at `file_offset` of `file` straight into memory at `offset`.
    pub fn read_from<T>(
        &self,
        _quiescent: &mut wasmtime::Store<T>,
        file: &File,
        file_offset: u64,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        self.check(offset, len)?;
        // SAFETY: as in `write`.
        let target = unsafe { std::slice::from_raw_parts_mut((self.0.base + offset) as *mut u8, len) };
        file.read_exact_at(target, file_offset)
    }

    /// Maps `len` bytes of `file` from `file_offset` over the memory at `offset`, copy-on-write, as
    /// the base image is: pages that are not touched cost nothing. All three are page-aligned.
    pub fn map_from<T>(
        &self,
        _quiescent: &mut wasmtime::Store<T>,
        file: &File,
        file_offset: u64,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        self.check(offset, len)?;
        if !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) || !file_offset.is_multiple_of(PAGE as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not page-aligned"));
        }
        // SAFETY: replaces pages of this region only (just checked), which nothing borrows: see
        // `bytes`. The file is never truncated once it is mapped, nor written where a page shows it:
        // never at all (`snapshot`), or only where pages are anonymous (`soft`).
        let at = unsafe {
            libc::mmap(
                (self.0.base + offset) as *mut _,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                file_offset as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Page numbers that differ from what was mapped, ascending: pages present (or swapped out)
    /// that are no longer backed by the file. Pages only read beyond the file count too; they hold
    /// zeros.
    pub fn dirty_pages(&self) -> io::Result<Vec<u32>> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE_BACKED: u64 = 1 << 61;
        static PAGEMAP: OnceLock<io::Result<File>> = OnceLock::new();
        let pagemap = PAGEMAP
            .get_or_init(|| File::open("/proc/self/pagemap"))
            .as_ref()
            .map_err(|e| io::Error::new(e.kind(), format!("/proc/self/pagemap: {e}")))?;
        let pages = self.size() / PAGE;
        let mut dirty = Vec::new();
        let mut buffer = vec![0u8; pages.min(8192) * 8];
        let mut first = 0;
        while first < pages {
            let count = (pages - first).min(8192);
            let entries = &mut buffer[..count * 8];
            pagemap.read_exact_at(entries, ((self.0.base / PAGE + first) * 8) as u64)?;
            for (i, entry) in entries.as_chunks::<8>().0.iter().enumerate() {
                let entry = u64::from_ne_bytes(*entry);
                if entry & (PRESENT | SWAPPED) != 0 && entry & FILE_BACKED == 0 {
                    dirty.push((first + i) as u32);
                }
            }
            first += count;
        }
        Ok(dirty)
    }
}

/// Gives memory the allocator has freed but kept back to the kernel. Compiling a package or a burst
/// of live instances leaves tens of MiB of it, which would stay for as long as the host runs.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` has no preconditions; it locks the arenas it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives wasmtime its memories. Install with `Config::with_host_memory`, and switch
/// `memory_init_cow` off (wasmtime panics otherwise; bytecodealliance/wasmtime#10740).
pub struct Creator(());

impl Creator {
    /// `Err` with an explanation if the kernel's pages aren't [`PAGE`] bytes.
    pub fn new() -> Result<Creator, String> {
        match rustix::param::page_size() {
            PAGE => Ok(Creator(())),
            other => Err(format!("the kernel's page size is {other}, only {PAGE} is supported")),
        }
    }
}

struct HostMemory(Memory);

// SAFETY (both impls): the returned pointer stays valid for `byte_capacity` bytes plus guard until
// drop, the memory never moves, grown bytes are zero, and `reserved`/`guard` are honoured.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let mapping = PENDING.with(|p| p.borrow_mut().take());
        let size = mapping.as_ref().map_or(minimum, |m| m.size.max(minimum));
        let capacity = reserved.unwrap_or(DEFAULT_RESERVATION);
        let total = capacity + guard;
        if size > capacity {
            return Err(format!("memory of {size} bytes exceeds the reservation of {capacity}"));
        }
        let fail = |what: &str| format!("{what}: {}", io::Error::last_os_error());
        // SAFETY: a fresh private mapping at an address the kernel chooses; the later calls only
        // touch the part of it that was just reserved.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                total,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return Err(fail("reserving address space"));
            }
            let region =
                Arc::new(Region { base: base as usize, reserved: total, size: AtomicUsize::new(size), capacity });
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let mut mapped = 0;
            if let Some(m) = mapping.filter(|m| m.len > 0) {
                let at = libc::mmap(
                    base,
                    m.len.min(size),
                    rw,
                    libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    m.file.as_raw_fd(),
                    m.offset as libc::off_t,
                );
                if at == libc::MAP_FAILED {
                    return Err(fail("mapping the image"));
                }
                mapped = m.len.min(size);
            }
            if size > mapped && libc::mprotect(base.byte_add(mapped), size - mapped, rw) != 0 {
                return Err(fail("making memory accessible"));
            }
            let memory = Memory(region);
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
}

unsafe impl LinearMemory for HostMemory {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        self.0.0.capacity
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        let region = &self.0.0;
        let old = self.0.size();
        if new_size > region.capacity {
            return Err(wasmtime::Error::msg("memory exceeds its reservation"));
        }
        // SAFETY: within the reservation; these pages were inaccessible, hence zero.
        let result = unsafe {
            libc::mprotect(
                (region.base + old) as *mut _,
                new_size.saturating_sub(old),
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if result != 0 {
            return Err(wasmtime::Error::msg(format!("growing memory: {}", io::Error::last_os_error())));
        }
        region.size.store(new_size, Ordering::Release);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.0.base as *mut u8
    }
}
