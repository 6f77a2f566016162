#![no_main]
//! The query of a client's request.

use libfuzzer_sys::fuzz_target;
use nb::gateway::query;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data)
        && let Some(value) = query::value(Some(text), "token")
    {
        assert!(value.chars().count() <= text.chars().count());
    }
});
