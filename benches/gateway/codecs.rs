//! The codecs alone: nanoseconds for one message, beside what every ZeroMQ client pays for it, which is
//! to verify it and to take it apart.

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nb::protocol::legacy::{self, Payload};
use nb::protocol::message::{Channel, Message};
use nb::protocol::signature::Signer;
use nb::protocol::websocket::{self, Decoder, Opcode};
use nb::protocol::{multipart, v1};
use serde_json::json;

use crate::report;
use crate::table::{median, short};

const SIZES: [usize; 3] = [100, 10_000, 1_000_000];

/// Bytes that one batch goes through, so that small and large messages take about as long.
const BATCH_BYTES: usize = 4_000_000;
const CALLS_MAX: usize = 2_000;
const BATCHES: usize = 15;

/// Prints the table.
pub(crate) fn measure() {
    report("One message, ns; in brackets the ratio to `ZeroMQ decode`, what a ZeroMQ client pays.");
    report(&format!(
        "{:<20}{:>17}{:>17}{:>17}",
        "", "100 B", "10 KB", "1 MB"
    ));
    let all = SIZES.map(costs);
    let [(_, small), (_, medium), (_, large)] = all.each_ref().map(|costs| costs[0]);
    let base = [small, medium, large];
    for (line, (name, _)) in all[0].iter().enumerate() {
        let cells = all.each_ref().map(|costs| costs[line].1);
        let cells = cells.iter().zip(base);
        let cells = cells.map(|(ns, base)| format!("{:>10}{:>6.2}x", short(*ns), ns / base));
        report(&format!("{name:<20}{}", cells.collect::<String>()));
    }
    report("");
}

/// What each codec costs for a message with this much text; the first is what the others are held to.
fn costs(bytes: usize) -> Vec<(&'static str, f64)> {
    let signer = Signer::new(b"a key of the usual length, 36 chars.");
    let message = output(bytes);
    let frames = multipart::encode(&message, &signer);
    let v1 = v1::encode(Channel::Iopub, &message);
    let Ok(Payload::Text(legacy)) = legacy::encode(Channel::Iopub, &message) else {
        unreachable!("it has no buffers");
    };
    let calls = (BATCH_BYTES / bytes).clamp(2, CALLS_MAX);
    let nothing = || ();
    vec![
        (
            "ZeroMQ decode",
            nanoseconds(
                calls,
                || frames.clone(),
                |frames| {
                    black_box(multipart::decode(frames, &signer).unwrap());
                },
            ),
        ),
        (
            "ZeroMQ encode",
            nanoseconds(calls, nothing, |()| {
                black_box(multipart::encode(&message, &signer));
            }),
        ),
        (
            "signature alone",
            nanoseconds(calls, nothing, |()| {
                black_box(signer.sign(message.json_parts()));
            }),
        ),
        (
            "v1 encode",
            nanoseconds(calls, nothing, |()| {
                black_box(v1::encode(Channel::Iopub, &message));
            }),
        ),
        (
            "v1 decode",
            nanoseconds(calls, nothing, |()| {
                black_box(v1::decode(&v1).unwrap());
            }),
        ),
        (
            "legacy encode",
            nanoseconds(calls, nothing, |()| {
                black_box(legacy::encode(Channel::Iopub, &message).unwrap());
            }),
        ),
        (
            "legacy decode",
            nanoseconds(calls, nothing, |()| {
                black_box(legacy::decode(&legacy).unwrap());
            }),
        ),
        (
            "WebSocket encode",
            nanoseconds(calls, BytesMut::new, |mut frame| {
                websocket::encode_head(Opcode::Binary, v1.len(), &mut frame);
                frame.extend_from_slice(&v1);
                black_box(frame);
            }),
        ),
        (
            "WebSocket decode",
            nanoseconds(
                calls,
                || client_frame(&v1),
                |mut frame| {
                    let event = Decoder::new(usize::MAX).decode(&mut frame).unwrap();
                    black_box(event.unwrap());
                },
            ),
        ),
    ]
}

/// Output as kernels send it.
fn output(bytes: usize) -> Message {
    let header = json!({
        "msg_id": "0b7ae2a4-8f2c4f5d9d6a7c1e2b3f4a5d_12_34", "msg_type": "stream", "session": "bench",
        "username": "bench", "date": "2026-01-01T00:00:00.000000Z", "version": "5.4",
    });
    let header = Bytes::from(header.to_string());
    Message {
        parent_header: header.clone(),
        header,
        content: json!({"name": "stdout", "text": "x".repeat(bytes)})
            .to_string()
            .into(),
        ..Message::empty()
    }
}

/// A frame as a client sends it: masked.
fn client_frame(payload: &[u8]) -> BytesMut {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = BytesMut::new();
    websocket::encode_head(Opcode::Binary, payload.len(), &mut frame);
    frame[1] |= 0x80;
    frame.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.into_iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// The median time of one call. What it takes its input from is made beforehand.
pub(crate) fn nanoseconds<I>(calls: usize, input: impl Fn() -> I, call: impl Fn(I)) -> f64 {
    let batch = |_| {
        let inputs: Vec<I> = (0..calls).map(|_| input()).collect();
        let begun = Instant::now();
        inputs.into_iter().for_each(&call);
        begun.elapsed().as_secs_f64() * 1e9 / calls as f64
    };
    median((0..BATCHES).map(batch).collect())
}
