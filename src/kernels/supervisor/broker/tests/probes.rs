//! Replies that ipykernel loses when it is interrupted.

use super::*;

/// A kernel that has been asked to run a cell.
fn with_a_cell() -> (Broker, Requests, Message) {
    let (broker, mut requests) = running();
    let a = Rc::from("a");
    broker.join(&a, &me());
    let cell = request("a", "1", "execute_request");
    broker.submit(&a, Channel::Shell, cell.clone());
    requests.try_recv().unwrap();
    (broker, requests, cell)
}

/// As ipykernel does when the signal comes between the end of a cell and its reply.
#[test]
fn a_reply_that_an_interrupt_took_is_made_good() {
    let (broker, mut requests, cell) = with_a_cell();
    broker.kernel_said(Channel::Iopub, status(&cell, "busy"));
    let wake = |requests: &mut Requests| {
        broker.wake();
        let (channel, probe) = requests.try_recv().unwrap();
        assert_eq!(channel, Channel::Shell);
        answers(&broker, channel, &probe);
        read(&broker, "a", 0)
    };
    // The cell runs still: it lets the kernel do other things meanwhile.
    assert_eq!(wake(&mut requests).last().unwrap(), "status busy");
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    let before = read(&broker, "a", 0).len();
    let heard = wake(&mut requests);
    assert_eq!(
        kinds(&heard[before..]),
        ["error", "execute_reply", "status"]
    );
    assert!(heard[before].contains("interrupt"), "{heard:?}");
    assert_eq!(wake(&mut requests).len(), before + 3);
}

#[test]
fn a_reply_that_came_is_left_alone() {
    let (broker, mut requests, cell) = with_a_cell();
    broker.wake();
    let (_, probe) = requests.try_recv().unwrap();
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    broker.kernel_said(Channel::Iopub, status(&probe, "idle"));
    for (of, kind) in [(&cell, "execute_reply"), (&probe, "kernel_info_reply")] {
        let reply = from_kernel(kind, of, &json!({"status": "ok"}));
        broker.kernel_said(Channel::Shell, reply);
    }
    let heard = read(&broker, "a", 0);
    assert_eq!(
        heard[heard.len() - 2..],
        ["status idle", "execute_reply ok"]
    );
}

/// With jupyter_ui_poll and ipykernel 6 a cell does requests of others while it runs, and the idle after them is in its name.
#[test]
fn a_cell_that_was_idle_before_the_interrupt_is_not_answered_for() {
    let (broker, mut requests, cell) = with_a_cell();
    broker.kernel_said(Channel::Iopub, status(&cell, "idle"));
    broker.interrupts();
    // The answer to the first is lost as well.
    broker.wake();
    broker.wake();
    requests.try_recv().unwrap();
    let (_, probe) = requests.try_recv().unwrap();
    answers(&broker, Channel::Shell, &probe);
    let reply = from_kernel("execute_reply", &cell, &json!({"status": "ok"}));
    broker.kernel_said(Channel::Shell, reply);
    let heard = read(&broker, "a", 0);
    assert_eq!(
        heard[heard.len() - 2..],
        ["status idle", "execute_reply ok"]
    );
}
