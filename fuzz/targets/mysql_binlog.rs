#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tideway_mysql::fuzz::binlog(input));
