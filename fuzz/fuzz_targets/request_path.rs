#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmop_fuzz_targets::request_path::target(data));
