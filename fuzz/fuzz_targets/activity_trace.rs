#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmop_fuzz::activity_trace::target(data));
