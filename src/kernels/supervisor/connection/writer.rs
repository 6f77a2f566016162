//! The way to one client: prologue, then the journal at the client's own pace, pings in between.
//!
//! A ping carries the number of the last entry written before it and at most one is in flight, so what
//! a reconnect repeats is bounded by one round trip.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tracing::warn;

use super::Shared;
use super::output::Output;
use crate::kernels::contract::Framing;
use crate::kernels::supervisor::broker::Ticket;
use crate::kernels::supervisor::journal::{Batch, Entry, Mark, Read, RequestKey, Seq};
use crate::protocol::legacy::Payload;
use crate::protocol::websocket::Opcode;

/// About how much is taken from the journal before it is written.
const BATCH_BYTES: usize = 256 * 1024;

/// Writes to the client until the connection is asked to close, and says why it closes.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    ticket: &Ticket,
    writer: &mut W,
) -> io::Result<()> {
    let mut position = Position {
        after: ticket.after,
        mine: ticket.after,
        replay_until: ticket.replay_until,
        held: Vec::new(),
    };
    let mut output = Output::default();
    for entry in &ticket.first {
        encode(shared.framing, entry, &mut output);
    }
    loop {
        let closing = shared.line.closing();
        if closing.is_some_and(|(code, _)| code != super::KERNEL_GONE) {
            break;
        }
        match shared.broker.read(position.after, BATCH_BYTES) {
            Read::Ready(batch) => position.take(shared, batch, &mut output),
            Read::Loading(loading) => {
                output
                    .write_to(writer, || shared.progressed.set(true))
                    .await?;
                loading.await;
                continue;
            }
        }
        if let Some(note) = shared.broker.take_loss_note(&shared.session) {
            encode(shared.framing, &note, &mut output);
        }
        control_frames(shared, &position, &mut output);
        if !output.is_empty() {
            shared.stalled.set(true);
            output
                .write_to(writer, || shared.progressed.set(true))
                .await?;
            shared.stalled.set(false);
        } else if closing.is_some() {
            break;
        } else {
            shared.line.wake.notified().await;
        }
    }
    if let Some((code, reason)) = shared.line.closing() {
        output.close(code, reason);
    }
    output.write_to(writer, || {}).await?;
    writer.shutdown().await
}

/// How far the client has been written to.
struct Position {
    after: Seq,
    /// The last entry that was for this client.
    mine: Seq,
    replay_until: Seq,
    /// Replies that in a replay wait for the idle of their request: replies overtake output, and a
    /// client forgets a request with its reply.
    held: Vec<(RequestKey, Rc<Entry>)>,
}

impl Position {
    fn take(&mut self, shared: &Shared, batch: Batch, output: &mut Output) {
        for (seq, entry) in batch {
            self.after = seq;
            if !entry.is_for(&shared.session) {
                continue;
            }
            self.mine = seq;
            match &entry.mark {
                Mark::EarlyReply(key) if seq <= self.replay_until => {
                    self.held.push((RequestKey::clone(key), Rc::clone(&entry)));
                    continue;
                }
                _ => encode(shared.framing, &entry, output),
            }
            if let Mark::Idle(idle) = &entry.mark {
                self.let_go(|key| key == idle, shared.framing, output);
            }
        }
        if self.after >= self.replay_until {
            self.let_go(|_| true, shared.framing, output);
        }
        shared.written.set(self.after);
    }

    fn let_go(&mut self, due: impl Fn(&RequestKey) -> bool, framing: Framing, output: &mut Output) {
        for (_, reply) in self.held.extract_if(.., |(key, _)| due(key)) {
            encode(framing, &reply, output);
        }
    }
}

fn control_frames(shared: &Shared, position: &Position, output: &mut Output) {
    if let Some(pong) = shared.pong.take() {
        output.frame(Opcode::Pong, &[pong]);
    }
    let acked = shared.acked.get();
    let all_sent = position.held.is_empty();
    if all_sent && position.mine <= acked && position.after > acked {
        // Nothing of it was for this client.
        shared.acknowledge(position.after);
    }
    let wants_ack = all_sent && position.mine > acked && shared.pinged.get().is_none();
    if shared.ping_due.take() || wants_ack {
        let upto = if all_sent { position.after } else { acked };
        shared.pinged.set(Some(upto));
        output.frame(Opcode::Ping, &[Bytes::from(upto.to_string())]);
    }
}

fn encode(framing: Framing, entry: &Entry, output: &mut Output) {
    match framing {
        Framing::V1 => output.frame(Opcode::Binary, &entry.v1()),
        Framing::Legacy => match entry.legacy() {
            Ok(Payload::Text(text)) => output.frame(Opcode::Text, &[text]),
            Ok(Payload::Binary(binary)) => output.frame(Opcode::Binary, &[binary]),
            Err(error) => warn!(%error, "a message cannot be sent in the legacy framing"),
        },
    }
}
