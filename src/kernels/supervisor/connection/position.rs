//! How far one client has been written to, and what it gets next: which entries, when, in which shape.

use std::rc::Rc;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::Shared;
use super::coalesce::{Run, Whole};
use super::encode::encode;
use super::late::{Due, Late};
use super::output::Output;
use crate::kernels::contract::Acknowledges;
use crate::kernels::supervisor::broker::Ticket;
use crate::kernels::supervisor::catch_up::Share;
use crate::kernels::supervisor::journal::{Batch, Entry, Mark, Read, RequestKey, Seq};
use crate::kernels::supervisor::sessions::Manner;
use crate::protocol::message::HeaderPeek;
use crate::protocol::websocket::Opcode;

/// About how much is taken from the journal at most before it is written.
const BATCH_BYTES: usize = 256 * 1024;

/// Less, if all connections together would take more than this.
const CROWD_BYTES: usize = 16 * 1024 * 1024;

/// But not less than this.
const BATCH_BYTES_MIN: usize = 16 * 1024;

/// About how much a connection takes from the journal before it is written.
pub(super) fn batch_bytes(shared: &Shared) -> usize {
    let share = CROWD_BYTES / shared.broker.connections().max(1);
    share.clamp(BATCH_BYTES_MIN, BATCH_BYTES)
}

/// With more than this to be repeated, text is put together.
const LONG: u64 = 256;

/// How far the client has been written to.
pub(super) struct Position {
    share: Share,
    after: Seq,
    /// Up to here it was sent on an earlier connection.
    written: Seq,
    /// The last entry that was for this client.
    mine: Seq,
    /// A note that is in no journal waits for the ping that confirms it.
    told: bool,
    replay_until: Seq,
    /// Each message waits until the one before is acknowledged.
    is_careful: bool,
    /// The next message is left out.
    skips: bool,
    /// It is a replay of much.
    is_long: bool,
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
    /// Where a connection begins.
    pub(super) fn begin(shared: &Shared, ticket: &Ticket) -> Self {
        Self {
            share: ticket.share.clone(),
            after: ticket.after,
            written: ticket.written,
            mine: ticket.after,
            told: false,
            replay_until: ticket.replay_until,
            is_careful: ticket.manner != Manner::Plain,
            skips: ticket.manner == Manner::WithoutTheFirst,
            is_long: shared.broker.count(ticket.after) > LONG,
            held: Vec::new(),
            late: late(shared, ticket),
        }
    }

    /// Whether no reply waits for an idle.
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Goes on with what was late, when it is time.
    pub(super) fn resume(&mut self, shared: &Shared, ends: bool, output: &mut Output) {
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

    pub(super) async fn due(&self) {
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

    /// What is to be written next; nothing while what was written has to be acknowledged first.
    pub(super) fn read(&mut self, shared: &Shared) -> Option<Read> {
        self.is_careful &= self.after < self.replay_until;
        if !self.is_careful {
            return Some(shared.broker.read(self.after, batch_bytes(shared)));
        }
        let is_sent = self.held.is_empty() && self.late.is_none();
        let waits = is_sent && self.mine > shared.acked.get();
        (!waits).then(|| shared.broker.read(self.after, 1))
    }

    /// A note instead of what the client cannot take.
    fn leave_out(&self, shared: &Shared, entry: &Entry, output: &mut Output) {
        let (_, message) = entry.message();
        let peek = HeaderPeek::read(&message.header);
        let msg_type = peek.map_or_else(String::new, |peek| peek.msg_type.into_owned());
        warn!(session = %shared.session, msg_type, "left out a message that this client does not take");
        let text = format!(
            "[nb] a message ({msg_type}, {} bytes) was left out: this client ended its connection each time that \
             it was sent\n",
            message.bytes()
        );
        let note = shared.broker.note(message.parent_header.clone(), &text);
        encode(shared, None, &note, output);
    }

    fn tell_whole(&mut self, shared: &Shared, whole: Option<Whole>, output: &mut Output) {
        match whole {
            None => {}
            Some(Whole::One(seq, entry)) => self.tell(shared, seq, &entry, output),
            Some(Whole::Some(entry)) => encode(shared, None, &entry, output),
        }
    }

    pub(super) fn take(&mut self, shared: &Shared, batch: Batch, output: &mut Output) {
        // Nothing follows: what the held replies wait for was dropped.
        let is_over = batch.is_empty();
        let mut run = Run::default();
        for (seq, entry) in batch {
            self.after = seq;
            if !self.share.has(seq, &entry) {
                continue;
            }
            self.mine = seq;
            if std::mem::take(&mut self.skips) {
                self.leave_out(shared, &entry, output);
                continue;
            }
            let keeps = |late: &mut Late| late.keeps(seq, &entry);
            if self.late.as_mut().is_some_and(keeps) {
                continue;
            }
            // What was sent before is known by its msg_id.
            let is_replay = self.is_long && seq <= self.replay_until && seq > self.written;
            if is_replay && run.take(seq, &entry) {
                continue;
            }
            self.tell_whole(shared, run.end(), output);
            if !(is_replay && run.take(seq, &entry)) {
                self.tell(shared, seq, &entry, output);
            }
        }
        self.tell_whole(shared, run.end(), output);
        if !shared.text_only && (is_over || self.after >= self.replay_until) {
            self.let_go(|_| true, shared, output);
        }
        shared.written.set(self.after);
        if let Some(place) = &shared.place {
            place.wrote(self.after);
        }
        shared.broker.wrote(&shared.session, shared.id, self.after);
    }

    pub(super) fn tell_loss(&mut self, shared: &Shared, output: &mut Output) {
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

    pub(super) fn let_go(
        &mut self,
        due: impl Fn(&RequestKey) -> bool,
        shared: &Shared,
        output: &mut Output,
    ) {
        for (_, reply) in self.held.extract_if(.., |(key, _)| due(key)) {
            encode(shared, None, &reply, output);
        }
    }

    /// Pongs, and a ping where one is due.
    pub(super) fn control_frames(&mut self, shared: &Shared, output: &mut Output) {
        if let Some(pong) = shared.pong.take() {
            output.frame(Opcode::Pong, &[pong]);
        }
        let acked = shared.acked.get();
        let all_sent = self.held.is_empty() && self.late.is_none();
        if all_sent && self.mine <= acked && self.after > acked {
            // Nothing of it was for this client.
            shared.pass(self.after);
        }
        let has_more = self.mine > acked || self.told;
        let wants_ack = all_sent && has_more && shared.pinged.get().is_none();
        if shared.ping_due.take() || wants_ack {
            let upto = match shared.pinged.get() {
                // Whoever it is waited for has not answered yet, and no more than one is in flight.
                Some(pinged) if shared.acknowledges == Acknowledges::Client => pinged,
                _ if all_sent => self.after,
                _ => acked,
            };
            self.told &= upto != self.after;
            shared.pinged.set(Some(upto));
            output.frame(Opcode::Ping, &[Bytes::from(upto.to_string())]);
        }
    }
}
