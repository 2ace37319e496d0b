use super::*;

/// A memory of `pages` zero pages at a multiple of 2 MiB, with `file` mapped over its beginning.
fn memory(pages: usize, file: &File, file_pages: usize) -> Memory {
    const ALIGN: usize = 2 << 20;
    let (size, reserved) = (pages * PAGE, pages * PAGE + ALIGN);
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping; the file is mapped within it.
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
    // `Region` unmaps from `base` on, so the parts around it go here.
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
fn scan_and_page_map_find_the_written_pages() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 * PAGE as u64).unwrap();
    let memory = memory(4096, &file, 64);
    let written: Vec<u32> = (0..4096).filter(|n| n % 7 == 3 || (100..140).contains(n)).collect();
    for page in &written {
        fill(&memory, *page, 1);
    }
    // A read leaves the page to the file.
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

/// Linux 6.12 and later reclaims zero pages when it splits a huge page. Files get no huge pages, so anonymous memory
/// stands for a mapped file here.
#[test]
fn a_reclaimed_zero_page_is_dirty_where_a_file_is_mapped() {
    let memory = memory(512, &tempfile::tempfile().unwrap(), 0);
    let advise = |page: u32, pages: usize, advice| {
        // SAFETY: within the mapping; no content changes.
        unsafe { libc::madvise((memory.0.base + page as usize * PAGE) as *mut _, pages * PAGE, advice) }
    };
    advise(0, 512, libc::MADV_HUGEPAGE);
    (0..512).for_each(|page| fill(&memory, page, 1));
    (0..512).step_by(2).for_each(|page| fill(&memory, page, 0));
    // On a part of a huge page, this splits it.
    advise(1, 1, libc::MADV_PAGEOUT);
    let reclaimed = 512 - memory.dirty_pages().unwrap().len();
    if reclaimed == 0 {
        eprintln!("this kernel has no huge pages, or keeps zeroed parts of them");
    }
    memory.0.file_end.store(256 * PAGE, Ordering::Release);
    let dirty = memory.dirty_pages().unwrap();
    assert!((0..256).all(|page| dirty.binary_search(&page).is_ok()), "{dirty:?}");
    assert_eq!(512 - dirty.len(), reclaimed / 2);
}
