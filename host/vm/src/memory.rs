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
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmop_snapshot::{BaseImage, PAGE};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::page_map;

/// Slices the kernel takes at once (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Wasm memories are at most 4 GiB; reserving all of it lets compiled code skip bounds checks.
const DEFAULT_RESERVATION: usize = 4 << 30;

/// Inaccessible bytes behind a memory: what an access with a constant offset can reach without a check.
pub(crate) const GUARD: usize = 32 << 20;

/// Address space that an instance takes, whatever memory it uses.
pub const RESERVED: usize = DEFAULT_RESERVATION + GUARD;

/// What a new memory starts with: `len` bytes of `file` from `offset`, and zeros up to `size`.
#[derive(Clone, Copy)]
pub struct Mapping<'a> {
    pub file: &'a File,
    /// Page-aligned position in the file.
    pub offset: u64,
    /// Bytes taken from the file; page-aligned, at most `size`.
    pub len: usize,
    /// Size of the memory in bytes; a multiple of the wasm page size, at least the module's minimum.
    pub size: usize,
}

impl<'a> Mapping<'a> {
    /// How an instance is started from `image`. `size`: bytes of memory the instance has, at least the image's.
    pub fn of(image: &'a BaseImage, size: u64) -> io::Result<Mapping<'a>> {
        let (file, offset) = image.place_of(0)?;
        Ok(Mapping { file, offset, len: image.size().min(size) as usize, size: size as usize })
    }
}

/// The memory of an instance that is gone, kept for the next one that starts from the same image: its
/// address space is reserved and mapped, and `anonymous` pages are there already. Faulting a page in
/// costs about ten times as much as copying into one that is there.
pub struct Spare {
    region: Region,
    /// Pages, ascending, that hold what the last instance left in them.
    anonymous: Vec<u32>,
}

impl Spare {
    /// Bytes of RAM it keeps.
    pub fn bytes(&self) -> usize {
        self.anonymous.len() * PAGE
    }
}

/// What `Creator::new_memory` is to make, on this thread.
enum Pending {
    /// Zeros.
    Empty,
    Mapped {
        fd: RawFd,
        offset: u64,
        len: usize,
        size: usize,
    },
    Used {
        region: Region,
        size: usize,
    },
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
    static CREATED: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Runs `instantiate`, whose one linear memory begins as `mapping` (zeros if `None`); returns it
/// with a handle to that memory. `spare` must come from an instance that was started from the same
/// image: it takes the place of a new mapping, and its pages are for the caller to put right, those that
/// are returned. `Err(MemoryCount)` if it created none or several.
pub fn with_mapping<T, E: From<MemoryCount>>(
    mapping: Option<Mapping<'_>>,
    spare: Option<Spare>,
    instantiate: impl FnOnce() -> Result<T, E>,
) -> Result<(T, Memory, Vec<u32>), E> {
    let mut stale = Vec::new();
    let pending = match (mapping, spare) {
        (None, _) => Pending::Empty,
        (Some(m), None) => Pending::Mapped { fd: m.file.as_raw_fd(), offset: m.offset, len: m.len, size: m.size },
        (Some(m), Some(Spare { region, anonymous })) => {
            stale = anonymous;
            stale.retain(|page| (*page as usize) < m.size / PAGE);
            Pending::Used { region, size: m.size }
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
    /// Bytes from `base` that the image was mapped over.
    mapped: usize,
    /// End of the last mapping of a file, bytes from `base`: beyond it, untouched memory is zero.
    file_end: AtomicUsize,
}

impl Region {
    /// Makes `size` bytes accessible; what was there beyond them is gone.
    fn resize(&self, size: usize) -> io::Result<()> {
        let old = self.size.load(Ordering::Acquire);
        let range = |from: usize, to: usize| ((self.base + from) as *mut libc::c_void, to - from);
        // SAFETY: within the region, which has no other user yet.
        let result = unsafe {
            if size > old {
                let (at, len) = range(old, size);
                libc::mprotect(at, len, libc::PROT_READ | libc::PROT_WRITE)
            } else if size < old {
                let (at, len) = range(size, old);
                libc::madvise(at, len, libc::MADV_DONTNEED) | libc::mprotect(at, len, libc::PROT_NONE)
            } else {
                0
            }
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.size.store(size, Ordering::Release);
        Ok(())
    }
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

    /// Bytes from its beginning that are the image's where they are not anonymous.
    pub fn mapped(&self) -> usize {
        self.0.mapped
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

    /// Reads `file` from `file_offset` into `pages`, one after the other.
    pub fn read_pages<T>(
        &self,
        _quiescent: &mut wasmtime::Store<T>,
        file: &File,
        file_offset: u64,
        pages: &[u32],
    ) -> io::Result<()> {
        let mut slices = Vec::new();
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let (offset, len) = (run[0] as usize * PAGE, run.len() * PAGE);
            self.check(offset, len)?;
            slices.push(libc::iovec { iov_base: (self.0.base + offset) as *mut _, iov_len: len });
        }
        let mut at = file_offset;
        for slices in slices.chunks(MAX_SLICES) {
            let len: usize = slices.iter().map(|s| s.iov_len).sum();
            // SAFETY: each slice is in bounds (checked above) and mapped writable, and nothing borrows
            // the memory: see `bytes`.
            let read = unsafe {
                libc::preadv(file.as_raw_fd(), slices.as_ptr(), slices.len() as libc::c_int, at as libc::off_t)
            };
            if read < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut skip = read as usize;
            let mut from = at;
            for slice in slices {
                let have = skip.min(slice.iov_len);
                skip -= have;
                if have < slice.iov_len {
                    // SAFETY: as above.
                    let rest = unsafe {
                        std::slice::from_raw_parts_mut((slice.iov_base as *mut u8).add(have), slice.iov_len - have)
                    };
                    file.read_exact_at(rest, from + have as u64)?;
                }
                from += slice.iov_len as u64;
            }
            at += len as u64;
        }
        Ok(())
    }

    /// Has the kernel make private copies of pages that are going to be written: together that costs much
    /// less than a page fault for each.
    /// `runs`: first page and number of pages.
    pub fn expect_writes(&self, runs: impl Iterator<Item = (u32, u32)>) {
        for (page, count) in runs {
            let (offset, len) = (page as usize * PAGE, count as usize * PAGE);
            if self.check(offset, len).is_ok() {
                // SAFETY: within the memory; no content changes. An error (before Linux 5.14) costs the
                // page faults.
                unsafe { libc::madvise((self.0.base + offset) as *mut _, len, libc::MADV_POPULATE_WRITE) };
            }
        }
    }

    /// Makes `pages`, which must not be beyond the mapped image, what they are in it.
    pub fn forget_pages<T>(&self, _quiescent: &mut wasmtime::Store<T>, pages: &[u32]) -> io::Result<()> {
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let (offset, len) = (run[0] as usize * PAGE, run.len() * PAGE);
            self.check(offset, len)?;
            // SAFETY: drops private copies of this region only, which nothing borrows: see `bytes`. What
            // shows then is the image, or zeros behind it.
            if unsafe { libc::madvise((self.0.base + offset) as *mut _, len, libc::MADV_DONTNEED) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// The memory for another instance, if this is the only handle left: the store must be dropped.
    /// `anonymous`: what [`Memory::dirty_pages`] said after the last call into the guest.
    pub fn into_spare(self, anonymous: Vec<u32>) -> Option<Spare> {
        Arc::into_inner(self.0).map(|region| Spare { region, anonymous })
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
        // `bytes`. While this mapping lives, its owner neither truncates the file below it nor writes
        // where a page shows it: not at all (`snapshot`), or only where pages are anonymous (`soft`).
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
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.0.file_end.fetch_max(offset + len, Ordering::AcqRel);
        Ok(())
    }

    /// Page numbers that may differ from what was mapped, ascending: pages present (or swapped out)
    /// that no file backs. Pages that were only read where no file is mapped may count too; they hold zeros.
    ///
    /// A page beyond all mapped files which the guest has written and zeroed again may be missing: the
    /// kernel may take it back for its shared zero page.
    pub fn dirty_pages(&self) -> io::Result<Vec<u32>> {
        let file_pages = self.0.file_end.load(Ordering::Acquire) / PAGE;
        page_map::dirty(self.addresses(self.size()), file_pages as u32)
    }

    /// Pages of the mapped image that are in the page tables, ascending: those that were touched since it was
    /// mapped, and what the kernel has mapped around them.
    pub fn touched_pages(&self) -> io::Result<Vec<u32>> {
        page_map::touched(self.addresses(self.0.mapped.min(self.size())))
    }

    /// Of its first `len` bytes.
    fn addresses(&self, len: usize) -> Range<usize> {
        self.0.base..self.0.base + len
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
        let pending = PENDING.with(|p| p.borrow_mut().take()).unwrap_or(Pending::Empty);
        let size = match &pending {
            Pending::Empty => minimum,
            Pending::Mapped { size, .. } | Pending::Used { size, .. } => minimum.max(*size),
        };
        let capacity = reserved.unwrap_or(DEFAULT_RESERVATION);
        let total = capacity + guard;
        if size > capacity {
            return Err(format!("memory of {size} bytes exceeds the reservation of {capacity}"));
        }
        let mapping = match pending {
            Pending::Empty => None,
            Pending::Mapped { fd, offset, len, .. } => Some((fd, offset, len)),
            Pending::Used { region, .. } if region.capacity == capacity && region.reserved == total => {
                region.resize(size).map_err(|e| format!("reusing memory: {e}"))?;
                return created(Memory(Arc::new(region)));
            }
            Pending::Used { .. } => return Err("the memory to be used again has other limits".into()),
        };
        let fail = |what: &str| format!("{what}: {}", io::Error::last_os_error());
        // SAFETY: a fresh private mapping at an address the kernel chooses; the later calls only
        // touch the part of it that was just reserved.
        let region = unsafe {
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
            let mapped = mapping.map_or(0, |(_, _, len)| len.min(size));
            let region = Region {
                base: base as usize,
                reserved: total,
                size: AtomicUsize::new(size),
                capacity,
                mapped,
                file_end: AtomicUsize::new(mapped),
            };
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            if let Some((fd, offset, _)) = mapping.filter(|_| mapped > 0) {
                let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
                let at = libc::mmap(base, mapped, rw, flags, fd, offset as libc::off_t);
                if at == libc::MAP_FAILED {
                    return Err(fail("mapping the image"));
                }
            }
            if size > mapped && libc::mprotect(base.byte_add(mapped), size - mapped, rw) != 0 {
                return Err(fail("making memory accessible"));
            }
            region
        };
        created(Memory(Arc::new(region)))
    }
}

/// Lets [`with_mapping`] know.
fn created(memory: Memory) -> Result<Box<dyn LinearMemory>, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `pages` of zeros at a multiple of 2 MiB, with `file` mapped over their beginning.
    fn memory(pages: usize, file: &File, file_pages: usize) -> Memory {
        const ALIGN: usize = 2 << 20;
        let (size, reserved) = (pages * PAGE, pages * PAGE + ALIGN);
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping; the file is mapped within its bounds.
        let (start, base) = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let start = libc::mmap(std::ptr::null_mut(), reserved, rw, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let base = start.byte_add(start.align_offset(ALIGN));
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
            if file_pages > 0 {
                let at = libc::mmap(base, file_pages * PAGE, rw, flags, file.as_raw_fd(), 0);
                assert_ne!(at, libc::MAP_FAILED);
            }
            (start as usize, base as usize)
        };
        // `base` is what gets unmapped: what lies before and behind is given back here.
        // SAFETY: nothing uses these parts.
        unsafe {
            libc::munmap(start as *mut _, base - start);
            libc::munmap((base + size) as *mut _, start + reserved - base - size);
        }
        Memory(Arc::new(Region {
            base,
            reserved: size,
            size: AtomicUsize::new(size),
            capacity: size,
            mapped: file_pages * PAGE,
            file_end: AtomicUsize::new(file_pages * PAGE),
        }))
    }

    fn fill(memory: &Memory, page: u32, byte: u8) {
        memory.check(page as usize * PAGE, PAGE).unwrap();
        // SAFETY: in bounds, and mapped writable.
        unsafe { std::ptr::write_bytes((memory.0.base + page as usize * PAGE) as *mut u8, byte, PAGE) };
    }

    #[test]
    fn both_ways_to_ask_the_kernel_find_the_pages_that_were_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * PAGE as u64).unwrap();
        let memory = memory(4096, &file, 64);
        let written: Vec<u32> = (0..4096).filter(|n| n % 7 == 3 || (100..140).contains(n)).collect();
        for page in &written {
            fill(&memory, *page, 1);
        }
        // Read only: still the file's.
        // SAFETY: within the mapping.
        assert_eq!(unsafe { *(memory.0.base as *const u8) }, 0);
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        assert_eq!(page_map::read(&pagemap, memory.addresses(memory.size())).unwrap(), written);
        match page_map::scan_dirty(&pagemap, memory.addresses(memory.size()), 64) {
            Ok(found) => assert_eq!(found, written),
            Err(e) => assert!(matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)), "{e}"),
        }
        assert_eq!(memory.dirty_pages().unwrap(), written);
    }

    /// Pages that hold zeros after a huge page was split lose their own memory (Linux 6.12 and later). Files
    /// get no huge pages, so the test has anonymous memory stand for a mapped file.
    #[test]
    fn a_zeroed_page_that_the_kernel_took_back_is_dirty_where_a_file_is_mapped() {
        let memory = memory(512, &tempfile::tempfile().unwrap(), 0);
        let advise = |page: u32, pages: usize, advice| {
            // SAFETY: within the mapping; no content changes.
            unsafe { libc::madvise((memory.0.base + page as usize * PAGE) as *mut _, pages * PAGE, advice) }
        };
        advise(0, 512, libc::MADV_HUGEPAGE);
        (0..512).for_each(|page| fill(&memory, page, 1));
        (0..512).step_by(2).for_each(|page| fill(&memory, page, 0));
        // Of a part of a huge page: splits it.
        advise(1, 1, libc::MADV_PAGEOUT);
        let taken_back = 512 - memory.dirty_pages().unwrap().len();
        if taken_back == 0 {
            eprintln!("this kernel has no huge pages, or keeps zeroed parts of them");
        }
        memory.0.file_end.store(256 * PAGE, Ordering::Release);
        let dirty = memory.dirty_pages().unwrap();
        assert!((0..256).all(|page| dirty.binary_search(&page).is_ok()), "{dirty:?}");
        assert_eq!(512 - dirty.len(), taken_back / 2);
    }
}
