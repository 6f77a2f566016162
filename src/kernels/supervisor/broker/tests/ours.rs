//! Cells of ours, hidden code and what is completed here.

use super::*;

#[test]
fn what_is_ours_at_a_cursor_is_answered_here_though_a_cell_of_ours_runs() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let ticket = broker.join(&"a".into(), &me());
    let ask = |id, msg_type, content: Value| {
        let mut question = request("a", id, msg_type);
        question.content = content.to_string().into();
        broker.submit(&"a".into(), Channel::Shell, question);
    };
    ask("1", "execute_request", json!({"code": "%nb status"}));
    let cell = next_cell(&mut ours).unwrap();
    ask(
        "2",
        "complete_request",
        json!({"code": "%nb st", "cursor_pos": 6}),
    );
    let Ok(Work::Hint(hint)) = ours.try_recv() else {
        panic!("it is not ours");
    };
    assert_eq!((hint.wants, hint.cursor), (Wants::Completion, 6));
    broker.hint(&hint, &json!({"status": "ok", "matches": ["status"]}));
    // It is answered once.
    broker.hint(&hint, &json!({"status": "ok"}));
    broker.our_cell_ends(&cell, Ok(()));
    let heard = [
        "status busy",
        "execute_input ",
        "status busy",
        "complete_reply ok",
        "status idle",
        "execute_reply ok",
        "status idle",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
    // The kernel's own, and what nobody can read.
    ask(
        "3",
        "complete_request",
        json!({"code": "pri", "cursor_pos": 3}),
    );
    ask(
        "4",
        "complete_request",
        json!({"code": "%ls ", "cursor_pos": 3}),
    );
    ask(
        "5",
        "inspect_request",
        json!({"code": 5, "cursor_pos": "%"}),
    );
    assert_eq!(std::iter::from_fn(|| requests.try_recv().ok()).count(), 3);
    assert!(ours.try_recv().is_err());
}

#[test]
fn a_cell_of_ours_is_run_here_and_its_failure_aborts_those_behind_it() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let ticket = broker.join(&"a".into(), &me());
    for (id, code) in [("1", "%nb status"), ("2", "x"), ("3", "y")] {
        let mut cell = request("a", id, "execute_request");
        cell.content = json!({"code": code, "allow_stdin": true})
            .to_string()
            .into();
        broker.submit(&"a".into(), Channel::Shell, cell);
    }
    let cell = next_cell(&mut ours).unwrap();
    assert!(requests.try_recv().is_err());
    assert_eq!(broker.snapshot().execution_state, "busy");
    let mut answer = broker.ask(&cell, "name?", false);
    let mut reply = request("a", "4", "input_reply");
    reply.content = json!({"value": "Ada"}).to_string().into();
    broker.submit(&"a".into(), Channel::Stdin, reply);
    assert_eq!(answer.try_recv().unwrap(), "Ada");
    broker.our_cell_ends(&cell, Err(&Failure::usage("No.")));
    let heard = [
        "status busy",
        "execute_input ",
        "input_request ",
        "error No.",
        "execute_reply error",
        "status idle",
        "execute_reply aborted",
        "status idle",
        "execute_reply aborted",
        "status idle",
    ];
    assert_eq!(read(&broker, "a", ticket.after), heard);
    assert_eq!(broker.snapshot().execution_state, "idle");
}

/// Whoever comes between the two parts of a cell finds it running, and hears the end of it.
#[test]
fn a_cell_that_goes_on_in_the_kernel_runs_all_the_while() {
    let (broker, mut requests) = running();
    let mut ours = taken_over(&broker);
    let (a, b) = ("a".into(), "b".into());
    broker.join(&a, &me());
    let mut cell = request("a", "1", "execute_request");
    cell.content = json!({"code": "%nb status\nx"}).to_string().into();
    broker.submit(&a, Channel::Shell, cell.clone());
    let our_part = next_cell(&mut ours).unwrap();
    broker.our_cell_goes_on(&our_part, "x");
    assert_eq!(broker.snapshot().execution_state, "busy");
    let ticket = broker.join(&b, &me());
    assert_eq!(requests.try_recv().unwrap().1.header, cell.header);
    for state in ["busy", "idle"] {
        broker.kernel_said(Channel::Iopub, status(&cell, state));
    }
    assert_eq!(broker.snapshot().execution_state, "idle");
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    let Read::Ready(batch) = broker.read(ticket.after, usize::MAX) else {
        panic!("a memory journal is never loading");
    };
    let mine = (batch.iter()).filter(|(seq, entry)| ticket.share.has(*seq, entry));
    let mine: Vec<_> = mine.map(|(_, entry)| shown(entry)).collect();
    let heard = [
        "status busy",
        "status busy",
        "status idle",
        "execute_reply ok",
    ];
    assert_eq!(mine, heard);
}

#[test]
fn hidden_code_gives_what_it_printed_once_it_is_answered_and_idle() {
    let (broker, mut requests) = running();
    let mut printed = broker.run_hidden("1");
    let (_, hidden) = requests.try_recv().unwrap();
    let text = json!({"name": "stdout", "text": "out"});
    broker.kernel_said(
        Channel::Shell,
        from_kernel("execute_reply", &hidden, &json!({"status": "ok"})),
    );
    broker.kernel_said(Channel::Iopub, from_kernel("stream", &hidden, &text));
    assert!(printed.try_recv().is_err());
    broker.kernel_said(Channel::Iopub, status(&hidden, "idle"));
    assert_eq!(printed.try_recv().unwrap().unwrap().printed, "out");
}

#[test]
fn hidden_code_that_prints_too_much_is_not_listened_to_any_more() {
    let (broker, mut requests) = running();
    let mut printed = broker.run_hidden("1");
    let (_, hidden) = requests.try_recv().unwrap();
    let text = json!({"name": "stdout", "text": "x".repeat(40 * 1024 * 1024)});
    let mut print = || {
        broker.kernel_said(Channel::Iopub, from_kernel("stream", &hidden, &text));
        printed.try_recv()
    };
    assert!(print().is_err());
    let failure = print().unwrap().unwrap_err();
    assert_eq!(failure.ename, "MemoryError");
}

/// Whoever fills the room waits for it, and a cell of ours that ends makes some.
#[tokio::test]
async fn a_cell_of_ours_that_ends_lets_those_who_wait_for_room_go_on() {
    let (broker, _requests) = running();
    let mut ours = taken_over(&broker);
    let a = "a".into();
    broker.join(&a, &me());
    let cell = Message {
        content: json!({"code": "%nb"}).to_string().into(),
        // Never touched, so no memory stands behind it.
        buffers: vec![vec![0; 1 + super::super::requests::PENDING_BYTES_MAX].into()],
        ..request("a", "1", "execute_request")
    };
    broker.submit(&a, Channel::Shell, cell);
    let cell = next_cell(&mut ours).unwrap();
    let mut room = std::pin::pin!(broker.room());
    assert!(futures_util::poll!(&mut room).is_pending());
    broker.our_cell_ends(&cell, Ok(()));
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, room)
        .await
        .expect("nobody goes on");
}

#[test]
fn a_late_reply_to_a_forgotten_cell_still_lets_ours_run() {
    let (broker, _requests) = running();
    let mut ours = taken_over(&broker);
    let a = "a".into();
    broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let magic = Message {
        content: json!({"code": "%nb"}).to_string().into(),
        ..request("a", "2", "execute_request")
    };
    broker.submit(&a, Channel::Shell, magic);
    assert!(next_cell(&mut ours).is_err());
    broker.state.borrow_mut().forget("a\n1");
    let reply = from_kernel("execute_reply", &cell, &json!({}));
    broker.kernel_said(Channel::Shell, reply);
    assert!(next_cell(&mut ours).is_ok());
}
