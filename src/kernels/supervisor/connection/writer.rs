//! The way to one client: the kernel's true state, then the journal at the client's own pace, pings in between.
//!
//! A ping carries the number of the last entry written before it and at most one is in flight, so what
//! a reconnect repeats is bounded by one round trip.

use std::io;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::Shared;
use super::encode::encode;
use super::output::Output;
use super::position::{Position, batch_bytes};
use crate::kernels::supervisor::broker::Ticket;
use crate::kernels::supervisor::journal::Read;

/// The close code of RFC 6455 for what breaks it.
const PROTOCOL_ERROR: u16 = 1002;

/// A reply held for a client that is there goes when nothing has come for so long: its request has no idle.
const HELD_WITHIN: Duration = Duration::from_secs(1);

/// Writes to the client until the connection is asked to close, and says why it closes.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    ticket: &Ticket,
    writer: &mut W,
) -> io::Result<()> {
    let mut position = Position::begin(shared, ticket);
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
        let (may_follow, is_full) = match position.read(shared) {
            None => (false, false),
            Some(Read::Ready(batch)) => {
                let bytes: usize = batch.iter().map(|(_, entry)| entry.bytes()).sum();
                let may_follow = !batch.is_empty();
                position.take(shared, batch, &mut output);
                (may_follow, bytes >= batch_bytes(shared))
            }
            Some(Read::Loading(loading)) => {
                shared.stalled.set(true);
                output
                    .write_to(writer, || shared.progressed.set(true))
                    .await?;
                shared.stalled.set(false);
                brought(shared, &mut position, loading, &mut output, writer).await?;
                continue;
            }
        };
        position.resume(shared, closing.is_some(), &mut output);
        position.tell_loss(shared, &mut output);
        position.control_frames(shared, &mut output);
        if !output.is_empty() {
            shared.stalled.set(true);
            output
                .write_to(writer, || shared.progressed.set(true))
                .await?;
            shared.stalled.set(false);
        } else if may_follow {
            // Nothing of it was to be written yet; what follows is there already.
        } else if position.holds_nothing() {
            if closing.is_some() {
                break;
            }
            output.rest();
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
        if is_full {
            // There is more: the reader, and others, have their turn first.
            yield_now().await;
        }
    }
    if let Some((code, reason)) = shared.line.closing() {
        output.close(code, reason);
    }
    output.write_to(writer, || {}).await?;
    writer.shutdown().await
}

/// Waits for what is on its way, as long as the connection is to stay: a disk may take long, and the client is pinged
/// and answered meanwhile.
async fn brought<W: AsyncWrite + Unpin>(
    shared: &Shared,
    position: &mut Position,
    mut loading: LocalBoxFuture<'static, ()>,
    output: &mut Output,
    writer: &mut W,
) -> io::Result<()> {
    loop {
        tokio::select! {
            biased;
            () = &mut loading => return Ok(()),
            () = shared.line.wake.notified() => {}
        }
        if let Some((code, _)) = shared.line.closing()
            && code != super::KERNEL_GONE
        {
            return Ok(());
        }
        position.control_frames(shared, output);
        shared.stalled.set(true);
        let progressed = || shared.progressed.set(true);
        output.write_to(writer, progressed).await?;
        shared.stalled.set(false);
    }
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
