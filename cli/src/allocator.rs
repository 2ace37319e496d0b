//! The allocator of a host: what thousands of suspended controllers hold is small pieces that live
//! long, between large ones that come and go. glibc's keeps 6 to 8 KB for each that hold 1.5 KB.

#![allow(unsafe_code)]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Few arenas and no per-thread caches, so that freed pieces are used again; freed pages go back to the
/// kernel after a second, by one thread of jemalloc's own.
// SAFETY: jemalloc reads a pointer to a C string from this symbol: the first word of a slice is one.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: &[u8] =
    b"narenas:2,tcache:false,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1\0";
