//! A cell, or a part of one, that runs in another kernel of the notebook.
//!
//! From the queue it goes there as its client sent it, and the broker passes on what is said. From a cell of the kernel, which is
//! busy with it, we ask for ourselves and say what comes by the helper.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::helper_door::HelperCell;
use super::interrupting::interrupt;
use super::queue_door::QueueCell;
use crate::kernels::supervisor::broker::{Progress, Sent};
use crate::kernels::supervisor::others::Other;
use crate::magics::{Bundle, Cell, Failure, OtherKernel, Output, Question, StreamName};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// A kernel that has not ended an interrupted cell by then is left to it. Less than a magic may take to end.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

impl QueueCell<'_> {
    pub(super) async fn elsewhere(
        &self,
        kernel: &OtherKernel,
        code: &str,
        goes_on: bool,
    ) -> Result<(), Failure> {
        let other = self.cells.others.get(kernel)?;
        let sent = self.broker.run_elsewhere(self.cell, kernel, code, goes_on);
        let Sent {
            mut ended,
            progress,
        } = sent;
        let reply = tokio::select! {
            reply = &mut ended => reply,
            () = self.cell.interrupt.wait() => {
                let deadline = Instant::now() + STOPS_WITHIN;
                let interrupting = interrupt(progress, deadline, async || other.interrupt().await);
                let (ended, ()) = tokio::join!(timeout(STOPS_WITHIN, ended), interrupting);
                match ended {
                    Ok(reply) => reply,
                    Err(_) => return Err(unstopped(kernel)),
                }
            }
        };
        let reply = reply.map_err(|_| other.lost())?;
        let outcome = outcome(&reply);
        self.broker.our_cell_replies(self.cell, reply);
        outcome
    }
}

impl HelperCell {
    pub(super) async fn elsewhere(&self, kernel: &OtherKernel, code: &str) -> Result<(), Failure> {
        let other = self.cells.others.get(kernel)?;
        let content = json!({
            "code": code, "silent": false, "store_history": true, "allow_stdin": true,
            "stop_on_error": false, "user_expressions": {},
        });
        let request = self.cells.broker.compose("execute_request", &content);
        let mut answers = other.request_for(self.header.clone(), request);
        let (mut reply, mut is_idle, mut stops_by) = (None, false, None);
        let progress = watch::Sender::new(Progress::Sent);
        let mut interrupting = std::pin::pin!(Fuse::terminated());
        while reply.is_none() || !is_idle {
            let said = tokio::select! {
                said = answers.next() => said,
                () = self.interrupted(), if stops_by.is_none() => {
                    let deadline = Instant::now() + STOPS_WITHIN;
                    stops_by = Some(deadline);
                    let send = async || other.interrupt().await;
                    interrupting.set(interrupt(progress.subscribe(), deadline, send).fuse());
                    continue;
                }
                () = &mut interrupting => continue,
                () = until(stops_by) => return Err(unstopped(kernel)),
            };
            let (channel, message) = said.ok_or_else(|| other.lost())?;
            let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
            let header = HeaderPeek::read(&message.header);
            let msg_type = header.map_or_else(String::new, |header| header.msg_type.into_owned());
            progress.send_modify(|at| *at = at.hears(channel, &msg_type));
            match channel {
                Channel::Iopub => is_idle |= content["execution_state"] == "idle",
                Channel::Stdin => {
                    self.pass_question_on(&content, &message, &other).await;
                    continue;
                }
                Channel::Shell => reply = Some(content.clone()),
                Channel::Control => {}
            }
            if let Some(output) = output(&message, content).filter(|_| channel == Channel::Iopub) {
                self.emit(output).await;
            } else if channel == Channel::Iopub && msg_type.starts_with("comm_") {
                self.cells.broker.other_said(kernel, channel, message);
            }
        }
        // One that is under way is not the next cell's.
        drop(progress);
        if !interrupting.is_terminated() {
            interrupting.await;
        }
        outcome(&reply.unwrap_or_default())
    }

    /// Who is not answered, as after an interrupt, has no more to ask.
    async fn pass_question_on(&self, content: &Value, question: &Message, other: &Other) {
        let asked = Question {
            prompt: content["prompt"].as_str().unwrap_or_default().to_owned(),
            password: content["password"] == true,
        };
        if let Ok(value) = self.ask(asked).await {
            let answer = self
                .cells
                .broker
                .compose("input_reply", &json!({"value": value}));
            let answer = Message {
                parent_header: question.header.clone(),
                ..answer
            };
            other.send(Channel::Stdin, answer);
        }
    }
}

/// Ends then, if ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// It has been interrupted and goes on all the same.
fn unstopped(kernel: &OtherKernel) -> Failure {
    let kind = kernel.kind();
    Failure {
        message: format!(
            "The cell was interrupted, but the kernel in {kernel} does not stop yet; `%{kind} restart {kernel}` ends what it does."
        ),
        ..Failure::interrupted()
    }
}

/// How a cell has ended, by its reply.
fn outcome(reply: &Value) -> Result<(), Failure> {
    let text = |key: &str| reply[key].as_str().unwrap_or_default().to_owned();
    match reply["status"].as_str() {
        Some("ok") => Ok(()),
        Some("error") => {
            let lines = reply["traceback"].as_array().into_iter().flatten();
            let lines = lines.filter_map(|line| line.as_str().map(str::to_owned));
            Err(Failure {
                traceback: lines.collect(),
                ..Failure::new(text("ename"), text("evalue"))
            })
        }
        _ => Err(Failure::new(
            "Aborted",
            "The cell was not run, since one before it had failed.",
        )),
    }
}

/// What the helper is to show for a message; nothing for what it has no way for.
fn output(message: &Message, mut content: Value) -> Option<Output> {
    let header = HeaderPeek::read(&message.header)?;
    let mut part = |key: &str| match content[key].take() {
        Value::Object(part) => part,
        _ => Map::new(),
    };
    let mut display = |update| Output::Display {
        data: Bundle::from(part("data")),
        metadata: part("metadata"),
        transient: part("transient"),
        update,
    };
    Some(match &*header.msg_type {
        "stream" => Output::Stream {
            name: match content["name"] == "stderr" {
                true => StreamName::Stderr,
                false => StreamName::Stdout,
            },
            text: content["text"].as_str()?.to_owned(),
        },
        "display_data" | "execute_result" => display(false),
        "update_display_data" => display(true),
        "clear_output" => Output::Clear {
            wait: content["wait"] == true,
        },
        _ => return None,
    })
}
