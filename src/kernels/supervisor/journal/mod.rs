//! Every message for clients, numbered. Readers go at their own pace; what nobody needs is let go.
//!
//! [`Journal`] is what the broker sees; [`memory`] is the one that keeps all of it in memory, [`disk`] the one that
//! writes what is needed for long to files. Knows nothing of sessions: who still needs what is told to it.

pub mod disk;
mod entry;
#[cfg(test)]
pub(crate) mod far;
pub mod memory;
mod tail;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

pub use entry::{Entry, Kind, Label, Mark, RequestKey, Route, request_key};

/// The number of an entry: the first is 1, so 0 stands for "nothing yet".
pub type Seq = u64;

/// Every number is below this: JavaScript has no larger whole ones.
pub const SEQ_MAX: Seq = 1 << 53;

/// So many numbers no supervisor gives out.
const FAR: Seq = 1 << 32;

/// The number after which a supervisor begins that takes over from others, this being the `takeovers`th time, which
/// have `noted` how far clients were: whatever they gave out beyond is not given out again, so that nobody takes an
/// entry for another.
pub fn far_after(noted: impl Iterator<Item = Seq>, takeovers: usize) -> Seq {
    let noted = noted.filter(|seq| *seq < SEQ_MAX).max();
    let beyond = noted.map_or(0, |noted| noted.next_multiple_of(FAR) + FAR);
    // Where they noted nothing: each begins at most so far after the one before.
    let at_least = (takeovers as Seq).saturating_mul(2 * FAR);
    beyond.max(at_least).min(SEQ_MAX - FAR)
}

/// Entries on their way to one reader, oldest first.
pub type Batch = Vec<(Seq, Rc<Entry>)>;

/// The answer to [`Journal::read`].
pub enum Read {
    /// What follows, possibly nothing.
    Ready(Batch),
    /// The entries have to be brought from elsewhere: await this, then read again.
    Loading(LocalBoxFuture<'static, ()>),
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(batch) => f.debug_tuple("Ready").field(&batch.len()).finish(),
            Self::Loading(_) => f.write_str("Loading"),
        }
    }
}

/// How far clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Some client has yet to get what follows this entry.
    pub after: Seq,
    /// Of what follows this one, a client that is away has yet to get some; of nothing when absent.
    pub away_after: Option<Seq>,
    /// Cells that are not done, and the newest that are, began after this one: a page that lost what it had asks for it.
    pub cells_after: Seq,
}

impl Needs {
    /// Nobody needs anything up to this entry.
    pub fn nothing_up_to(seq: Seq) -> Self {
        Self {
            after: seq,
            away_after: None,
            cells_after: seq,
        }
    }

    /// The entries up to this one are of use to nobody.
    pub fn useless_up_to(self) -> Seq {
        self.after.min(self.cells_after)
    }
}

/// An entry that had to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub seq: Seq,
    pub label: Label,
    /// None older is held, nor may be.
    pub is_oldest: bool,
    pub cause: Cause,
}

/// Why an entry had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A bound.
    Full,
    /// The files do not have it: they could not be written or read.
    Damage,
}

/// Keeps entries until nobody needs them or a bound is reached.
pub trait Journal {
    /// Takes an entry in and numbers it.
    fn append(&mut self, entry: Entry) -> Seq;

    /// The entries after `after`, at least one if there is any and about `bytes_max` in all.
    /// Those that were dropped are passed over.
    fn read(&mut self, after: Seq, bytes_max: usize) -> Read;

    /// The number of the newest entry.
    fn last(&self) -> Seq;

    /// The newest entry that an earlier supervisor left in files.
    fn recovered(&mut self) -> Option<Seq> {
        None
    }

    /// How many entries follow `after`: numbers do not tell, which those of several supervisors are far apart.
    fn count(&self, after: Seq) -> u64;

    /// Clients have come so far. What nobody needs may be held for a while all the same.
    fn release(&mut self, needs: Needs);

    /// An entry that is needed or belongs to a cell that is not done, if a bound demands that it goes. To be called
    /// after each append until there is none, so that each loss can be told to whom it concerns.
    fn drop_oldest(&mut self) -> Option<Dropped>;

    /// Why the last that went by [`Cause::Damage`] did, for people.
    fn damage(&self) -> Option<String> {
        None
    }

    /// What was there up to this entry cannot be read in time, or not all of it: whoever reads on passes over it.
    fn unread(&self) -> Option<Seq> {
        None
    }

    /// How much is held, overhead included.
    fn bytes(&self) -> usize;

    /// To be called soon after anything has happened, and again when it says so: what is needed for long goes to where it is safe.
    fn keep(&mut self) -> Keeping {
        Keeping::default()
    }
}

/// The answer to [`Journal::keep`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// When it is to be called again even if nothing happens.
    pub again: Option<Duration>,
    /// Why nothing can be written, if so, for people.
    pub fault: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever was noted of what was given out, down to nothing.
        #[test]
        fn no_number_is_given_out_twice(lives in prop::collection::vec((0..FAR, 0..=FAR), 1..50)) {
            let mut given_out = 0;
            let mut begin = 0;
            for (takeovers, (given, unnoted)) in (1..).zip(lives) {
                prop_assert!(begin >= given_out);
                given_out = begin + given;
                let noted = (begin + given).checked_sub(unnoted);
                begin = far_after(noted.into_iter(), takeovers);
                prop_assert!(begin > given_out && begin < SEQ_MAX);
            }
        }
    }

    #[test]
    fn a_number_that_is_none_changes_nothing() {
        assert_eq!(far_after([3, Seq::MAX].into_iter(), 1), 2 * FAR);
        assert_eq!(far_after([SEQ_MAX - 1].into_iter(), 1), SEQ_MAX - FAR);
    }
}
