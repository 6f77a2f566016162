//! What a new client session gets of what was said before it came: the answers to one request. Pure.
//!
//! A page that is loaded anew, or an editor, comes with a new session id and looks for what the cell said
//! that it had been watching. Of other requests nothing is repeated: VS Code takes any of their messages for
//! the end of that cell.

use std::rc::Rc;

use bytes::Bytes;

use super::journal::{Entry, Kind, Label, RequestKey, Route, Seq};

/// The request whose answers a new session gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub request: RequestKey,
    /// Its header: what is said of it names this as its parent.
    pub header: Bytes,
    /// Up to here another session has them.
    pub after: Seq,
    /// The reply too: the asker is the same user.
    pub with_reply: bool,
    /// The new session takes the place of the asker: what it has, the next one need not get.
    pub takes_over: bool,
    /// The entry that says that the kernel has done with it, if it has.
    pub idle: Option<Seq>,
    /// Only what a page shows of it.
    pub shown_only: bool,
}

/// Which entries a session gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    session: Rc<str>,
    catching_up: Option<CatchingUp>,
    /// What it has had, and gets once more.
    again: Option<CatchingUp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct CatchingUp {
    /// Up to this entry, only what answers the request.
    until: Seq,
    on: CatchUp,
}

impl Share {
    /// The share of a session that begins after the entry `last`, but for what it catches up on.
    pub fn new(session: &Rc<str>, last: Seq, catch_up: Option<CatchUp>) -> Self {
        Self {
            session: Rc::clone(session),
            catching_up: catch_up.map(|on| CatchingUp { until: last, on }),
            again: None,
        }
    }

    /// The same, and of what was had before, up to the entry `until`, this once more.
    pub fn with_again(&self, until: Seq, on: CatchUp) -> Self {
        Self {
            again: Some(CatchingUp { until, on }),
            ..self.clone()
        }
    }

    /// Whether this entry is one of them.
    pub fn has(&self, seq: Seq, entry: &Entry) -> bool {
        self.has_of(seq, &entry.route, || entry.label())
    }

    /// Whether the entry with this label is one of them.
    pub fn has_labelled(&self, seq: Seq, label: &Label) -> bool {
        self.has_of(seq, &label.route, || label.clone())
    }

    fn has_of(&self, seq: Seq, route: &Route, label: impl Fn() -> Label) -> bool {
        if let Some(again) = self.again.as_ref().filter(|again| seq <= again.until) {
            return again.on.has_labelled(&label());
        }
        match &self.catching_up {
            Some(catching_up) if seq <= catching_up.until => catching_up.on.has_labelled(&label()),
            // The reply that is still to come.
            Some(catching_up) if !route.is_for(&self.session) => {
                catching_up.on.has_labelled(&label())
            }
            _ => route.is_for(&self.session),
        }
    }

    /// What the session catches up on for good, up to which entry.
    pub fn caught_up(&self) -> Option<(Seq, &CatchUp)> {
        let catching_up = self.catching_up.as_ref()?;
        Some((catching_up.until, &catching_up.on))
    }

    /// What the session catches up on.
    pub fn catch_up(&self) -> Option<&CatchUp> {
        let catching_up = self.again.as_ref().or(self.catching_up.as_ref());
        catching_up.map(|catching_up| &catching_up.on)
    }
}

impl CatchUp {
    /// Whether this entry answers the request, for somebody else than who asked.
    ///
    /// Not what the cell was: VS Code takes the message for the begin of the next one.
    pub fn has(&self, entry: &Entry) -> bool {
        self.has_labelled(&entry.label())
    }

    fn has_labelled(&self, label: &Label) -> bool {
        let may_have = label.route == Route::Everyone || self.with_reply;
        let fits = match label.kind {
            Kind::Shown => true,
            Kind::Other => !self.shown_only,
            Kind::AskersOnly => false,
        };
        may_have && fits && label.request.as_ref() == Some(&self.request)
    }
}
