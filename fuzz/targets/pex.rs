#![no_main]
//! A pex in one file: its directory, what it says of itself, all that is in it.

use libfuzzer_sys::fuzz_target;
use nb::env::interpreters::About;
use nb::env::pex;

fuzz_target!(|data: &[u8]| {
    let about = About {
        implementation: "CPython".to_owned(),
        version: "3.11.7".parse().expect("a version"),
        free_threaded: false,
        debug: false,
        soabi: String::new(),
        platform: "linux-x86_64".to_owned(),
        glibc: "2.36".to_owned(),
    };
    if let Ok(read) = pex::read_through(data, &about) {
        // As well as anything can be packed.
        assert!(read <= data.len() as u64 * 1032);
    }
});
