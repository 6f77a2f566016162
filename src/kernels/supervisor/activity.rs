//! What the kernel is doing, read from the states that it publishes. Pure.
//!
//! Kernels with subshells are busy with several requests at once, so busy is a set.

use bytes::Bytes;
use jiff::Timestamp;

use super::journal::RequestKey;

/// Requests that are no work of the user's: as jupyter_server has it, they make no kernel busy.
const NOT_ACTIVITY: [&str; 10] = [
    "comm_info_request",
    "kernel_info_request",
    "shutdown_request",
    "interrupt_request",
    "debug_request",
    "create_subshell_request",
    "delete_subshell_request",
    "list_subshell_request",
    "is_complete_request",
    "history_request",
];

/// Room for requests whose idle never comes.
const BUSY_MAX: usize = 1024;

/// A request that the kernel works on.
#[derive(Debug)]
struct Busy {
    key: RequestKey,
    header: Bytes,
}

/// What the kernel works on, and when it last did.
#[derive(Debug)]
pub struct Activity {
    busy: Vec<Busy>,
    last: Timestamp,
}

impl Activity {
    /// Nothing yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            busy: Vec::new(),
            last: now,
        }
    }

    /// The kernel has begun to work on a request, of the type `msg_type` with this header.
    pub fn busy(&mut self, key: &RequestKey, msg_type: &str, header: &Bytes, now: Timestamp) {
        if NOT_ACTIVITY.contains(&msg_type) || self.busy.len() >= BUSY_MAX {
            return;
        }
        self.last = now;
        if self.is_running(key) {
            // What we have begun, the kernel goes on with.
            return;
        }
        self.busy.push(Busy {
            key: RequestKey::clone(key),
            // A copy of its own: the original shares a buffer with other messages.
            header: Bytes::copy_from_slice(header),
        });
    }

    /// The kernel has done with a request.
    pub fn idle(&mut self, key: &str, now: Timestamp) {
        let before = self.busy.len();
        self.busy.retain(|busy| busy.key.as_ref() != key);
        if self.busy.len() < before {
            self.last = now;
        }
    }

    /// The kernel is another one now.
    pub fn clear(&mut self, now: Timestamp) {
        self.busy.clear();
        self.last = now;
    }

    /// The key and header of the request that it has worked on for longest; `None` when idle.
    pub fn running(&self) -> Option<(&RequestKey, &Bytes)> {
        self.busy.first().map(|busy| (&busy.key, &busy.header))
    }

    /// Whether it works on this request.
    pub fn is_running(&self, key: &RequestKey) -> bool {
        self.busy.iter().any(|busy| busy.key == *key)
    }

    /// When it last began or ended work.
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_until_the_last_of_several_requests_is_done() {
        let (mut activity, now) = (Activity::new(Timestamp::UNIX_EPOCH), Timestamp::now());
        let header = Bytes::from_static(b"{}");
        for key in ["a", "b"] {
            activity.busy(&key.into(), "execute_request", &header, now);
        }
        activity.busy(&"c".into(), "kernel_info_request", &header, now);
        activity.idle("a", now);
        assert_eq!(activity.running().unwrap().0.as_ref(), "b");
        activity.idle("b", now);
        assert_eq!((activity.running(), activity.last()), (None, now));
    }
}
