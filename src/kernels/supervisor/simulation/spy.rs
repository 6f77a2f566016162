//! What stands beside the product in a simulation and looks on: at what goes into a journal and what it drops, at
//! what the supervisor has read of a client; and [`Careless`], which breaks the rule of the cursor.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::notes::Notes;
use super::record::{Life, LineId};
use crate::kernels::contract::{Acknowledges, Framing};
use crate::kernels::supervisor::broker::Broker;
use crate::kernels::supervisor::journal::{Dropped, Entry, Journal, Keeping, Needs, Read, Seq};
use crate::protocol::websocket::{Decoder, Event};
use crate::protocol::{legacy, v1};

/// No message of a simulation is larger.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A journal whose entries and losses are noted.
pub(super) struct Spied {
    pub(super) journal: Box<dyn Journal>,
    pub(super) notes: Notes,
    pub(super) life: Life,
}

impl Journal for Spied {
    fn append(&mut self, entry: Entry) -> Seq {
        let said = self.notes.said(self.life, &entry);
        let seq = self.journal.append(entry);
        assert_eq!(seq, said, "the journal numbers in its own way");
        seq
    }

    fn read(&mut self, after: Seq, bytes_max: usize) -> Read {
        self.journal.read(after, bytes_max)
    }

    fn last(&self) -> Seq {
        self.journal.last()
    }

    fn recovered(&mut self) -> Option<Seq> {
        self.journal.recovered()
    }

    fn count(&self, after: Seq) -> u64 {
        self.journal.count(after)
    }

    fn release(&mut self, needs: Needs) {
        self.notes.needs(self.life, needs);
        self.journal.release(needs);
    }

    fn drop_oldest(&mut self) -> Option<Dropped> {
        let dropped = self.journal.drop_oldest();
        if let Some(dropped) = &dropped {
            self.notes.dropped(self.life, dropped.seq);
        }
        dropped
    }

    fn bytes(&self) -> usize {
        self.journal.bytes()
    }

    fn keep(&mut self) -> Keeping {
        self.journal.keep()
    }
}

/// The supervisor's end of a client's pipe, to read from: notes what the supervisor has taken.
pub(super) struct Taken<R> {
    pub(super) reader: R,
    pub(super) decoder: Decoder,
    pub(super) input: BytesMut,
    pub(super) notes: Notes,
    pub(super) line: LineId,
    pub(super) framing: Framing,
    pub(super) acknowledges: Acknowledges,
    /// The supervisor has closed the line: what it reads since then it throws away.
    pub(super) is_closed: Rc<Cell<bool>>,
}

impl<R> Taken<R> {
    fn note(&mut self) {
        if self.is_closed.get() {
            return;
        }
        let is_client = self.acknowledges == Acknowledges::Client;
        while let Ok(Some(event)) = self.decoder.decode(&mut self.input) {
            match event {
                Event::Text(_) if is_client => self.notes.acknowledged(self.line),
                Event::Pong(_) if !is_client => self.notes.acknowledged(self.line),
                Event::Text(payload) | Event::Binary(payload) => {
                    let message = match self.framing {
                        Framing::V1 => v1::decode(&payload).unwrap(),
                        Framing::Legacy => legacy::decode(&payload).unwrap(),
                    };
                    self.notes.requested(self.line, message.0, &message.1);
                }
                Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {}
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Taken<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.reader).poll_read(context, buffer))?;
        this.input.extend_from_slice(&buffer.filled()[before..]);
        this.note();
        Poll::Ready(Ok(()))
    }
}

/// The supervisor's end of a client's pipe, to write to. With a broker it reverts the rule that only the client
/// moves its cursor: what is written counts as acknowledged.
pub(super) struct Careless<W> {
    pub(super) writer: W,
    pub(super) decoder: Decoder,
    pub(super) written: BytesMut,
    pub(super) session: Rc<str>,
    pub(super) reverts: Option<Broker>,
    /// No connection of this supervisor has a higher number.
    pub(super) connections_max: u64,
    pub(super) is_closed: Rc<Cell<bool>>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Careless<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = ready!(Pin::new(&mut this.writer).poll_write(context, bytes))?;
        if let Some(broker) = &this.reverts {
            this.written.extend_from_slice(&bytes[..taken]);
            while let Ok(Some(event)) = this.decoder.decode(&mut this.written) {
                let Event::Ping(number) = event else {
                    continue;
                };
                let number = str::from_utf8(&number).unwrap().parse().unwrap();
                for connection in 1..=this.connections_max {
                    broker.acknowledge(&this.session, connection, number);
                }
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed.set(true);
        Pin::new(&mut self.get_mut().writer).poll_shutdown(context)
    }
}
