//! Who asked what: pure, no sockets and no clock.
//!
//! `I` is what leads back to a client. It is bounded: the oldest go first.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use crate::protocol::message::HeaderPeek;

/// What is remembered of requests, in bytes of their ids.
const ASKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Sessions of clients that are remembered.
const SESSIONS_MAX: usize = 1024;

/// A request: the session and the id of its header.
type Key = (String, String);

/// Finds the way back: by the request that a reply names, else by the session of that request.
#[derive(Debug)]
pub struct Routes<I> {
    asked: HashMap<Key, I>,
    order: VecDeque<Key>,
    bytes: usize,
    sessions: HashMap<String, I>,
}

impl<I> Default for Routes<I> {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            sessions: HashMap::new(),
        }
    }
}

impl<I: Clone> Routes<I> {
    /// A client asks with this header. What has no readable one will not be found.
    pub fn asked(&mut self, header: &[u8], who: I) {
        let Some(key) = key(header) else {
            return;
        };
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&key.0) {
            self.sessions.clear();
        }
        self.sessions.insert(key.0.clone(), who.clone());
        if self.asked.insert(key.clone(), who).is_none() {
            self.bytes += bytes(&key);
            self.order.push_back(key);
        }
        while self.bytes > ASKED_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= bytes(&oldest);
            self.asked.remove(&oldest);
        }
    }

    /// Who is to get what answers this header.
    pub fn asker(&self, parent_header: &[u8]) -> Option<&I> {
        let key = key(parent_header)?;
        self.asked.get(&key).or_else(|| self.sessions.get(&key.0))
    }
}

fn key(header: &[u8]) -> Option<Key> {
    let peek = HeaderPeek::read(header)?;
    let owned = |text: Cow<'_, str>| text.into_owned();
    (!peek.msg_id.is_empty()).then(|| (owned(peek.session), owned(peek.msg_id)))
}

fn bytes((session, id): &Key) -> usize {
    session.len() + id.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(session: &str, id: usize) -> Vec<u8> {
        format!(r#"{{"msg_id":"{id}","session":"{session}","msg_type":"x"}}"#).into_bytes()
    }

    proptest! {
        /// However clients' requests mix, every reply goes to the one that asked.
        #[test]
        fn replies_go_to_whoever_asked(
            asked in prop::collection::vec((0..4usize, 0..3usize), 1..200),
        ) {
            let mut routes = Routes::default();
            for (id, (who, session)) in asked.iter().enumerate() {
                routes.asked(&header(&format!("s{session}"), id), *who);
            }
            for (id, (who, session)) in asked.iter().enumerate() {
                prop_assert_eq!(routes.asker(&header(&format!("s{session}"), id)), Some(who));
            }
            // One that is not known goes to the last of its session, or to nobody.
            for session in 0..3 {
                let last = asked.iter().rfind(|(_, of)| *of == session).map(|(who, _)| who);
                prop_assert_eq!(routes.asker(&header(&format!("s{session}"), 1000)), last);
            }
            prop_assert_eq!(routes.asker(b"{}"), None);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut routes = Routes::default();
            routes.asked(&bytes, ());
            routes.asker(&bytes);
        }
    }

    #[test]
    fn the_oldest_requests_are_forgotten_before_they_are_too_many() {
        let mut routes = Routes::default();
        let long = "s".repeat(1024);
        for id in 0..10_000 {
            routes.asked(&header(&long, id), id);
        }
        assert!(routes.bytes <= ASKED_BYTES_MAX && routes.asked.len() == routes.order.len());
        assert_eq!(routes.asker(&header(&long, 9_999)), Some(&9_999));
        assert_eq!(routes.asked.get(&(long, "0".to_owned())), None);
    }
}
