//! How a session is written to whose connections break again and again before it has acknowledged anything: one of
//! the messages may be what breaks them. Pure.

use crate::kernels::supervisor::journal::Seq;

/// What a connection that broke counts, and one that the client ended because it could not take what it was sent.
const BROKEN: u32 = 1;
const REFUSED: u32 = 5;

/// From here on messages come one by one, each once the one before is acknowledged.
const CAREFUL_FROM: u32 = 10;

/// From here on the next one is left out: it is what breaks the connection.
const SKIPPING_FROM: u32 = 20;

/// How the next connection is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Plain,
    OneByOne,
    /// One by one, and the first is left out.
    WithoutTheFirst,
}

/// What is known of a session's connections that came to nothing.
#[derive(Debug, Default)]
pub(super) struct Care {
    failures: u32,
    /// The cursor when the connection began.
    from: Seq,
    was_sent: bool,
    was_refused: bool,
}

impl Care {
    /// A connection begins at this cursor.
    pub(super) fn begin(&mut self, cursor: Seq) -> Manner {
        self.from = cursor;
        self.was_sent = false;
        self.was_refused = false;
        match self.failures {
            SKIPPING_FROM.. => Manner::WithoutTheFirst,
            CAREFUL_FROM.. => Manner::OneByOne,
            _ => Manner::Plain,
        }
    }

    /// Something was sent on it.
    pub(super) fn sent(&mut self) {
        self.was_sent = true;
    }

    /// The client says that it cannot take what it was sent.
    pub(super) fn refused(&mut self) {
        self.was_refused = true;
    }

    /// It is gone, the cursor being here.
    pub(super) fn end(&mut self, cursor: Seq) {
        if cursor > self.from {
            self.failures = 0;
        } else if self.was_sent {
            let count = if self.was_refused { REFUSED } else { BROKEN };
            self.failures = self.failures.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_to_nothing_again_and_again_is_written_to_with_care_until_it_gets_on() {
        let mut care = Care::default();
        let mut connect = |refuses: bool, cursor| {
            let manner = care.begin(7);
            care.sent();
            if refuses {
                care.refused();
            }
            care.end(cursor);
            manner
        };
        let refused: Vec<_> = (0..5).map(|_| connect(true, 7)).collect();
        let expected = [
            Manner::Plain,
            Manner::Plain,
            Manner::OneByOne,
            Manner::OneByOne,
            Manner::WithoutTheFirst,
        ];
        assert_eq!(refused, expected);
        assert_eq!(connect(false, 8), Manner::WithoutTheFirst);
        // It got on; lines that are cut are not so soon taken for refusals.
        let cut: Vec<_> = (0..15).map(|_| connect(false, 7)).collect();
        assert!(cut[..10].iter().all(|manner| *manner == Manner::Plain));
        assert!(cut[10..].iter().all(|manner| *manner == Manner::OneByOne));
        // Nothing was sent: that says nothing.
        care.begin(7);
        care.end(7);
        assert_eq!(care.failures, 15);
    }
}
