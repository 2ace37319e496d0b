//! A global allocator in a wasmop guest: the one of the standard library, because the original is a library in C.

use std::alloc::{GlobalAlloc, Layout, System};

macro_rules! allocators {
    ($($name:ident)*) => {$(
        /// The allocator of the standard library.
        #[derive(Copy, Clone, Default, Debug)]
        pub struct $name;

        // SAFETY: all methods are those of `System`.
        unsafe impl GlobalAlloc for $name {
            unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
                unsafe { System.alloc(layout) }
            }

            unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
                unsafe { System.alloc_zeroed(layout) }
            }

            unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
                unsafe { System.dealloc(memory, layout) }
            }

            unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
                unsafe { System.realloc(memory, layout, size) }
            }
        }
    )*};
}

allocators!(Jemalloc MiMalloc SnMalloc);
