//! Linear memory owned by the host: a file mapped copy-on-write, and which of its pages are dirty.
//!
//! ```text
//!  base             mapped            size              capacity        reserved
//!  ┌────────────────┬─────────────────┬─────────────────┬───────────────┐
//!  │ base image     │ zeros           │ PROT_NONE       │ guard         │
//!  │ MAP_PRIVATE    │ anonymous       │ memory may grow │ never mapped  │
//!  └────────────────┴─────────────────┴─────────────────┴───────────────┘
//! ```
//!
//! A new, a fresh and a resumed instance start by the same operation: map a file `MAP_PRIVATE` where wasmtime expects
//! the memory. No write of a guest reaches the file. A written page becomes anonymous, and `page_map` finds those.

#![allow(unsafe_code)]

use std::cmp::Ordering::{Equal, Greater, Less};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmop_snapshot::{BaseImage, PAGE};

use crate::page_map;

/// Most slices of one vectored read: Linux takes `IOV_MAX`, which is 1024.
const MAX_SLICES: usize = 1024;

/// Bytes of address space for a memory to grow into. All of the 4 GiB that wasm32 can address: compiled code then needs
/// no bounds checks.
pub(crate) const DEFAULT_RESERVATION: usize = 4 << 30;

/// Inaccessible bytes behind a memory: an access with a constant offset can reach them without a check.
pub(crate) const GUARD: usize = 32 << 20;

/// Bytes of address space that an instance takes, however little memory it uses.
pub const RESERVED: usize = DEFAULT_RESERVATION + GUARD;

/// What a new memory starts with: `len` bytes of `file` from `offset`, and zeros up to `size`.
#[derive(Clone, Copy)]
pub struct Mapping<'a> {
    /// The file to map.
    pub file: &'a File,
    /// Position in the file, bytes; page-aligned.
    pub offset: u64,
    /// Bytes to map; page-aligned, at most `size`.
    pub len: usize,
    /// Size of the memory, bytes: a multiple of the WebAssembly page size, at least the module's minimum.
    pub size: usize,
}

impl<'a> Mapping<'a> {
    /// The mapping of `image` for an instance with `size` bytes of memory, at least the image's.
    ///
    /// # Errors
    /// Only those that a faulty disk injects.
    pub fn of(image: &'a BaseImage, size: u64) -> io::Result<Mapping<'a>> {
        let (file, offset) = image.place_of(0)?;
        Ok(Mapping { file, offset, len: image.size().min(size) as usize, size: size as usize })
    }
}

/// A mapping by descriptor: what [`Mapping`] says of the file.
#[derive(Clone, Copy)]
pub(crate) struct FileMapping {
    pub fd: RawFd,
    pub offset: u64,
    pub len: usize,
}

/// The memory of a dropped instance, for the next instance that starts from the same image. Its address space is
/// reserved and mapped, and its `anonymous` pages are present. A page fault costs about ten times as much as copying
/// into a present page.
pub struct PooledMemory {
    region: Region,
    /// Pages, ascending, with content of the last instance.
    anonymous: Vec<u32>,
}

impl PooledMemory {
    /// Bytes of RAM that it holds.
    pub fn bytes(&self) -> usize {
        self.anonymous.len() * PAGE
    }

    /// Takes the pages with stale content that a memory of `size` bytes has.
    pub(crate) fn take_stale(&mut self, size: usize) -> Vec<u32> {
        let mut stale = std::mem::take(&mut self.anonymous);
        stale.retain(|page| (*page as usize) < size / PAGE);
        stale
    }

    /// Turns it into a memory of `size` bytes with this reservation. Stale pages keep their content.
    pub(crate) fn reuse(self, size: usize, capacity: usize, guard: usize) -> Result<Memory, String> {
        let region = self.region;
        if region.capacity != capacity || region.reserved != capacity + guard {
            return Err("the pooled memory has another reservation".into());
        }
        region.resize(size).map_err(|e| format!("reusing memory: {e}"))?;
        Ok(Memory(Arc::new(region)))
    }
}

/// A handle to the memory of an instance. Reads and writes are sound only while no guest code runs. Methods prove that
/// by a mutable borrow of the instance's `Store`: see [`Memory::bytes`].
#[derive(Clone)]
pub struct Memory(Arc<Region>);

/// A reserved range of address space, unmapped when the last handle is dropped.
///
/// Invariant: `base..base + size` is mapped readable and writable, and `base + size..base + reserved` is inaccessible.
struct Region {
    base: usize,
    reserved: usize,
    /// Accessible bytes from `base`. While an instance lives it only grows, by [`Memory::grow`].
    size: AtomicUsize,
    capacity: usize,
    /// Bytes from `base` that the image was mapped over.
    mapped: usize,
    /// Bytes from `base` to the end of the last mapping of a file. Beyond it, untouched memory is zero.
    file_end: AtomicUsize,
}

impl Region {
    /// Reserves address space, makes `size` bytes accessible, and maps `mapping` over their beginning.
    fn map(size: usize, capacity: usize, guard: usize, mapping: Option<FileMapping>) -> Result<Region, String> {
        let fail = |what: &str| format!("{what}: {}", io::Error::last_os_error());
        let reserved = capacity + guard;
        // SAFETY: a new private mapping at an address that the kernel chooses. It replaces nothing.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(fail("reserving address space"));
        }
        let mapped = mapping.map_or(0, |mapping| mapping.len.min(size));
        // From here on, dropping it unmaps.
        let region = Region {
            base: base as usize,
            reserved,
            size: AtomicUsize::new(size),
            capacity,
            mapped,
            file_end: AtomicUsize::new(mapped),
        };
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        if let Some(FileMapping { fd, offset, .. }) = mapping.filter(|_| mapped > 0) {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
            // SAFETY: `mapped <= size <= reserved`, so this replaces pages of the new reservation only. The caller of
            // `with_mapping` keeps the file open.
            let at = unsafe { libc::mmap(base, mapped, rw, flags, fd, offset as libc::off_t) };
            if at == libc::MAP_FAILED {
                return Err(fail("mapping the image"));
            }
        }
        // SAFETY: `mapped..size` lies within the new reservation, which has no other user.
        if size > mapped && unsafe { libc::mprotect(base.byte_add(mapped), size - mapped, rw) } != 0 {
            return Err(fail("making memory accessible"));
        }
        Ok(region)
    }

    /// Changes the accessible size. Content beyond `size` is dropped.
    fn resize(&self, size: usize) -> io::Result<()> {
        let old = self.size.load(Ordering::Acquire);
        let range = |from: usize, to: usize| ((self.base + from) as *mut libc::c_void, to - from);
        // SAFETY: both ranges lie within the reservation, and a pooled memory has no other user.
        let result = unsafe {
            match size.cmp(&old) {
                Greater => {
                    let (at, len) = range(old, size);
                    libc::mprotect(at, len, libc::PROT_READ | libc::PROT_WRITE)
                }
                Less => {
                    let (at, len) = range(size, old);
                    libc::madvise(at, len, libc::MADV_DONTNEED) | libc::mprotect(at, len, libc::PROT_NONE)
                }
                Equal => 0,
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
        // SAFETY: `Region::map` has mapped exactly this range. No handle is left: the instance's `LinearMemory` and every
        // `Memory` share one `Arc`, and a `PooledMemory` owns the region.
        unsafe { libc::munmap(self.base as *mut _, self.reserved) };
    }
}

impl Memory {
    /// Maps a new memory of `size` bytes, which can grow to `capacity`.
    pub(crate) fn map(
        size: usize,
        capacity: usize,
        guard: usize,
        mapping: Option<FileMapping>,
    ) -> Result<Memory, String> {
        Region::map(size, capacity, guard, mapping).map(|region| Memory(Arc::new(region)))
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.size.load(Ordering::Acquire)
    }

    /// Bytes from the beginning that show the image where pages are not anonymous.
    pub fn mapped(&self) -> usize {
        self.0.mapped
    }

    /// Bytes that the memory can grow to.
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Address of the first byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.base as *mut u8
    }

    /// Makes the memory accessible up to `size` bytes, at most its capacity. The new bytes are zero.
    pub(crate) fn grow(&self, size: usize) -> io::Result<()> {
        let old = self.size();
        let more = size.saturating_sub(old);
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: `LinearMemory::grow_to` has checked the capacity, so the range lies within the reservation. Its pages
        // were inaccessible, hence zero.
        if unsafe { libc::mprotect((self.0.base + old) as *mut _, more, rw) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.0.size.store(size, Ordering::Release);
        Ok(())
    }

    /// The whole memory. `_quiescent` is the instance's store: the exclusive borrow proves that no guest code runs while
    /// the slice lives.
    pub fn bytes<'a, T>(&'a self, _quiescent: &'a mut wasmtime::Store<T>) -> &'a [u8] {
        // SAFETY: `base..base + size` is mapped readable while the region lives. The exclusive borrow of the store keeps
        // guest code from writing.
        unsafe { std::slice::from_raw_parts(self.0.base as *const u8, self.size()) }
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "outside of the memory")),
        }
    }

    /// Copies `data` to `offset`.
    ///
    /// # Errors
    /// If the range is outside of the memory.
    pub fn write<T>(&self, _quiescent: &mut wasmtime::Store<T>, offset: usize, data: &[u8]) -> io::Result<()> {
        self.check(offset, data.len())?;
        // SAFETY: in bounds (just checked), mapped writable, and not borrowed: see `bytes`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), (self.0.base + offset) as *mut u8, data.len()) };
        Ok(())
    }

    /// Reads `file` from `file_offset` on into `pages`, one after the other.
    ///
    /// # Errors
    /// If a page is outside of the memory, reading fails, or the file ends before.
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
            // SAFETY: each slice is in bounds (checked above), mapped writable, and not borrowed: see `bytes`.
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
                    // SAFETY: a part of one of these slices, and `preadv` has returned.
                    let rest = unsafe {
                        std::slice::from_raw_parts_mut(slice.iov_base.cast::<u8>().add(have), slice.iov_len - have)
                    };
                    file.read_exact_at(rest, from + have as u64)?;
                }
                from += slice.iov_len as u64;
            }
            at += len as u64;
        }
        Ok(())
    }

    /// Prefaults pages for writing: the kernel makes private copies of all at once, which costs much less than one page
    /// fault for each. `runs`: first page and number of pages.
    pub fn prefault(&self, runs: impl Iterator<Item = (u32, u32)>) {
        for (page, count) in runs {
            let (offset, len) = (page as usize * PAGE, count as usize * PAGE);
            if self.check(offset, len).is_ok() {
                // SAFETY: within the memory (just checked), and no content changes. An error, as before Linux 5.14, costs
                // the page faults.
                unsafe { libc::madvise((self.0.base + offset) as *mut _, len, libc::MADV_POPULATE_WRITE) };
            }
        }
    }

    /// Discards the private copies of `pages`: they show the mapped file again, or zeros.
    ///
    /// # Errors
    /// If a page is outside of the memory, or the kernel refuses.
    pub fn discard_pages<T>(&self, _quiescent: &mut wasmtime::Store<T>, pages: &[u32]) -> io::Result<()> {
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let (offset, len) = (run[0] as usize * PAGE, run.len() * PAGE);
            self.check(offset, len)?;
            // SAFETY: drops private pages of this region only (just checked), which nothing borrows: see `bytes`.
            if unsafe { libc::madvise((self.0.base + offset) as *mut _, len, libc::MADV_DONTNEED) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// The memory for the pool. `None` unless this is the last handle, so the store must be dropped first. `anonymous`:
    /// [`Memory::dirty_pages`] after the last call into the guest.
    pub fn into_pooled(self, anonymous: Vec<u32>) -> Option<PooledMemory> {
        Arc::into_inner(self.0).map(|region| PooledMemory { region, anonymous })
    }

    /// Maps `len` bytes of `file` from `file_offset` over the memory at `offset`, copy-on-write: untouched pages cost
    /// nothing. All three are page-aligned.
    ///
    /// While the mapping lives, the owner of the file must not truncate it below the mapping, and must not write where
    /// this memory shows the file.
    ///
    /// # Errors
    /// If the range is outside of the memory or not aligned, or the kernel refuses.
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
        // SAFETY: replaces pages of this region only (just checked), which nothing borrows: see `bytes`. No write to the
        // file shows in the memory: saves never write to mapped slots, and the soft tier writes only to pages that are
        // anonymous here.
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

    /// Pages that may differ from what was mapped, ascending: present or swapped out, and not backed by a file. Pages
    /// beyond all mapped files that were only read may be among them; they are zero.
    ///
    /// A page beyond all mapped files that the guest has written and zeroed again may be missing, because the kernel may
    /// replace it by its shared zero page.
    ///
    /// # Errors
    /// If `/proc/self/pagemap` cannot be read.
    pub fn dirty_pages(&self) -> io::Result<Vec<u32>> {
        let file_pages = self.0.file_end.load(Ordering::Acquire) / PAGE;
        page_map::dirty(self.addresses(self.size()), file_pages as u32)
    }

    /// Pages of the mapped image that are in the page tables, ascending: those touched since the image was mapped, and
    /// those that the kernel has mapped around them.
    ///
    /// # Errors
    /// If the kernel cannot scan page tables, as before Linux 6.7.
    pub fn touched_pages(&self) -> io::Result<Vec<u32>> {
        page_map::touched(self.addresses(self.0.mapped.min(self.size())))
    }

    /// Addresses of the first `len` bytes.
    fn addresses(&self, len: usize) -> Range<usize> {
        self.0.base..self.0.base + len
    }
}

#[cfg(test)]
mod tests;
