//! What a line that breaks repeats, told from what is new: pure, no sockets and no clock.
//!
//! Bounded: the oldest go first.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::protocol::message::{Channel, HeaderPeek};

/// What may be unacknowledged and still be told apart from what is new, in messages.
const WINDOW_MAX: usize = 256 * 1024;

/// Tells what a reconnect repeats from what is new.
///
/// A ping numbers what was written before it, and the next one comes only when it was answered. So
/// what came before the last ping but one is acknowledged, and a repeat is one of those after it.
///
/// A message is known by its id and session, of which the protocol says that no two messages have the same.
#[derive(Debug, Default)]
pub struct Window {
    /// Between the last two pings.
    before: VecDeque<u64>,
    /// After the last ping.
    since: VecDeque<u64>,
    /// What may come again on this connection.
    expected: HashSet<u64>,
}

impl Window {
    /// Whether this message, by its channel and header, is to be relayed: it is not when it repeats one.
    pub fn is_new(&mut self, channel: Channel, header: &[u8]) -> bool {
        let Some(peek) = HeaderPeek::read(header).filter(|peek| !peek.msg_id.is_empty()) else {
            return true;
        };
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let digest = hasher.hash_one((channel, peek.session, peek.msg_id));
        let is_new = !self.expected.remove(&digest);
        self.since.push_back(digest);
        if self.before.len() + self.since.len() > WINDOW_MAX {
            let oldest = self.before.pop_front();
            oldest.or_else(|| self.since.pop_front());
        }
        is_new
    }

    /// A ping has come, and is answered.
    pub fn pinged(&mut self) {
        self.before = std::mem::take(&mut self.since);
    }

    /// A new connection begins. What an earlier one should have repeated and did not may come on this.
    pub fn reattached(&mut self) {
        if self.expected.len() > WINDOW_MAX {
            self.expected.clear();
        }
        let window = self.before.drain(..).chain(self.since.drain(..));
        self.expected.extend(window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(session: &str, id: usize) -> Vec<u8> {
        format!(r#"{{"msg_id":"{id}","session":"{session}","msg_type":"x"}}"#).into_bytes()
    }

    proptest! {
        /// What a journal sends over a line that breaks anywhere comes out once and in order.
        #[test]
        fn a_line_that_breaks_repeats_nothing_and_loses_nothing(
            breaks in prop::collection::vec((1..30usize, any::<bool>()), 1..8),
            ping_every in 1..9usize,
        ) {
            const ALL: usize = 60;
            let (mut window, mut got) = (Window::default(), Vec::new());
            // What the journal knows to be acknowledged, and what was acknowledged by a pong on its way.
            let (mut cursor, mut pinged) = (0, 0);
            for (lives_for, pong_arrives) in breaks.into_iter().chain([(ALL, true)]) {
                window.reattached();
                let mut since_ping = 0;
                for seq in (cursor + 1..=ALL).take(lives_for) {
                    if window.is_new(Channel::Iopub, &header("k", seq)) {
                        got.push(seq);
                    }
                    since_ping += 1;
                    if since_ping == ping_every {
                        // It was sent since the one before had been answered.
                        cursor = cursor.max(pinged);
                        (pinged, since_ping) = (seq, 0);
                        window.pinged();
                    }
                }
                if pong_arrives {
                    cursor = cursor.max(pinged);
                }
                pinged = cursor;
            }
            prop_assert_eq!(got, (1..=ALL).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            Window::default().is_new(Channel::Shell, &bytes);
        }
    }
}
