//! What has to hold for one client session under one supervisor: what it heard, of what it was to hear, in which order,
//! how often, and what it was told of what is lost.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::record::{Answer, CatchesUp, Heard, Life, Line, Member, Record, Said};
use crate::kernels::supervisor::journal::{Mark, RequestKey, Route, Seq};
use crate::protocol::message::Channel;

/// What a client that is away needs is safe by then.
const SAFE_WITHIN: Duration = Duration::from_secs(1);

/// What a page shows of a cell, which is repeated to make it whole.
const SHOWN: [&str; 6] = [
    "stream",
    "display_data",
    "update_display_data",
    "execute_result",
    "error",
    "clear_output",
];

/// Whether the client has acknowledged the note that it heard at `at`: it is in no journal, so by a ping that came after
/// it and goes further than any before it. One that goes as far says so only `perhaps`.
fn has_heard(line: &Line, at: usize, perhaps: bool) -> bool {
    let before = line.heard[..at].iter().filter_map(|heard| match heard {
        Heard::Ping(number) => Some(*number),
        _ => None,
    });
    let before = before.max().unwrap_or(0).max(line.from);
    let answers = line.acknowledged().filter(|ping| ping.heard > at);
    let mut answers = answers.map(|ping| ping.number);
    answers.any(|number| number > before || (perhaps && number == before))
}

/// One session under one supervisor.
pub(super) struct Judged<'a> {
    record: &'a Record,
    life: Life,
    session: &'a Rc<str>,
    lines: Vec<&'a Line>,
    since: Seq,
    catches_up: Option<CatchesUp>,
    resumes: bool,
}

impl<'a> Judged<'a> {
    pub(super) fn new(
        record: &'a Record,
        life: Life,
        session: &'a Rc<str>,
        member: &Member,
    ) -> Self {
        let is_mine = |line: &&Line| line.life == life && line.session == *session;
        let lines = record.lines.iter().filter(is_mine);
        let lines: Vec<_> = lines.filter(|line| line.begun.is_some()).collect();
        let resumes = lines.iter().any(|line| line.resumes);
        let mut judged = Self {
            record,
            life,
            session,
            lines,
            since: member.since,
            catches_up: member.catches_up.clone(),
            resumes,
        };
        if let Some(earlier) = judged.earlier(member) {
            let last = record.begins[life].last;
            judged.catches_up = earlier.catches_up.map(|on| CatchesUp {
                after: on.after.min(last),
                ..on
            });
        }
        judged
    }

    /// The session under the supervisor before.
    fn earlier(&self, member: &Member) -> Option<Judged<'a>> {
        let life = self.life.checked_sub(1).filter(|_| member.is_restored)?;
        let member = self.record.members.get(&(life, Rc::clone(self.session)))?;
        Some(Judged::new(self.record, life, self.session, member))
    }

    pub(super) fn check(&self, mut fault: impl FnMut(String)) {
        let (mut heard, mut acknowledged) = (BTreeSet::new(), self.noted());
        let mut told = 0..=0;
        for line in &self.lines {
            self.along(line, &heard, &acknowledged, &mut fault);
            for (at, what) in line.heard.iter().enumerate() {
                match what {
                    Heard::Entry(entry) => {
                        heard.insert(*entry);
                        let seq = self.record.said[*entry].seq;
                        let covers = |ping: &Answer| ping.heard > at && ping.number >= seq;
                        let is_acknowledged = line.acknowledged().any(covers);
                        acknowledged.extend(is_acknowledged.then_some(*entry));
                    }
                    Heard::Loss(count) => {
                        let least = if has_heard(line, at, false) {
                            *count
                        } else {
                            0
                        };
                        let most = if has_heard(line, at, true) { *count } else { 0 };
                        told = told.start() + least..=told.end() + most;
                    }
                    Heard::Unknown(what) => fault(format!("heard what nobody said: {what}")),
                    Heard::Ping(_) | Heard::State | Heard::Clears(_) => {}
                }
            }
        }
        if self.record.survives {
            self.is_kept(&acknowledged, &mut fault);
        }
        let (mut lost, mut perhaps) = (0, 0);
        for entry in self.record.said_in(self.life) {
            let said = &self.record.said[entry];
            if !self.is_for_it(said) {
                continue;
            }
            let may_be_skipped = said.mark == Mark::Once && self.lines.len() > 1;
            if said.is_dropped && !acknowledged.contains(&entry) {
                lost += u64::from(!may_be_skipped);
                perhaps += 1;
            } else if !heard.contains(&entry)
                && !may_be_skipped
                && !self.went_with_its_supervisor(entry, said, &heard)
            {
                fault(format!("never heard {said:?}"));
            }
        }
        perhaps += self.dropped_of_before();
        let is_last = self.life == self.record.life;
        if *told.start() > perhaps || (is_last && *told.end() < lost) {
            fault(format!(
                "lost {lost} to {perhaps} messages and was told of {told:?}"
            ));
        }
    }

    /// What the client had acknowledged under earlier supervisors, so long before their end that it was written down.
    fn noted(&self) -> BTreeSet<usize> {
        let lines = self.record.lines.iter();
        let earlier = lines.filter(|line| line.life < self.life && line.session == *self.session);
        let noted = earlier.flat_map(|line| {
            let died = self.record.begins[line.life].ended;
            let by = died.and_then(|died| died.checked_sub(SAFE_WITHIN));
            let answers: Vec<_> = by
                .into_iter()
                .flat_map(|by| line.acknowledged_by(by))
                .collect();
            let heard = line.heard.iter().enumerate();
            heard.filter_map(move |(at, heard)| {
                let Heard::Entry(entry) = heard else {
                    return None;
                };
                let seq = self.record.said[*entry].seq;
                let mut answers = answers.iter();
                let covers = |ping: &&Answer| ping.heard > at && ping.number >= seq;
                answers.any(covers).then_some(*entry)
            })
        });
        noted.collect()
    }

    /// What had to go of what the journal had from before.
    fn dropped_of_before(&self) -> u64 {
        let before = 0..self.record.said_in(self.life).start;
        let dropped = before.filter(|entry| self.record.said[*entry].is_dropped);
        dropped.count() as u64
    }

    /// What a client that is away needs is safe within a second, whatever happens to the supervisor.
    fn is_kept(&self, acknowledged: &BTreeSet<usize>, mut fault: impl FnMut(String)) {
        let Some(died) = self.record.begins[self.life].ended else {
            return;
        };
        let ended: Option<Vec<_>> = self.lines.iter().map(|line| line.ended).collect();
        let Some(ended) = ended else {
            // It was there.
            return;
        };
        let away = ended.into_iter().max();
        let away = away.unwrap_or(self.record.begins[self.life].at);
        let later = self
            .record
            .lines
            .iter()
            .filter(|line| line.life > self.life);
        let later = later.filter(|line| line.session == *self.session);
        let heard: BTreeSet<_> = later
            .flat_map(|line| &line.heard)
            .filter_map(|heard| match heard {
                Heard::Entry(entry) => Some(*entry),
                _ => None,
            })
            .collect();
        for entry in self.record.said_in(self.life) {
            let said = &self.record.said[entry];
            if self.is_for_it(said)
                && died.duration_since(said.at.max(away)) > SAFE_WITHIN
                && !said.is_dropped
                && said.mark != Mark::Once
                && !acknowledged.contains(&entry)
                && !heard.contains(&entry)
            {
                fault(format!("went with its supervisor: {said:?}"));
            }
        }
    }

    /// Whether it is to get this.
    fn is_for_it(&self, said: &Said) -> bool {
        let is_routed = match &said.route {
            Route::Everyone => true,
            Route::Session(session) => session == self.session,
        };
        if said.seq > self.since && is_routed {
            return true;
        }
        self.catches_up.as_ref().is_some_and(|on| {
            said.seq > on.after
                && said.parent.as_ref() == Some(&on.request)
                && said.channel != Channel::Stdin
                && said.msg_type != "execute_input"
                && (said.route == Route::Everyone || on.with_reply)
        })
    }

    /// Whether it is to get this, or was under an earlier supervisor whose journal is there.
    fn was_for_it(&self, said: &Said) -> bool {
        if said.life == self.life || self.is_for_it(said) {
            return self.is_for_it(said);
        }
        let key = (said.life, Rc::clone(self.session));
        let member = self.record.members.get(&key);
        member.is_some_and(|member| {
            let earlier = Judged::new(self.record, said.life, self.session, member);
            earlier.is_for_it(said)
        })
    }

    /// The end of a supervisor explains that something was not heard, but no gap before what was. A reply may have
    /// been kept for its idle, and all of a cell until the client listens.
    fn went_with_its_supervisor(&self, entry: usize, said: &Said, heard: &BTreeSet<usize>) -> bool {
        let is_early = matches!(said.mark, Mark::EarlyReply(_));
        let is_last = heard.last().is_none_or(|last| entry > *last);
        self.life < self.record.life && (is_last || is_early || self.resumes)
    }

    /// What one line carried, after others that carried `before`, of which `acknowledged`.
    fn along(
        &self,
        line: &Line,
        before: &BTreeSet<usize>,
        acknowledged: &BTreeSet<usize>,
        mut fault: impl FnMut(String),
    ) {
        let replayed = line.begun.unwrap_or_default();
        let mut here = BTreeSet::new();
        let (mut last, mut whole, mut goes_back) = (0, None, line.resumes);
        if !matches!(line.heard.first(), None | Some(Heard::State)) {
            fault(format!("is told this first: {:?}", line.heard[0]));
        }
        for what in &line.heard {
            let entry = match what {
                Heard::Entry(entry) => *entry,
                Heard::Clears(request) => {
                    whole = request.as_ref().filter(|_| line.is_text_only);
                    continue;
                }
                _ => continue,
            };
            let said = &self.record.said[entry];
            let is_again = acknowledged.contains(&entry);
            if !self.was_for_it(said) {
                fault(format!("heard what is not for it: {said:?}"));
            }
            let is_shown = SHOWN.contains(&&*said.msg_type);
            if is_again && !(is_shown && whole.is_some() && said.parent.as_ref() == whole) {
                fault(format!("heard again what it had acknowledged: {said:?}"));
            }
            if said.mark == Mark::Once && before.contains(&entry) {
                fault(format!("heard again what is not to be repeated: {said:?}"));
            }
            if !here.insert(entry) {
                fault(format!("heard twice by one line: {said:?}"));
            }
            match &said.mark {
                Mark::EarlyReply(request) => {
                    let idle = self.idle_of(request);
                    let is_late = idle.is_some_and(|idle| {
                        let (seq, is_dropped) = (
                            self.record.said[idle].seq,
                            self.record.said[idle].is_dropped,
                        );
                        seq <= replayed && said.seq <= replayed && !is_dropped
                    });
                    if is_late && !idle.is_some_and(|idle| here.contains(&idle)) {
                        fault(format!("heard in a replay before its idle: {said:?}"));
                    }
                }
                // What waited until the client listens.
                _ if said.seq < last && goes_back => (last, goes_back) = (said.seq, false),
                _ if said.seq < last => fault(format!("heard after {last}: {said:?}")),
                _ => last = said.seq,
            }
        }
        if let Some(request) = whole {
            self.is_whole(request, last, &here, &mut fault);
        }
    }

    /// What is taken from a client is given again from its begin.
    fn is_whole(
        &self,
        request: &RequestKey,
        last: Seq,
        here: &BTreeSet<usize>,
        fault: &mut impl FnMut(String),
    ) {
        for entry in self.record.said_in(self.life) {
            let said = &self.record.said[entry];
            if said.parent.as_ref() == Some(request)
                && SHOWN.contains(&&*said.msg_type)
                && said.seq < last
                && self.is_for_it(said)
                && !said.is_dropped
                && !here.contains(&entry)
            {
                fault(format!("not heard again, though it was taken: {said:?}"));
            }
        }
    }

    /// The message by which the kernel has done with a request.
    fn idle_of(&self, request: &RequestKey) -> Option<usize> {
        let mut entries = self.record.said_in(self.life);
        entries.find(|entry| {
            let said = &self.record.said[*entry];
            said.mark == Mark::Idle(RequestKey::clone(request)) && self.is_for_it(said)
        })
    }
}
