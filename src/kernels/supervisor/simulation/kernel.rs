//! The kernel of a simulation: it obeys the messaging protocol at its own pace, fails, asks and dies. Outlives its
//! supervisor, and what it says while nobody listens is lost.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::chance::Chance;
use super::notes::Notes;
use crate::kernels::supervisor::journal::{RequestKey, request_key};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// How long a cell takes between two outputs, at most.
const WORKS_FOR: Duration = Duration::from_millis(400);

/// What a kernel has said and the supervisor has not yet heard: output and replies come by sockets of their own.
#[derive(Debug, Default)]
pub(super) struct Link {
    output: RefCell<VecDeque<Message>>,
    replies: RefCell<VecDeque<(Channel, Message)>>,
    rung: Notify,
}

impl Link {
    /// Waits until there is something.
    pub(super) async fn waits(&self) {
        while self.output.borrow().is_empty() && self.replies.borrow().is_empty() {
            self.rung.notified().await;
        }
    }

    /// What comes next, of either socket.
    pub(super) fn take(&self, chance: &mut Chance) -> Option<(Channel, Message)> {
        let output = || Some((Channel::Iopub, self.output.borrow_mut().pop_front()?));
        let reply = || self.replies.borrow_mut().pop_front();
        match chance.percent(50) {
            true => output().or_else(reply),
            false => reply().or_else(output),
        }
    }
}

/// A kernel process.
pub(super) struct Process {
    epoch: u32,
    notes: Notes,
    link: RefCell<Option<Rc<Link>>>,
    shell: RefCell<VecDeque<Message>>,
    control: RefCell<VecDeque<Message>>,
    answers: RefCell<VecDeque<Message>>,
    /// Rung when something has come, it is interrupted, or it ends.
    rung: Notify,
    interrupted: Cell<bool>,
    has_ended: Cell<bool>,
    ended: Notify,
    /// The question that it waits to be answered.
    asks: RefCell<Option<String>>,
    works: Cell<bool>,
    said: Cell<u64>,
    cells: RefCell<Vec<RequestKey>>,
}

enum Outcome {
    Ok,
    Error,
}

impl Process {
    pub(super) fn start(epoch: u32, mut chance: Chance, notes: Notes) -> Rc<Self> {
        let process = Rc::new(Self {
            epoch,
            notes,
            link: RefCell::default(),
            shell: RefCell::default(),
            control: RefCell::default(),
            answers: RefCell::default(),
            rung: Notify::new(),
            interrupted: Cell::new(false),
            has_ended: Cell::new(false),
            ended: Notify::new(),
            asks: RefCell::default(),
            works: Cell::new(false),
            said: Cell::new(0),
            cells: RefCell::default(),
        });
        let lives = Rc::clone(&process);
        spawn_local(async move {
            let (shell, control) = (chance.fork(), chance.fork());
            tokio::select! {
                biased;
                () = lives.until_ended() => {}
                () = lives.serve_control(control) => {}
                () = lives.serve_shell(shell) => {}
            }
            lives.works.set(false);
        });
        process
    }

    /// Somebody listens from now on.
    pub(super) fn connect(&self) -> Rc<Link> {
        let link = Rc::<Link>::default();
        self.link.replace(Some(Rc::clone(&link)));
        link
    }

    /// Nobody listens any more.
    pub(super) fn disconnect(&self) {
        self.link.replace(None);
    }

    pub(super) fn take(&self, channel: Channel, message: Message) {
        match channel {
            Channel::Shell => self.shell.borrow_mut().push_back(message),
            Channel::Control => self.control.borrow_mut().push_back(message),
            Channel::Stdin => self.is_told(message),
            Channel::Iopub => self.notes.fault("output was sent to the kernel".to_owned()),
        }
        self.rung.notify_waiters();
    }

    /// An answer to another question than the one that is open is none that a user has given to this one.
    fn is_told(&self, message: Message) {
        let Some(question) = &*self.asks.borrow() else {
            return;
        };
        let parent = HeaderPeek::read(&message.parent_header).unwrap();
        if !parent.msg_id.is_empty() && parent.msg_id != *question {
            let other = parent.msg_id;
            let what = format!("{question} was answered with what answers {other}");
            self.notes.fault(what);
        }
        self.answers.borrow_mut().push_back(message);
    }

    pub(super) fn interrupt(&self) {
        self.interrupted.set(self.works.get());
        self.rung.notify_waiters();
    }

    pub(super) fn kill(&self) {
        self.has_ended.set(true);
        self.ended.notify_waiters();
    }

    pub(super) async fn until_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.has_ended.get() {
                return;
            }
            ended.await;
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    pub(super) fn asks(&self) -> bool {
        self.asks.borrow().is_some()
    }

    /// Cells in the order in which it got them.
    pub(super) fn cells(&self) -> Vec<RequestKey> {
        self.cells.borrow().clone()
    }

    fn say(&self, channel: Channel, msg_type: &str, parent: &Bytes, content: &Value) -> String {
        self.said.set(self.said.get() + 1);
        let id = format!("k{}-{}", self.epoch, self.said.get());
        let header = json!({"msg_id": id, "msg_type": msg_type, "session": "kernel"});
        let message = Message {
            header: header.to_string().into(),
            parent_header: parent.clone(),
            content: content.to_string().into(),
            ..Message::empty()
        };
        if let Some(link) = &*self.link.borrow() {
            match channel {
                Channel::Iopub => link.output.borrow_mut().push_back(message),
                _ => link.replies.borrow_mut().push_back((channel, message)),
            }
            link.rung.notify_one();
        }
        id
    }

    fn state(&self, parent: &Bytes, state: &str) {
        let content = json!({"execution_state": state});
        self.say(Channel::Iopub, "status", parent, &content);
    }

    async fn next(&self, queue: &RefCell<VecDeque<Message>>) -> Message {
        loop {
            let rung = self.rung.notified();
            if let Some(message) = queue.borrow_mut().pop_front() {
                return message;
            }
            rung.await;
        }
    }

    async fn serve_shell(&self, mut chance: Chance) {
        loop {
            self.works.set(false);
            let request = self.next(&self.shell).await;
            self.works.set(true);
            let peek = HeaderPeek::read(&request.header).unwrap();
            let (header, msg_type) = (&request.header, &*peek.msg_type);
            self.state(header, "busy");
            match msg_type.strip_suffix("_request") {
                Some("execute") => {
                    self.cells.borrow_mut().push(request_key(&peek));
                    self.execute(&request, &mut chance).await;
                    continue;
                }
                Some(stem) => {
                    sleep(chance.pause(Duration::from_millis(50))).await;
                    let content = json!({"status": "ok"});
                    self.say(Channel::Shell, &format!("{stem}_reply"), header, &content);
                }
                None if chance.percent(50) => {
                    self.say(Channel::Iopub, "comm_msg", header, &json!({"data": {}}));
                }
                None => {}
            }
            self.state(header, "idle");
        }
    }

    async fn serve_control(&self, mut chance: Chance) {
        loop {
            let request = self.next(&self.control).await;
            let peek = HeaderPeek::read(&request.header).unwrap();
            let header = &request.header;
            self.state(header, "busy");
            sleep(chance.pause(WORKS_FOR)).await;
            let Some(stem) = peek.msg_type.strip_suffix("_request") else {
                continue;
            };
            if stem == "interrupt" {
                self.interrupt();
            }
            let reply = format!("{stem}_reply");
            self.say(Channel::Control, &reply, header, &json!({"status": "ok"}));
            self.state(header, "idle");
            if stem == "shutdown" && chance.percent(90) {
                sleep(chance.pause(WORKS_FOR)).await;
                self.kill();
            }
        }
    }

    async fn execute(&self, request: &Message, chance: &mut Chance) {
        let header = &request.header;
        let content: Value = serde_json::from_slice(&request.content).unwrap();
        let silent = content["silent"] == true;
        if !silent {
            let input = json!({"code": content["code"], "execution_count": 1});
            self.say(Channel::Iopub, "execute_input", header, &input);
        }
        let outcome = self.work(request, &content, silent, chance).await;
        let reply = match outcome {
            Outcome::Ok => json!({"status": "ok", "execution_count": 1}),
            Outcome::Error => {
                let error = json!({"ename": "E", "evalue": "no", "traceback": []});
                self.say(Channel::Iopub, "error", header, &error);
                json!({"status": "error", "ename": "E", "evalue": "no", "traceback": []})
            }
        };
        self.say(Channel::Shell, "execute_reply", header, &reply);
        if chance.percent(30) {
            sleep(chance.pause(WORKS_FOR)).await;
        }
        self.state(header, "idle");
        if let Outcome::Error = outcome
            && content["stop_on_error"] != false
        {
            self.abort();
        }
        if chance.percent(10) {
            // A thread of the cell goes on.
            let late = json!({"name": "stdout", "text": "late"});
            self.say(Channel::Iopub, "stream", header, &late);
        }
    }

    /// As ipykernel does: cells that wait are not run.
    fn abort(&self) {
        let is_cell = |message: &mut Message| {
            let peek = HeaderPeek::read(&message.header).unwrap();
            let is_cell = peek.msg_type == "execute_request";
            if is_cell {
                self.cells.borrow_mut().push(request_key(&peek));
            }
            is_cell
        };
        let cells: Vec<_> = {
            let mut shell = self.shell.borrow_mut();
            let (cells, others) = shell
                .drain(..)
                .partition::<VecDeque<_>, _>(|message| is_cell(&mut message.clone()));
            *shell = others;
            cells.into()
        };
        for Message { header, .. } in cells {
            self.state(&header, "busy");
            let aborted = json!({"status": "aborted"});
            self.say(Channel::Shell, "execute_reply", &header, &aborted);
            self.state(&header, "idle");
        }
    }

    async fn work(
        &self,
        request: &Message,
        content: &Value,
        silent: bool,
        chance: &mut Chance,
    ) -> Outcome {
        let header = &request.header;
        for n in 0..chance.below(6) {
            if !self.rests(chance.pause(WORKS_FOR)).await {
                return Outcome::Error;
            }
            let large = chance.percent(10);
            let text = "x".repeat(if large { 2000 } else { 10 });
            let output = json!({"name": "stdout", "text": format!("{n} {text}")});
            if !silent {
                self.say(Channel::Iopub, "stream", header, &output);
            }
        }
        if content["allow_stdin"] == true && chance.percent(60) && !self.ask(header).await {
            return Outcome::Error;
        }
        match chance.percent(15) {
            true => Outcome::Error,
            false => Outcome::Ok,
        }
    }

    /// Works on; false when it was interrupted.
    async fn rests(&self, pause: Duration) -> bool {
        let interrupted = async {
            loop {
                let rung = self.rung.notified();
                if self.interrupted.take() {
                    return;
                }
                rung.await;
            }
        };
        tokio::select! {
            biased;
            () = interrupted => false,
            () = sleep(pause) => true,
        }
    }

    /// Asks on stdin; false when it was interrupted.
    async fn ask(&self, header: &Bytes) -> bool {
        self.answers.borrow_mut().clear();
        let prompt = json!({"prompt": "?", "password": false});
        let question = self.say(Channel::Stdin, "input_request", header, &prompt);
        self.asks.replace(Some(question));
        let answered = tokio::select! {
            biased;
            _ = self.next(&self.answers) => true,
            _ = self.rests(Duration::MAX) => false,
        };
        self.asks.take();
        answered
    }
}
