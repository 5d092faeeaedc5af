#![no_main]

use std::sync::Once;

static BEGUN: Once = Once::new();

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The fuzzer ends at every panic, also at those of the library that the reader catches.
    BEGUN.call_once(|| drop(std::panic::take_hook()));
    tideway_files::fuzz::parquet(input);
});
