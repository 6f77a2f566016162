//! The line to a kernel: the client's side of a v1 WebSocket, after its handshake.
//!
//! Knows frames and the framing of messages, and nothing of how the stream came to be or of who is to get
//! what.

mod reach;
mod window;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::protocol::message::{Channel, Message};
use crate::protocol::v1;
use crate::protocol::websocket::{Decoder, Event, Opcode, encode_masked};

pub use reach::Reach;
pub use window::Window;

/// A larger message of a kernel ends the line.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Room for what is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How long one message may take to be written: a kernel's supervisor always reads, but for as long as
/// its kernel has too much unanswered.
const WRITE_WITHIN: Duration = Duration::from_secs(600);

/// Without a word for so long the line is dead: it is pinged every 20 s.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// The kernel is gone for good.
const KERNEL_GONE: u16 = 1000;

/// Codes after which another attempt would fare no better: protocol errors, access that is over.
const HOPELESS: [u16; 6] = [1002, 1003, 1007, 1008, 1009, 4401];

/// What the kernel's side says.
#[derive(Debug)]
pub enum Said {
    Message(Channel, Message),
    /// To be answered once all before it was relayed.
    Ping(Bytes),
}

/// Why the line is over.
#[derive(Debug)]
pub enum Over {
    /// The kernel is dead or was ended.
    Gone,
    /// Worth another attempt.
    Cut(String),
    Hopeless(String),
}

/// Both halves of a line.
pub type Line = (FromKernel, ToKernel);

/// A line on a stream that is past its handshake; `early` came with that.
pub fn line(
    reader: impl AsyncRead + Unpin + 'static,
    writer: impl AsyncWrite + Unpin + 'static,
    early: &[u8],
) -> Line {
    let from = FromKernel {
        reader: Box::new(reader),
        decoder: Decoder::of_server(MESSAGE_BYTES_MAX),
        input: BytesMut::from(early),
    };
    let to = ToKernel {
        writer: Box::new(writer),
    };
    (from, to)
}

/// The half on which the kernel's side speaks.
pub struct FromKernel {
    reader: Box<dyn AsyncRead + Unpin>,
    decoder: Decoder,
    input: BytesMut,
}

impl std::fmt::Debug for FromKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromKernel")
    }
}

impl FromKernel {
    /// The next thing said. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Said, Over> {
        loop {
            let event = self.decoder.decode(&mut self.input);
            match event.map_err(|error| Over::Hopeless(error.to_string()))? {
                Some(Event::Binary(payload)) => match v1::decode(&payload) {
                    Ok((channel, message)) => return Ok(Said::Message(channel, message)),
                    Err(error) => warn!(%error, "the kernel's side sent what is no message"),
                },
                Some(Event::Ping(payload)) => return Ok(Said::Ping(payload)),
                Some(Event::Text(_) | Event::Pong(_)) => {}
                Some(Event::Close(Some(KERNEL_GONE))) => return Err(Over::Gone),
                Some(Event::Close(code)) => {
                    let code = code.unwrap_or(1005);
                    let why = format!("the line to the kernel was closed ({code})");
                    return Err(match HOPELESS.contains(&code) {
                        true => Over::Hopeless(why),
                        false => Over::Cut(why),
                    });
                }
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Over> {
        self.input.reserve(READ_BYTES);
        match timeout(SILENCE_MAX, self.reader.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(Over::Cut("the line to the kernel ended".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Over::Cut(error.to_string())),
            Err(_) => Err(Over::Cut("the line to the kernel is silent".to_owned())),
        }
    }
}

/// The half on which we speak.
pub struct ToKernel {
    writer: Box<dyn AsyncWrite + Unpin>,
}

impl std::fmt::Debug for ToKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToKernel")
    }
}

impl ToKernel {
    /// Sends a message, and waits until it is written.
    pub async fn send(&mut self, channel: Channel, message: &Message) -> io::Result<()> {
        self.frame(Opcode::Binary, &v1::encode(channel, message))
            .await
    }

    /// Answers a ping.
    pub async fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.frame(Opcode::Pong, payload).await
    }

    async fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
        let mut frame = BytesMut::new();
        encode_masked(opcode, payload, [a, b, c, d], &mut frame);
        timeout(WRITE_WITHIN, self.writer.write_all(&frame))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
