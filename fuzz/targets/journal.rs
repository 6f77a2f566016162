#![no_main]
//! A record of a journal's file, its length and check sum right: as if somebody had written it.

use libfuzzer_sys::fuzz_target;
use nb::kernels::supervisor::journal::disk;

fuzz_target!(|body: &[u8]| {
    let mut record = u32::try_from(body.len())
        .expect("short")
        .to_le_bytes()
        .to_vec();
    record.extend(crc32fast::hash(body).to_le_bytes());
    record.extend(body);
    if let Some((_, entry)) = disk::decode(record.into()) {
        let _label = entry.label();
    }
});
