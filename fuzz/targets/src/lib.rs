//! Fuzz targets for the parsers of untrusted or damaged input.
//!
//! Each module has a function `target(data)`. It panics if an invariant is violated, and ignores input that is refused.
//! The programs in `fuzz/fuzz_targets/` run the functions under libFuzzer, and `fuzz-smoke` runs them on stable Rust with
//! random mutations of the seeds in `fuzz/corpus/`.

#![forbid(unsafe_code)]

pub mod activity_trace;
pub mod cel_bounds;
pub mod core_module;
pub mod external_host;
pub mod guest_log;
pub mod guest_watch;
mod host;
pub mod journal;
pub mod kubeconfig;
pub mod manifest;
pub mod memory_image;
pub mod package_parse;
pub mod request_path;
pub mod seeds;
pub mod snapshot_header;

/// A fuzz target and its name, which is also the name of its corpus.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "activity_trace", run: activity_trace::target },
    Target { name: "cel_bounds", run: cel_bounds::target },
    Target { name: "core_module", run: core_module::target },
    Target { name: "external_host", run: external_host::target },
    Target { name: "guest_log", run: guest_log::target },
    Target { name: "guest_watch", run: guest_watch::target },
    Target { name: "journal", run: journal::target },
    Target { name: "kubeconfig", run: kubeconfig::target },
    Target { name: "manifest", run: manifest::target },
    Target { name: "memory_image", run: memory_image::target },
    Target { name: "package_parse", run: package_parse::target },
    Target { name: "request_path", run: request_path::target },
    Target { name: "snapshot_header", run: snapshot_header::target },
];
