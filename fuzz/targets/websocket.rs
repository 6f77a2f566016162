#![no_main]
//! A peer's WebSocket frames: the same events however they are cut, none over the bound.

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use nb::protocol::websocket::{Decoder, Event};

const BYTES_MAX: usize = 4096;

fn events(mut decoder: Decoder, pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut input, mut events) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let Event::Text(payload) | Event::Binary(payload) = &event {
                        assert!(payload.len() <= BYTES_MAX);
                    }
                    events.push(format!("{event:?}"));
                }
                Err(_) => return (events, true),
            }
        }
    }
    (events, false)
}

fuzz_target!(|data: &[u8]| {
    let [cut, data @ ..] = data else { return };
    for decoder in [Decoder::new, Decoder::of_server] {
        let (near, far) = data.split_at(usize::from(*cut).min(data.len()));
        let whole = events(decoder(BYTES_MAX), &[data]);
        assert_eq!(events(decoder(BYTES_MAX), &[near, far]), whole);
    }
});
