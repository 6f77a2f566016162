#![no_main]
//! A client's message in the JSON framing: what is understood comes out as it went in.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nb::protocol::legacy::{self, Payload};

fuzz_target!(|data: &[u8]| {
    if let Ok((channel, message)) = legacy::decode(&Bytes::copy_from_slice(data))
        && let Ok(Payload::Text(encoded) | Payload::Binary(encoded)) =
            legacy::encode(channel, &message)
    {
        assert_eq!(
            legacy::decode(&encoded).expect("our own"),
            (channel, message)
        );
    }
});
