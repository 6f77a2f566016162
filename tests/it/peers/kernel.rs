//! A kernel that answers at once, and the ways in which kernels misbehave.
//!
//! A cell is, after any empty lines, one of
//!
//! ```text
//! burst COUNT BYTES   COUNT lines of output of BYTES each
//! env NAME            the environment variable NAME
//! wait                begins, and fails once an `interrupt_request` has come
//! exit CODE TEXT      TEXT on stderr, then the end
//! buffers             the request's own buffers, displayed
//! leave FILE          closes its shell socket, and ends with code 7 once FILE is there
//! anything else       itself
//! ```
//!
//! Messages are written with nb's own `protocol`, the sockets under them are `zmtp`'s.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::Bytes;
use nb::protocol::connection_file::{ConnectionFile, Socket};
use nb::protocol::message::{HeaderPeek, Message};
use nb::protocol::multipart;
use nb::protocol::signature::Signer;
use serde_json::{Value, json};
use uuid::Uuid;

use super::zmtp::{self, Input, Listener, Output};

/// What is wrong with a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing.
    Instant,
    /// Begins a cell and does nothing any more, on any channel.
    Stalling,
    /// Publishes without end from its start on, and still answers.
    Flooding,
    /// Signs the output of cells with another key.
    BadSignature,
    /// Announces a frame of 4 EiB in the middle of a cell.
    HugeFrame,
    /// Ends in the middle of a reply: between two frames of one message.
    DiesMidReply,
}

impl Manner {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "instant" => Self::Instant,
            "stalling" => Self::Stalling,
            "flooding" => Self::Flooding,
            "bad-signature" => Self::BadSignature,
            "huge-frame" => Self::HugeFrame,
            "dies-mid-reply" => Self::DiesMidReply,
            _ => return None,
        })
    }
}

struct Kernel {
    manner: Manner,
    signer: Signer,
    foreign: Signer,
    subscribers: Mutex<Vec<Output>>,
    /// Of this process alone: whoever comes after it counts from the beginning as well.
    session: Uuid,
    count: AtomicU64,
    cells: AtomicU64,
    /// How many interrupts have come.
    interrupts: Mutex<u64>,
    interrupted: Condvar,
}

/// Serves until it is killed or asked to shut down.
pub(crate) fn serve(connection: &ConnectionFile, manner: Manner) {
    let kernel = Arc::new(Kernel {
        manner,
        signer: Signer::new(connection.key.as_bytes()),
        foreign: Signer::new(b"another key"),
        subscribers: Mutex::default(),
        session: Uuid::new_v4(),
        count: AtomicU64::new(0),
        cells: AtomicU64::new(0),
        interrupts: Mutex::default(),
        interrupted: Condvar::new(),
    });
    let mut threads = Vec::new();
    for socket in [
        Socket::Iopub,
        Socket::Control,
        Socket::Stdin,
        Socket::Heartbeat,
        Socket::Shell,
    ] {
        let listener = Listener::bind(&connection.endpoint(socket)).unwrap();
        let kernel = Arc::clone(&kernel);
        threads.push(thread::spawn(move || {
            while let Ok((input, output)) = listener.accept() {
                let kernel = Arc::clone(&kernel);
                thread::spawn(move || match socket {
                    Socket::Iopub => kernel.subscribed(input, output),
                    Socket::Heartbeat => echo(input, output),
                    _ => kernel.answer(input, output),
                });
            }
        }));
    }
    if manner == Manner::Flooding {
        loop {
            kernel.publish(
                "stream",
                b"{}",
                &json!({"name": "stdout", "text": "x".repeat(1000)}),
            );
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

fn echo(mut input: Input, mut output: Output) {
    zmtp::ready(&mut output, "REP").unwrap();
    while let Ok(frames) = zmtp::read(&mut input) {
        if zmtp::write(&mut output, &frames).is_err() || output.flush().is_err() {
            return;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "this program has nothing to clean up"
)]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// For ever.
fn stall() -> ! {
    loop {
        thread::park();
    }
}

impl Kernel {
    fn subscribed(&self, mut input: Input, mut output: Output) {
        let mut subscribers = self.subscribers.lock().unwrap();
        zmtp::ready(&mut output, "PUB").unwrap();
        subscribers.push(output);
        drop(subscribers);
        while zmtp::read(&mut input).is_ok() {}
    }

    fn answer(&self, mut input: Input, mut output: Output) {
        zmtp::ready(&mut output, "ROUTER").unwrap();
        while let Ok(frames) = zmtp::read(&mut input) {
            let frames = frames.into_iter().map(Into::into).collect();
            let request = multipart::decode(frames, &self.signer).unwrap();
            let peek = HeaderPeek::read(&request.header).unwrap();
            let parent = &request.header;
            let (msg_type, content) = match &*peek.msg_type {
                "kernel_info_request" => {
                    self.state("busy", parent);
                    ("kernel_info_reply", kernel_info())
                }
                "execute_request" => {
                    self.state("busy", parent);
                    ("execute_reply", self.execute(&request))
                }
                "interrupt_request" => {
                    *self.interrupts.lock().unwrap() += 1;
                    self.interrupted.notify_all();
                    ("interrupt_reply", json!({"status": "ok"}))
                }
                "shutdown_request" => leave(0),
                _ => continue,
            };
            if content.get("leaves").is_some() {
                return;
            }
            let reply = self.message(msg_type, parent, &content);
            let frames = multipart::encode(&reply, &self.signer);
            if self.manner == Manner::DiesMidReply && msg_type == "execute_reply" {
                zmtp::write(&mut output, &frames).unwrap();
                let half = output.buffer().len() / 2;
                let bytes = output.buffer()[..half].to_vec();
                output.get_mut().write_all(&bytes).unwrap();
                std::process::abort();
            }
            zmtp::write(&mut output, &frames).unwrap();
            output.flush().unwrap();
            self.state("idle", parent);
        }
    }

    fn execute(&self, request: &Message) -> Value {
        let content: Value = serde_json::from_slice(&request.content).unwrap();
        let code = content["code"].as_str().unwrap();
        let parent = &request.header;
        let count = self.cells.fetch_add(1, Ordering::Relaxed) + 1;
        self.publish(
            "execute_input",
            parent,
            &json!({"code": code, "execution_count": count}),
        );
        let words: Vec<&str> = code.trim_start().split(' ').collect();
        let say =
            |text: &str| self.publish("stream", parent, &json!({"name": "stdout", "text": text}));
        match (self.manner, words.as_slice()) {
            (Manner::Stalling, _) => stall(),
            (Manner::HugeFrame, _) => {
                for subscriber in self.subscribers.lock().unwrap().iter_mut() {
                    zmtp::announce(subscriber, 1 << 62).unwrap();
                }
            }
            (_, ["burst", count, bytes]) => {
                let text = "x".repeat(bytes.parse().unwrap());
                (0..count.parse().unwrap()).for_each(|_: u32| say(&text));
            }
            (_, ["wait"]) => {
                let before = *self.interrupts.lock().unwrap();
                say("begun");
                self.flush();
                let interrupts = self.interrupts.lock().unwrap();
                let same = |interrupts: &mut u64| *interrupts == before;
                drop(self.interrupted.wait_while(interrupts, same).unwrap());
                return json!({
                    "status": "error", "ename": "Interrupted", "evalue": "", "traceback": [],
                    "execution_count": count,
                });
            }
            (_, ["exit", code, text @ ..]) => {
                std::io::stderr()
                    .write_all(text.join(" ").as_bytes())
                    .unwrap();
                leave(code.parse().unwrap());
            }
            (_, ["leave", file]) => {
                say("left");
                self.flush();
                let file = (*file).to_owned();
                thread::spawn(move || {
                    while !Path::new(&file).exists() {
                        thread::yield_now();
                    }
                    leave(7);
                });
                return json!({"leaves": true});
            }
            (_, ["buffers"]) => {
                let content = json!({"data": {"text/plain": "buffers"}, "metadata": {}});
                self.publish_with("display_data", parent, &content, &request.buffers);
            }
            (_, ["env", name]) => say(&std::env::var(name).unwrap_or_default()),
            _ => say(code),
        }
        json!({"status": "ok", "execution_count": count, "user_expressions": {}, "payload": []})
    }

    fn state(&self, state: &str, parent: &[u8]) {
        self.publish("status", parent, &json!({"execution_state": state}));
    }

    fn publish(&self, msg_type: &str, parent: &[u8], content: &Value) {
        self.publish_with(msg_type, parent, content, &[]);
    }

    fn publish_with(&self, msg_type: &str, parent: &[u8], content: &Value, buffers: &[Bytes]) {
        let bad = self.manner == Manner::BadSignature && msg_type == "stream";
        let signer = if bad { &self.foreign } else { &self.signer };
        let mut message = self.message(msg_type, parent, content);
        message.buffers = buffers.to_vec();
        let mut frames = vec![Bytes::from(format!("kernel.{msg_type}"))];
        frames.extend(multipart::encode(&message, signer));
        let mut subscribers = self.subscribers.lock().unwrap();
        subscribers.retain_mut(|output| {
            let written = zmtp::write(output, &frames);
            // A burst leaves in full buffers, whatever follows it pushes the rest.
            written.is_ok() && (msg_type == "stream" || output.flush().is_ok())
        });
    }

    fn flush(&self) {
        for subscriber in self.subscribers.lock().unwrap().iter_mut() {
            subscriber.flush().unwrap();
        }
    }

    fn message(&self, msg_type: &str, parent: &[u8], content: &Value) -> Message {
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let session = self.session;
        let header = format!(
            r#"{{"msg_id":"k{id}","msg_type":"{msg_type}","session":"{session}","username":"peer","date":"2026-01-01T00:00:00.000000Z","version":"5.4"}}"#
        );
        Message {
            header: header.into(),
            parent_header: parent.to_vec().into(),
            content: content.to_string().into(),
            ..Message::empty()
        }
    }
}

fn kernel_info() -> Value {
    json!({
        "status": "ok", "protocol_version": "5.4", "implementation": "peer", "implementation_version": "1",
        "language_info": {"name": "peer", "version": "1", "mimetype": "text/plain", "file_extension": ".txt"},
        "banner": "", "help_links": [],
    })
}
