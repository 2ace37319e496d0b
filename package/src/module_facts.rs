//! What instrumentation and packaging need to know about a core module.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use wasmparser::{ExternalKind, ValType};

use crate::overhead::Overhead;

/// The facts about a validated core module.
#[derive(Debug, Default)]
pub(crate) struct ModuleFacts<'a> {
    /// Number of entries in the type index space.
    pub(crate) types: u32,
    pub(crate) imported_functions: u32,
    pub(crate) defined_functions: u32,
    /// Index and type of each mutable global, in the order in which the accessors number them.
    pub(crate) globals: Vec<(u32, ValType)>,
    /// The function of the start section.
    pub(crate) start: Option<u32>,
    /// The exported function `_initialize` of a reactor, such as a Go program.
    pub(crate) initialize: Option<u32>,
    /// The exported function `_start` of a command, such as a Rust binary.
    pub(crate) command: Option<u32>,
    /// The exported step function.
    pub(crate) step: u32,
    /// Initial bytes of linear memory.
    pub(crate) memory: u64,
    /// Offset and content of each active data segment, in order.
    pub(crate) data: Vec<(u32, &'a [u8])>,
    /// Whether the code uses `memory.init`. If so, data segments must keep their numbers.
    pub(crate) uses_memory_init: bool,
    /// Whether the module imports from `wasi_snapshot_preview1`.
    pub(crate) imports_wasi: bool,
    /// Whether the module imports from `wasmop_rt`.
    pub(crate) imports_rt: bool,
    pub(crate) exports: BTreeMap<&'a str, (ExternalKind, u32)>,
    /// The positions of the last function bodies, in order. As many as instrumentation appends.
    pub(crate) last_bodies: VecDeque<Range<usize>>,
    /// What an instance holds in the host besides its memory.
    pub(crate) overhead: Overhead,
}
