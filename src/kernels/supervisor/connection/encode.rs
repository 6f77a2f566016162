//! An entry as one client gets it: in its framing, or what it can take instead.

use tracing::warn;

use super::Shared;
use super::output::Output;
use super::text_only::{self, Instead};
use crate::kernels::contract::Framing;
use crate::kernels::supervisor::journal::{Entry, Seq};
use crate::protocol::legacy::{self, Payload};
use crate::protocol::websocket::Opcode;

/// What tornado's WebSocket client takes, less some room.
const TEXT_BYTES_MAX: usize = 10 * 1024 * 1024 - 1024;

/// `seq` is the entry's number in the journal, if it is there.
pub(super) fn encode(shared: &Shared, seq: Option<Seq>, entry: &Entry, output: &mut Output) {
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
