//! One client's WebSocket after its handshake: a reader, a writer and a watch over its silence.
//!
//! Owns the socket. What is shared with other clients is the broker's; a connection that ends leaves
//! its session there. Knows nothing of how the socket came here.

mod coalesce;
mod encode;
mod encodings;
mod late;
mod output;
mod position;
mod text_only;
mod writer;

use std::cell::Cell;
use std::future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::broker::{Broker, Line};
use super::journal::Seq;
use super::sessions::{ConnectionId, Holder};
use crate::kernels::contract::{Acknowledges, Framing};
use crate::protocol::websocket::{Decoder, Event};
use crate::protocol::{legacy, v1};
use encodings::{Encodings, Place};

/// The close code that is sent only after everything else.
const KERNEL_GONE: u16 = 1000;

/// To a client from whom no more comes, without a goodbye: it is gone, or a gateway that ends is in between,
/// which lets this pass.
const COME_BACK: u16 = 1012;

/// What answers a goodbye without a code.
const NORMAL: u16 = 1000;

/// With these a client says that it cannot take what it was sent: RFC 6455, 7.4.1.
const REFUSALS: [u16; 4] = [1002, 1003, 1007, 1009];

/// Room for what is read at once.
const READ_BYTES: usize = 64 * 1024;

/// More room than this is given back once what needed it has been taken out.
const READ_BYTES_KEPT: usize = 1024 * 1024;

/// A connection is pinged that often, so that whatever lies in between does not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// So many silent times in a row, the first of which is no fault, end it.
const SILENT_TIMES_MAX: u32 = 3;

/// How long a closing connection may take to take its close frame, and then to close its side.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Who the client is and how it talks.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub session: Rc<str>,
    pub holder: Holder,
    pub framing: Framing,
    /// It breaks on binary frames and on large text ones.
    pub(super) text_only: bool,
    /// Nobody comes back for its session.
    pub(super) unnamed: bool,
    pub(super) acknowledges: Acknowledges,
    /// It looks for the cell that an earlier session of its user was watching, some seconds after it has come.
    pub(super) resumes: bool,
    /// How long its credential lasts.
    pub expires_in: Option<Duration>,
}

/// What all connections of a kernel have in common.
#[derive(Debug)]
pub(super) struct Common {
    encodings: Encodings,
    /// A larger message of a client is refused.
    message_bytes_max: usize,
}

impl Common {
    /// Nobody is connected yet.
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            encodings: Encodings::default(),
            message_bytes_max,
        }
    }
}

/// What the reader, the writer and the watch of one connection share.
struct Shared {
    broker: Broker,
    session: Rc<str>,
    id: ConnectionId,
    line: Rc<Line>,
    framing: Framing,
    text_only: bool,
    acknowledges: Acknowledges,
    resumes: bool,
    /// Among those that share what is encoded, in the legacy framing.
    place: Option<Place>,
    /// The number of the last entry that was written.
    written: Cell<Seq>,
    acked: Cell<Seq>,
    /// The ping in flight.
    pinged: Cell<Option<Seq>>,
    ping_due: Cell<bool>,
    /// The answer to the client's last ping.
    pong: Cell<Option<Bytes>>,
    heard: Cell<bool>,
    /// The kernel has too much to do for what this client asks, which is therefore not read from.
    parked: Cell<bool>,
    stalled: Cell<bool>,
    progressed: Cell<bool>,
}

impl Shared {
    fn acknowledge(&self, seq: Seq) {
        self.acked.set(self.acked.get().max(seq));
        self.broker.acknowledge(&self.session, self.id, seq);
    }

    fn pass(&self, seq: Seq) {
        self.acked.set(self.acked.get().max(seq));
        self.broker.pass(&self.session, self.id, seq);
    }
}

/// Serves a connection until it ends. `left` is what the client sent with its handshake.
pub(super) async fn serve<R, W>(
    mut reader: R,
    mut writer: W,
    left: Bytes,
    client: Client,
    broker: Broker,
    common: &Common,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ticket = if client.resumes {
        broker.resume(&client.session, &client.holder)
    } else if client.text_only && !client.unnamed {
        // A stock jupyter_server acknowledges what its browser may not have.
        broker.join_whole(&client.session, &client.holder)
    } else {
        broker.join(&client.session, &client.holder)
    };
    let is_legacy = client.framing == Framing::Legacy;
    let shared = Shared {
        broker: broker.clone(),
        session: client.session,
        id: ticket.id,
        line: Rc::clone(&ticket.line),
        framing: client.framing,
        text_only: client.text_only,
        acknowledges: client.acknowledges,
        resumes: client.resumes,
        place: is_legacy.then(|| common.encodings.join(ticket.id, ticket.after)),
        written: Cell::new(ticket.after),
        acked: Cell::new(ticket.after),
        pinged: Cell::new(None),
        ping_due: Cell::new(false),
        pong: Cell::new(None),
        heard: Cell::new(false),
        parked: Cell::new(false),
        stalled: Cell::new(false),
        progressed: Cell::new(false),
    };
    let (mut closed_by_us, mut goodbye) = (false, None);
    // In this order: the clocks take next to nothing and are to be kept whatever the client sends. The writer rests
    // after each full batch and the reader after each full read, so neither takes the other's turn.
    tokio::select! {
        biased;
        () = expiry(&shared, client.expires_in) => {}
        () = watch(&shared) => {}
        written = writer::write(&shared, &ticket, &mut writer) => {
            debug!(session = %shared.session, ?written, "the connection was closed");
            closed_by_us = written.is_ok();
        }
        ended = read(&shared, &mut reader, left, common.message_bytes_max) => {
            debug!(session = %shared.session, ?ended, "the client is gone");
            goodbye = ended.ok();
        }
    }
    if goodbye.is_some_and(|code| REFUSALS.contains(&code)) {
        broker.refused(&shared.session, shared.id);
    }
    broker.leave(&shared.session, shared.id);
    if client.unnamed {
        broker.forget(&shared.session);
    }
    // Only between two frames.
    if let Some(code) = goodbye.filter(|_| !shared.stalled.get()) {
        let answered = timeout(CLOSE_WITHIN, writer::answer_goodbye(code, &mut writer)).await;
        debug!(session = %shared.session, ?answered, "the client's goodbye was answered");
    }
    if closed_by_us {
        // Closing with unread input would cut off what was just written.
        let drained = timeout(CLOSE_WITHIN, drain(&mut reader)).await;
        debug!(session = %shared.session, ?drained, "the client closed its side");
    }
}

/// Reads to the end of the connection: the code to say goodbye with.
async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    reader: &mut R,
    left: Bytes,
    bytes_max: usize,
) -> io::Result<u16> {
    let mut decoder = Decoder::new(bytes_max);
    let mut input = BytesMut::from(left);
    let mut is_large = false;
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(Event::Close(code))) => return Ok(code.unwrap_or(NORMAL)),
            Ok(Some(event)) => {
                shared.heard.set(true);
                act(shared, event).await;
            }
            Ok(None) => {
                if is_large && input.is_empty() {
                    // Else the room for a large message is used again, and stays as long as the connection.
                    input = BytesMut::new();
                    is_large = false;
                }
                input.reserve(READ_BYTES);
                is_large |= input.capacity() > READ_BYTES_KEPT;
                let room = input.capacity() - input.len();
                let bytes = reader.read_buf(&mut input).await?;
                if bytes == 0 {
                    return Ok(COME_BACK);
                }
                if bytes == room {
                    // There is more: others have their turn first.
                    yield_now().await;
                }
            }
            Err(error) => {
                warn!(session = %shared.session, %error, "the client broke the protocol");
                shared
                    .line
                    .close((error.close_code(), error.close_reason()));
                return future::pending().await;
            }
        }
    }
}

/// Acts on what the client sent.
async fn act(shared: &Shared, event: Event) {
    match event {
        Event::Text(payload) if shared.acknowledges == Acknowledges::Client => {
            told(shared, &payload);
        }
        Event::Text(payload) | Event::Binary(payload) => {
            shared.parked.set(true);
            shared.broker.room().await;
            shared.parked.set(false);
            let decoded = match shared.framing {
                Framing::V1 => v1::decode(&payload).map_err(|error| error.to_string()),
                Framing::Legacy => legacy::decode(&payload).map_err(|error| error.to_string()),
            };
            match decoded {
                Ok((channel, message)) => shared.broker.submit(&shared.session, channel, message),
                Err(error) => warn!(session = %shared.session, error, "ignored what is no message"),
            }
        }
        Event::Ping(payload) => {
            shared.pong.set(Some(payload));
            shared.line.wake.notify_one();
        }
        Event::Pong(payload) if shared.acknowledges == Acknowledges::Pong => {
            let text = str::from_utf8(&payload).ok();
            if let Some(seq) = text.and_then(|text| text.parse().ok()) {
                confirmed(shared, seq);
            }
        }
        Event::Pong(_) | Event::Close(_) => {}
    }
}

/// What a client that acknowledges for another says in a TEXT frame.
fn told(shared: &Shared, payload: &[u8]) {
    #[derive(Deserialize)]
    struct Told {
        nb: Ack,
    }
    #[derive(Deserialize)]
    struct Ack {
        ack: Seq,
    }
    match serde_json::from_slice::<Told>(payload) {
        Ok(told) => confirmed(shared, told.nb.ack),
        Err(error) => {
            warn!(session = %shared.session, %error, "ignored a text that acknowledges nothing")
        }
    }
}

/// The client has everything up to `seq`, if that was written to it.
fn confirmed(shared: &Shared, seq: Seq) {
    if seq > shared.written.get() {
        return;
    }
    if shared.pinged.get().is_some_and(|pinged| pinged <= seq) {
        shared.pinged.set(None);
    }
    shared.acknowledge(seq);
    shared.line.wake.notify_one();
}

/// Pings a connection without a ping in flight, or with one that has heard nothing, and ends one that
/// stays silent, whatever it is closed for; a slow one that takes what is written is not silent.
async fn watch(shared: &Shared) {
    let mut silent_times = 0;
    loop {
        tokio::select! {
            biased;
            () = shared.line.closed.notified() => {
                if shared.line.closing().is_some_and(|(code, _)| code != KERNEL_GONE) {
                    return sleep(CLOSE_WITHIN).await;
                }
                continue;
            }
            () = sleep(KEEP_ALIVE) => {}
        }
        let (heard, progressed) = (shared.heard.take(), shared.progressed.take());
        if heard || shared.parked.get() {
            silent_times = 0;
        } else if !(shared.stalled.get() && progressed) {
            silent_times += 1;
        }
        if silent_times >= SILENT_TIMES_MAX {
            shared.line.close((4408, "no answer to pings"));
            return sleep(CLOSE_WITHIN).await;
        } else if !heard
            || shared.pinged.get().is_none()
            || shared.acknowledges == Acknowledges::Client
        {
            shared.ping_due.set(true);
            shared.line.wake.notify_one();
        }
    }
}

async fn expiry(shared: &Shared, expires_in: Option<Duration>) {
    if let Some(expires_in) = expires_in {
        sleep(expires_in).await;
        shared.line.close((4401, "the credential has expired"));
    }
    future::pending().await
}

async fn drain<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while reader.read(&mut ignored).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
