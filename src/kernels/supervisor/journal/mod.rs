//! Every message for clients, numbered. Readers go at their own pace; what nobody needs is released.
//!
//! [`Journal`] is what the broker sees; [`memory`] is the one that keeps all of it in memory. Knows
//! nothing of sessions: who still needs what is told to it.

mod entry;
#[cfg(test)]
pub(crate) mod far;
pub mod memory;

use std::fmt;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

pub use entry::{Entry, Mark, RequestKey, Route, request_key};

/// The number of an entry: the first is 1, so 0 stands for "nothing yet".
pub type Seq = u64;

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

/// Keeps entries until they are released or a bound is reached.
pub trait Journal {
    /// Takes an entry in and numbers it.
    fn append(&mut self, entry: Entry) -> Seq;

    /// The entries after `after`, at least one if there is any and about `bytes_max` in all.
    /// Those that were dropped are passed over.
    fn read(&mut self, after: Seq, bytes_max: usize) -> Read;

    /// The number of the newest entry.
    fn last(&self) -> Seq;

    /// Nobody needs the entries up to this one any more.
    fn release(&mut self, up_to: Seq);

    /// The oldest entry if the bound demands that it goes, still needed or not. To be called after
    /// each append until there is none, so that each loss can be told to whom it concerns.
    fn drop_oldest(&mut self) -> Option<(Seq, Rc<Entry>)>;

    /// How much is held, overhead included.
    fn bytes(&self) -> usize;
}
