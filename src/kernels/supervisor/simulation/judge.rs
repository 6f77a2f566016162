//! What has to hold after a schedule, told from what was noted of it, and nothing of how the product does it. Of each
//! session `session` knows more.

use std::collections::{BTreeMap, BTreeSet};

use super::record::Record;
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
    order_of_cells(record, cells, &mut faults);
    order_of_ours(record, &mut faults);
    faults
}

/// Every request has one reply, whoever died.
fn replies(record: &Record, faults: &mut Vec<String>) {
    let mut replies = BTreeMap::<_, Vec<_>>::new();
    for said in record.replies() {
        replies.entry(said.parent.clone()).or_default().push(said);
    }
    for (key, request) in &record.requests {
        let replies = replies.remove(&Some(RequestKey::clone(key)));
        let replies = replies.unwrap_or_default();
        if request.msg_type.ends_with("_request") && replies.len() != 1 {
            faults.push(format!("{key:?} has these replies: {replies:?}"));
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
