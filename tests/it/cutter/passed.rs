//! What has passed over a line to one client: how many lines it may not have acknowledged.
//!
//! Knows the frames of a server's WebSocket and nothing of where they go.

use bytes::{Buf, BytesMut};

/// How a line that is counted begins.
const LINE: &[u8] = b"line ";

/// What has passed to one client, if that is a WebSocket.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What is no whole frame yet; before the frames there is the head of the answer.
    rest: BytesMut,
    upgraded: Option<bool>,
    /// Lines between the last ping but one and the last one, and after that.
    before: usize,
    since: usize,
}

impl Passed {
    /// Lines that the client may not have acknowledged.
    pub(super) fn unconfirmed(&self) -> usize {
        self.before + self.since
    }

    /// Takes what passes and gives the number of lines in it.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        if self.upgraded == Some(false) {
            return 0;
        }
        self.rest.extend_from_slice(bytes);
        if self.upgraded.is_none() {
            let Some(end) = find(&self.rest, b"\r\n\r\n") else {
                return 0;
            };
            self.upgraded = Some(self.rest.starts_with(b"HTTP/1.1 101"));
            self.rest.advance(end + 4);
        }
        let mut lines = 0;
        while let Some((opcode, payload)) = self.frame() {
            // A number is to come back; jupyter_server's own pings have none.
            if opcode == 0x9 && !payload.is_empty() {
                self.before = std::mem::take(&mut self.since);
            }
            let found = payload.windows(LINE.len()).filter(|part| *part == LINE);
            let found = found.count();
            self.since += found;
            lines += found;
        }
        lines
    }

    /// The next whole frame; servers do not mask.
    fn frame(&mut self) -> Option<(u8, BytesMut)> {
        let [first, second, ..] = *self.rest else {
            return None;
        };
        let (head_bytes, payload_bytes) = match second {
            126 => (
                4,
                u16::from_be_bytes(*self.rest.get(2..)?.first_chunk()?).into(),
            ),
            127 => (10, u64::from_be_bytes(*self.rest.get(2..)?.first_chunk()?)),
            short => (2, short.into()),
        };
        let payload_bytes = usize::try_from(payload_bytes).unwrap();
        if self.rest.len() < head_bytes + payload_bytes {
            return None;
        }
        self.rest.advance(head_bytes);
        Some((first & 0xf, self.rest.split_to(payload_bytes)))
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}

#[test]
fn what_passed_after_the_last_ping_but_one_may_be_repeated() {
    let mut passed = Passed::default();
    let frames: [&[u8]; 4] = [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"\x82\x06line 0\x89\x011\x81\x06line 1",
        b"\x89\x00\x89\x012\x81\x06line 2\x81\x0eline 3 line 4.",
        b"\x89\x013",
    ];
    let mut unconfirmed = Vec::new();
    for byte in frames.concat() {
        passed.read(&[byte]);
        unconfirmed.push(passed.unconfirmed());
    }
    unconfirmed.dedup();
    assert_eq!(unconfirmed, [0, 1, 2, 1, 2, 4, 3]);
}
