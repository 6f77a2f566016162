#![no_main]
//! A client's message in the v1 framing: what is understood comes out as it went in.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nb::protocol::v1;

fuzz_target!(|data: &[u8]| {
    if let Ok((channel, message)) = v1::decode(&Bytes::copy_from_slice(data)) {
        let encoded = v1::encode(channel, &message);
        assert_eq!(v1::decode(&encoded).expect("our own"), (channel, message));
    }
});
