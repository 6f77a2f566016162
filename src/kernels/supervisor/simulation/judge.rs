//! What has to hold after a schedule, told from what was noted of it, and nothing of how the product does it. Of each
//! session `session` knows more.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Heard, Record, Said};
use super::session::Judged;
use crate::kernels::supervisor::journal::RequestKey;
use crate::protocol::message::Channel;

/// All that is wrong; `cells` are those that each kernel process got, in its order.
pub(super) fn judge(record: &Record, cells: &[Vec<RequestKey>]) -> Vec<String> {
    let mut faults = record.faults.clone();
    for ((life, session), member) in &record.members {
        let judged = Judged::new(record, *life, session, member);
        judged.check(|fault| faults.push(format!("{session}: {fault}")));
    }
    replies(record, &mut faults);
    heard_replies(record, &mut faults);
    order_of_cells(record, cells, &mut faults);
    order_of_ours(record, &mut faults);
    faults
}

/// Every request has one reply, whoever died; one that was lost with a supervisor has another of the next.
fn replies(record: &Record, faults: &mut Vec<String>) {
    let mut replies = BTreeMap::<_, Vec<_>>::new();
    for said in record.replies() {
        replies.entry(said.parent.clone()).or_default().push(said);
    }
    for (key, request) in &record.requests {
        let replies = replies.remove(&Some(RequestKey::clone(key)));
        let replies = replies.unwrap_or_default();
        let in_order = replies.is_sorted_by(|one, next| one.life < next.life && next.is_ours);
        if request.msg_type.ends_with("_request") && (replies.is_empty() || !in_order) {
            faults.push(format!("{key:?} has these replies: {replies:?}"));
        }
    }
}

/// Whoever is there in the end has heard a reply to all that it asked, unless that had to go.
fn heard_replies(record: &Record, faults: &mut Vec<String>) {
    for (key, request) in &record.requests {
        let lines = || {
            record
                .lines
                .iter()
                .filter(|line| line.session == request.session)
        };
        let is_there = lines().any(|line| line.life == record.life && line.begun.is_some());
        if !is_there || !request.msg_type.ends_with("_request") {
            continue;
        }
        let heard = lines()
            .flat_map(|line| &line.heard)
            .filter_map(|heard| match heard {
                Heard::Entry(entry) => Some(&record.said[*entry]),
                _ => None,
            });
        let is_reply = |said: &Said| {
            said.channel != Channel::Iopub
                && said.parent.as_ref() == Some(key)
                && said.msg_type.ends_with("_reply")
        };
        let mut heard = heard.filter(|said| is_reply(said));
        let mut all = record.said.iter().filter(|said| is_reply(said));
        if heard.next().is_none() && !all.any(|said| said.is_dropped) {
            faults.push(format!("{key:?}: its reply was never heard"));
        }
    }
}

/// Each kernel gets cells once and in the order in which clients sent them.
fn order_of_cells(record: &Record, cells: &[Vec<RequestKey>], faults: &mut Vec<String>) {
    let number = |key: &RequestKey| record.requests.iter().position(|(known, _)| known == key);
    for cells in cells {
        let numbers: Vec<_> = cells.iter().map(number).collect();
        if !numbers.is_sorted_by(|one, next| one < next) {
            faults.push(format!(
                "the kernel got its cells so: {cells:?} {numbers:?}"
            ));
        }
    }
}

/// A cell of ours begins when all cells before it have their replies.
fn order_of_ours(record: &Record, faults: &mut Vec<String>) {
    let mut answered = BTreeSet::new();
    for said in &record.said {
        let is_begin = said.is_ours && said.msg_type == "execute_input";
        if is_begin {
            let is_it = |key: &RequestKey| said.parent.as_ref() == Some(key);
            let before = record.requests.iter().take_while(|(key, _)| !is_it(key));
            let mut cells = before.filter(|(_, request)| request.msg_type == "execute_request");
            if let Some((key, _)) = cells.find(|(key, _)| !answered.contains(&Some(key))) {
                faults.push(format!("{:?} begins before {key:?} is over", said.parent));
            }
        }
        if said.channel == Channel::Shell {
            answered.insert(said.parent.as_ref());
        }
    }
}
