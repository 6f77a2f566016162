//! Frames on their way to one socket, in as few pieces and system calls as possible.
//!
//! Knows WebSocket frames and nothing of what they carry.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::protocol::websocket::{self, Opcode};

/// Pieces up to this size are copied together; larger ones are written from where they are.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// Room that stays with a connection that has nothing to say.
const KEPT_BYTES: usize = 16 * 1024;

/// Pieces of one system call.
const SLICES_MAX: usize = 64;

/// What is to be written next.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
}

impl Output {
    /// Adds a frame whose payload is these pieces one after the other.
    pub(super) fn frame(&mut self, opcode: Opcode, payload: &[Bytes]) {
        let payload_bytes = payload.iter().map(Bytes::len).sum();
        websocket::encode_head(opcode, payload_bytes, &mut self.small);
        for piece in payload {
            if piece.len() <= COPY_BYTES_MAX {
                self.small.extend_from_slice(piece);
            } else {
                self.seal();
                self.pieces.push_back(piece.clone());
            }
        }
    }

    /// Adds a close frame.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        websocket::encode_close(code, reason, &mut self.small);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Writes all of it; `progressed` is called whenever the peer has taken something.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        progressed: impl Fn(),
    ) -> io::Result<()> {
        self.seal();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut filled = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                filled += 1;
            }
            let written = writer.write_vectored(&slices[..filled]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
            progressed();
        }
        Ok(())
    }

    /// Nothing is to be written for a while: the room for much is given back.
    pub(super) fn rest(&mut self) {
        if self.is_empty() && self.small.capacity() > KEPT_BYTES {
            self.small = BytesMut::new();
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let taken = piece.len().min(written);
            piece.advance(taken);
            written -= taken;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn small_and_large_pieces_arrive_in_order_through_a_narrow_pipe() {
        let large = Bytes::from(vec![b'x'; 3 * COPY_BYTES_MAX]);
        let mut output = Output::default();
        output.frame(Opcode::Ping, &[Bytes::from_static(b"7")]);
        output.frame(
            Opcode::Binary,
            &[Bytes::from_static(b"head"), large.clone()],
        );
        output.close(1000, "end");
        let (mut near, mut far) = tokio::io::duplex(100);
        let write = async {
            output.write_to(&mut near, || {}).await.unwrap();
            drop(near);
        };
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(far.read_to_end(&mut got), write);
        read.unwrap();
        let mut expected = BytesMut::new();
        websocket::encode_head(Opcode::Ping, 1, &mut expected);
        expected.extend_from_slice(b"7");
        websocket::encode_head(Opcode::Binary, 4 + large.len(), &mut expected);
        expected.extend_from_slice(b"head");
        expected.extend_from_slice(&large);
        websocket::encode_close(1000, "end", &mut expected);
        assert_eq!(got, expected);
    }
}
