#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| googlenet_fuzz::targets::checkpoint(data));
