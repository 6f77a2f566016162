//! The way to one client: the kernel's true state, then the journal at the client's own pace, pings in between.
//!
//! A ping carries the number of the last entry written before it and at most one is in flight, so what
//! a reconnect repeats is bounded by one round trip.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::Shared;
use super::late::{Due, Late};
use super::output::Output;
use super::text_only::{self, Instead};
use crate::kernels::contract::{Acknowledges, Framing};
use crate::kernels::supervisor::broker::Ticket;
use crate::kernels::supervisor::catch_up::Share;
use crate::kernels::supervisor::journal::{Batch, Entry, Mark, Read, RequestKey, Seq};
use crate::protocol::legacy::{self, Payload};
use crate::protocol::websocket::Opcode;

/// About how much is taken from the journal before it is written.
const BATCH_BYTES: usize = 256 * 1024;

/// The close code of RFC 6455 for what breaks it.
const PROTOCOL_ERROR: u16 = 1002;

/// A reply held for a client that is there goes when nothing has come for so long: its request has no idle.
const HELD_WITHIN: Duration = Duration::from_secs(1);

/// What tornado's WebSocket client takes, less some room.
const TEXT_BYTES_MAX: usize = 10 * 1024 * 1024 - 1024;

/// Writes to the client until the connection is asked to close, and says why it closes.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    ticket: &Ticket,
    writer: &mut W,
) -> io::Result<()> {
    let mut position = Position {
        share: ticket.share.clone(),
        after: ticket.after,
        written: ticket.written,
        mine: ticket.after,
        told: false,
        replay_until: ticket.replay_until,
        held: Vec::new(),
        late: late(shared, ticket),
    };
    let mut output = Output::default();
    encode(shared, None, &ticket.first, &mut output);
    if let Some(clears) = &ticket.clears {
        encode(shared, None, clears, &mut output);
    }
    loop {
        let closing = shared.line.closing();
        if closing.is_some_and(|(code, _)| code != super::KERNEL_GONE) {
            break;
        }
        let is_full = match shared.broker.read(position.after, BATCH_BYTES) {
            Read::Ready(batch) => {
                let bytes: usize = batch.iter().map(|(_, entry)| entry.bytes()).sum();
                position.take(shared, batch, &mut output);
                bytes >= BATCH_BYTES
            }
            Read::Loading(loading) => {
                shared.stalled.set(true);
                output
                    .write_to(writer, || shared.progressed.set(true))
                    .await?;
                shared.stalled.set(false);
                loading.await;
                continue;
            }
        };
        position.resume(shared, closing.is_some(), &mut output);
        position.tell_loss(shared, &mut output);
        control_frames(shared, &mut position, &mut output);
        if !output.is_empty() {
            shared.stalled.set(true);
            output
                .write_to(writer, || shared.progressed.set(true))
                .await?;
            shared.stalled.set(false);
            if is_full {
                // There is more: the reader, and others, have their turn first.
                yield_now().await;
            }
        } else if position.held.is_empty() {
            if closing.is_some() {
                break;
            }
            tokio::select! {
                biased;
                () = shared.line.wake.notified() => {}
                () = position.due() => {}
            }
        } else if closing.is_some()
            || timeout(HELD_WITHIN, shared.line.wake.notified())
                .await
                .is_err()
        {
            position.let_go(|_| true, shared, &mut output);
        }
    }
    if let Some((code, reason)) = shared.line.closing() {
        output.close(code, reason);
    }
    output.write_to(writer, || {}).await?;
    writer.shutdown().await
}

/// Answers a client's close frame with its code, as RFC 6455 wants it: one that hears nothing takes the
/// connection for broken. A code that may not be sent is answered as the error that it is.
pub(super) async fn answer_goodbye<W: AsyncWrite + Unpin>(
    code: u16,
    writer: &mut W,
) -> io::Result<()> {
    let code = match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => code,
        _ => PROTOCOL_ERROR,
    };
    let mut output = Output::default();
    output.close(code, "");
    output.write_to(writer, || {}).await?;
    writer.shutdown().await
}

/// How far the client has been written to.
struct Position {
    share: Share,
    after: Seq,
    /// Up to here it was sent on an earlier connection.
    written: Seq,
    /// The last entry that was for this client.
    mine: Seq,
    /// A note that is in no journal waits for the ping that confirms it.
    told: bool,
    replay_until: Seq,
    /// Replies that wait for the idle of their request: replies overtake output, and a client forgets a
    /// request with its reply, or waits only some seconds more. In a replay for every client, else for those
    /// that take long over large texts.
    held: Vec<(RequestKey, Rc<Entry>)>,
    /// What waits until the client listens.
    late: Option<Late>,
}

/// A client that resumes a cell and has nothing of it on this or an earlier connection.
fn late(shared: &Shared, ticket: &Ticket) -> Option<Late> {
    let on = ticket.share.catch_up().filter(|_| shared.resumes)?;
    (ticket.after == on.after).then(|| Late::new(on.clone(), Instant::now()))
}

impl Position {
    /// Goes on with what was late, when it is time.
    fn resume(&mut self, shared: &Shared, ends: bool, output: &mut Output) {
        let now = Instant::now();
        match self.late.as_mut().and_then(|late| late.take(now, ends)) {
            None => {}
            Some(Due::Busy(on)) => {
                encode(shared, None, &shared.broker.busy_with(on.header), output);
                if ends {
                    self.resume(shared, ends, output);
                }
            }
            Some(Due::Everything(entries)) => {
                self.late = None;
                for (seq, entry) in entries {
                    self.tell(shared, seq, &entry, output);
                }
                if self.after >= self.replay_until {
                    self.let_go(|_| true, shared, output);
                }
            }
        }
    }

    async fn due(&self) {
        match &self.late {
            Some(late) => sleep_until(late.due()).await,
            None => std::future::pending().await,
        }
    }

    fn tell(&mut self, shared: &Shared, seq: Seq, entry: &Rc<Entry>, output: &mut Output) {
        match &entry.mark {
            Mark::Once if seq <= self.written => return,
            Mark::EarlyReply(key) if shared.text_only || seq <= self.replay_until => {
                return self.held.push((RequestKey::clone(key), Rc::clone(entry)));
            }
            _ => encode(shared, Some(seq), entry, output),
        }
        if let Mark::Idle(idle) = &entry.mark {
            self.let_go(|key| key == idle, shared, output);
        }
    }

    fn take(&mut self, shared: &Shared, batch: Batch, output: &mut Output) {
        // Nothing follows: what the held replies wait for was dropped.
        let is_over = batch.is_empty();
        for (seq, entry) in batch {
            self.after = seq;
            if !self.share.has(seq, &entry) {
                continue;
            }
            self.mine = seq;
            let keeps = |late: &mut Late| late.keeps(seq, &entry);
            if !self.late.as_mut().is_some_and(keeps) {
                self.tell(shared, seq, &entry, output);
            }
        }
        if !shared.text_only && (is_over || self.after >= self.replay_until) {
            self.let_go(|_| true, shared, output);
        }
        shared.written.set(self.after);
        if let Some(place) = &shared.place {
            place.wrote(self.after);
        }
        shared.broker.wrote(&shared.session, shared.id, self.after);
    }

    fn tell_loss(&mut self, shared: &Shared, output: &mut Output) {
        if shared.pinged.get() == Some(self.after) {
            // Its answer would seem to confirm what is told after it.
            return;
        }
        let note = (shared.broker).loss_note(&shared.session, shared.id, self.after);
        if let Some(note) = note {
            encode(shared, None, &note, output);
            self.told = true;
        }
    }

    fn let_go(&mut self, due: impl Fn(&RequestKey) -> bool, shared: &Shared, output: &mut Output) {
        for (_, reply) in self.held.extract_if(.., |(key, _)| due(key)) {
            encode(shared, None, &reply, output);
        }
    }
}

fn control_frames(shared: &Shared, position: &mut Position, output: &mut Output) {
    if let Some(pong) = shared.pong.take() {
        output.frame(Opcode::Pong, &[pong]);
    }
    let acked = shared.acked.get();
    let all_sent = position.held.is_empty() && position.late.is_none();
    if all_sent && position.mine <= acked && position.after > acked {
        // Nothing of it was for this client.
        shared.pass(position.after);
    }
    let has_more = position.mine > acked || position.told;
    let wants_ack = all_sent && has_more && shared.pinged.get().is_none();
    if shared.ping_due.take() || wants_ack {
        let upto = match shared.pinged.get() {
            // Whoever it is waited for has not answered yet, and no more than one is in flight.
            Some(pinged) if shared.acknowledges == Acknowledges::Client => pinged,
            _ if all_sent => position.after,
            _ => acked,
        };
        position.told &= upto != position.after;
        shared.pinged.set(Some(upto));
        output.frame(Opcode::Ping, &[Bytes::from(upto.to_string())]);
    }
}

/// `seq` is the entry's number in the journal, if it is there.
fn encode(shared: &Shared, seq: Option<Seq>, entry: &Entry, output: &mut Output) {
    let payload = match (shared.framing, &shared.place, seq) {
        (Framing::V1, ..) => return output.frame(Opcode::Binary, &entry.v1()),
        (Framing::Legacy, Some(place), Some(seq)) => place.payload(seq, entry),
        (Framing::Legacy, ..) => entry.legacy(),
    };
    match payload {
        Ok(Payload::Text(text)) if shared.text_only && text.len() > TEXT_BYTES_MAX => {
            instead(shared, entry, output);
        }
        Ok(Payload::Binary(_)) if shared.text_only => instead(shared, entry, output),
        Ok(Payload::Text(text)) => output.frame(Opcode::Text, &[text]),
        Ok(Payload::Binary(binary)) => output.frame(Opcode::Binary, &[binary]),
        Err(error) => warn!(%error, "a message cannot be sent in the legacy framing"),
    }
}

/// What a stock jupyter_server survives; to every other client the entry is sent whole.
fn instead(shared: &Shared, entry: &Entry, output: &mut Output) {
    let (channel, message) = entry.message();
    let session = &shared.session;
    if !message.buffers.is_empty() {
        warn!(%session, "left out buffers that jupyter_server cannot take");
    }
    let parent = message.parent_header.clone();
    let payloads: Result<Vec<_>, _> = match text_only::instead(channel, message, TEXT_BYTES_MAX) {
        Ok(Instead::Messages(messages)) => {
            if messages.is_empty() {
                warn!(%session, "left out a message whose header jupyter_server cannot take");
            }
            let payloads = messages
                .iter()
                .map(|message| legacy::encode(channel, message));
            payloads.collect()
        }
        Ok(Instead::Note(text)) => {
            warn!(%session, "left out output that is too large for jupyter_server");
            shared
                .broker
                .note(parent, &text)
                .legacy()
                .map(|note| vec![note])
        }
        Err(error) => Err(error),
    };
    match payloads {
        Ok(payloads) => {
            for payload in payloads {
                let (Payload::Text(text) | Payload::Binary(text)) = payload;
                // The header that a note answers may itself be too large.
                if text.len() <= TEXT_BYTES_MAX {
                    output.frame(Opcode::Text, &[text]);
                }
            }
        }
        Err(error) => warn!(%error, "a message cannot be sent in the legacy framing"),
    }
}
