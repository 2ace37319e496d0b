//! The allocator of a host. Thousands of suspended controllers hold small long-lived allocations between large
//! short-lived ones. For each controller's 1.5 KB, glibc's allocator retains 6 to 8 KB.

#![allow(unsafe_code)]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Few arenas and no per-thread caches, so that freed memory is reused. One background thread of jemalloc returns freed
/// pages to the kernel after a second.
// SAFETY: jemalloc reads a pointer to a C string from this symbol: the first word of a slice is one.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8] =
    b"narenas:2,tcache:false,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1\0";
