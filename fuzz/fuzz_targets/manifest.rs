#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmop_fuzz_targets::manifest::target(data));
