//! What the kernel asks on stdin: who is asked, and which answer counts.

use super::*;

/// It could only be taken for the answer to a question that the next process asks later.
#[test]
fn an_answer_that_no_kernel_process_has_asked_for_is_not_kept_for_the_next() {
    let (broker, _requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let phase = Phase::Restarting { asked: true };
    broker.close_epoch(phase, "KernelRestarted", "again");
    broker.submit(&a, Channel::Stdin, request("a", "1", "input_reply"));
    let cell = request("a", "2", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let (outbox, mut requests) = mpsc::unbounded_channel();
    broker.open_epoch(outbox);
    assert_eq!(requests.try_recv().unwrap().1, cell);
    assert!(requests.try_recv().is_err());
}

/// A kernel that does not read takes one answer, not as many as a client likes to send.
#[test]
fn a_question_is_answered_once() {
    let (broker, mut requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    assert_eq!(requests.try_recv().unwrap().1, cell);
    let answers = ["2", "3", "4"].map(|id| request("a", id, "input_reply"));
    let answer = |n: usize| broker.submit(&a, Channel::Stdin, answers[n].clone());
    answer(0);
    assert!(requests.try_recv().is_err());
    let question = from_kernel("input_request", &cell, &json!({"prompt": "?"}));
    broker.kernel_said(Channel::Stdin, question);
    answer(1);
    answer(2);
    assert_eq!(
        requests.try_recv().unwrap(),
        (Channel::Stdin, answers[1].clone())
    );
    assert!(requests.try_recv().is_err());
}

/// Two clients may be asked the same, and one may be asked twice: the second answer is not one to the next question.
#[test]
fn an_answer_is_one_to_the_question_that_it_names() {
    let (broker, mut requests) = running();
    let a = "a".into();
    broker.join(&a, &me());
    let mut sent = || {
        let sent = std::iter::from_fn(|| requests.try_recv().ok());
        let ids = sent.filter(|(channel, _)| *channel == Channel::Stdin);
        ids.map(|(_, answer)| answer.parent_header)
            .collect::<Vec<_>>()
    };
    let asks = |cell: &Message, id: &str| {
        let header = json!({"msg_id": id, "msg_type": "input_request", "session": "kernel"});
        let question = message(&header, cell.header.clone(), &json!({"prompt": "?"}));
        broker.kernel_said(Channel::Stdin, question.clone());
        question.header
    };
    let answers = |question: &Bytes| {
        let answer = Message {
            parent_header: question.clone(),
            ..request("a", "answer", "input_reply")
        };
        broker.submit(&a, Channel::Stdin, answer);
    };
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    let [one, two] = ["one", "two"].map(|id| asks(&cell, id));
    answers(&one);
    answers(&one);
    answers(&two);
    answers(&two);
    assert_eq!(sent(), [one, two]);
    // One that is interrupted waits for no answer, named or not; and then the kernel may ask again.
    let three = asks(&cell, "three");
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "error"}));
    broker.kernel_said(Channel::Shell, reply);
    let nothing = Bytes::from_static(b"{}");
    answers(&three);
    answers(&nothing);
    assert_eq!(sent(), Vec::<Bytes>::new());
    let next = request("a", "2", "execute_request");
    broker.submit(&a, Channel::Shell, next.clone());
    let four = asks(&next, "four");
    answers(&three);
    // What names something else than a question says nothing of which.
    answers(&next.header);
    answers(&four);
    assert_eq!(sent(), [next.header]);
}

/// Whoever was asked is gone: after five seconds the same user's other clients are, and nobody else's. What
/// one of them answers goes to the kernel once.
#[tokio::test(start_paused = true)]
async fn a_question_whose_asker_is_away_goes_to_the_same_users_other_clients() {
    let (broker, mut requests) = running();
    let [asker, other, theirs] = ["asker", "other", "theirs"].map(Rc::<str>::from);
    let connection = broker.join(&asker, &me()).id;
    let cell = request("asker", "1", "execute_request");
    broker.submit(&asker, Channel::Shell, cell.clone());
    assert_eq!(requests.try_recv().unwrap().1, cell);
    let question = from_kernel("input_request", &cell, &json!({"text": "name?"}));
    broker.kernel_said(Channel::Stdin, question.clone());
    broker.leave(&asker, connection);
    let ticket = broker.join(&other, &me());
    let stranger = broker.join(&theirs, &holder("them"));
    let passes = broker.pass_questions_on();
    let seconds = |seconds| std::time::Duration::from_secs(seconds);
    tokio::pin!(passes);
    assert!(
        tokio::time::timeout(seconds(1), passes.as_mut())
            .await
            .is_err()
    );
    assert!(read(&broker, "other", ticket.after).is_empty());
    assert!(
        tokio::time::timeout(seconds(10), passes.as_mut())
            .await
            .is_err()
    );
    assert_eq!(
        read(&broker, "other", ticket.after),
        ["input_request name?"]
    );
    assert!(read(&broker, "theirs", stranger.after).is_empty());
    let answer = request("other", "2", "input_reply");
    broker.submit(&other, Channel::Stdin, answer.clone());
    assert_eq!(requests.try_recv().unwrap(), (Channel::Stdin, answer));
    broker.submit(&asker, Channel::Stdin, request("asker", "3", "input_reply"));
    assert!(requests.try_recv().is_err());
}
