#![no_main]
//! A kernel's ZeroMQ message: identities, delimiter, signature, parts, buffers. Frames are cut at `;`.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nb::protocol::multipart;
use nb::protocol::signature::Signer;

fuzz_target!(|data: &[u8]| {
    for signer in [Signer::new(b""), Signer::new(b"key")] {
        let frames = data.split(|byte| *byte == b';').map(Bytes::copy_from_slice);
        if let Ok(message) = multipart::decode(frames.collect(), &signer) {
            let encoded = multipart::encode(&message, &signer);
            assert_eq!(
                multipart::decode(encoded, &signer).expect("our own"),
                message
            );
        }
    }
});
