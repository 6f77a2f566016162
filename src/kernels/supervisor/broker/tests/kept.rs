//! What stays in the journal for pages that are opened later.

use super::*;

/// What a page showed and did not save is there for the next one.
#[test]
fn a_cell_stays_whole_after_everybody_has_it_and_its_state_is_told() {
    let (broker, _requests) = running();
    let state = |id: &str| {
        let known = broker.request_state(id);
        (known.state, known.whole)
    };
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    let (first, second) = (
        request("a", "1", "execute_request"),
        request("a", "2", "execute_request"),
    );
    assert_eq!(state("1"), (RequestPhase::Unknown, false));
    for cell in [&first, &second] {
        broker.submit(&a, Channel::Shell, cell.clone());
    }
    assert_eq!(state("1"), (RequestPhase::Waiting, true));
    broker.kernel_said(Channel::Iopub, status(&first, "busy"));
    assert_eq!(state("1"), (RequestPhase::Running, true));
    let text = from_kernel("stream", &first, &json!({"name": "stdout", "text": "x"}));
    broker.kernel_said(Channel::Iopub, text);
    let reply = from_kernel("execute_reply", &first, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    assert_eq!(state("1"), (RequestPhase::Running, true));
    broker.kernel_said(Channel::Iopub, status(&first, "idle"));
    assert_eq!(state("1"), (RequestPhase::Over, true));
    broker.acknowledge("a", ticket.id, broker.last());
    let after = broker.request_state("1").after.unwrap();
    let all = ["status busy", "stream x", "execute_reply ok", "status idle"];
    assert_eq!(read(&broker, "a", after), all);
    // The kernel dies before the other begins.
    broker.close_epoch(Phase::Restarting { asked: false }, "KernelDied", "gone");
    assert_eq!(state("2"), (RequestPhase::Over, true));
    let after = broker.request_state("2").after.unwrap();
    assert!(read(&broker, "a", after).contains(&"error gone".to_owned()));
}

#[test]
fn of_what_everybody_has_no_more_than_a_share_stays() {
    let (broker, _requests) = running();
    let a = "a".into();
    let ticket = broker.join(&a, &me());
    for n in 0..20 {
        let cell = request("a", &n.to_string(), "execute_request");
        broker.submit(&a, Channel::Shell, cell.clone());
        broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
        for _ in 0..10 {
            let text = json!({"name": "stdout", "text": "x".repeat(1000)});
            broker.kernel_said(Channel::Iopub, from_kernel("stream", &cell, &text));
        }
        let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
        broker.kernel_said(Channel::Shell, reply);
        broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
        broker.acknowledge("a", ticket.id, broker.last());
    }
    // An eighth of the journal's bound.
    let held = broker.snapshot().journal_bytes;
    assert!((100_000..=128 * 1024).contains(&held), "{held}");
    let newest = broker.request_state("19").after.unwrap();
    assert_eq!(read(&broker, "a", newest).len(), 13);
    // A session that is not there any more needs nothing, and the newest cells stay all the same.
    broker.leave("a", ticket.id);
    broker.kernel_said(
        Channel::Iopub,
        status(&request("b", "1", "comm_msg"), "busy"),
    );
    assert_eq!(read(&broker, "a", newest).len(), 14);
}
