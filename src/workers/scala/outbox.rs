//! What the kernel says to its clients: replies, states and output, each under the header of whoever asked.
//!
//! Knows how it is said, not when.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::compose::Composer;
use crate::protocol::message::Channel;
use crate::sockets::{Iopub, Replies, Request};

/// What a request is answered by.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) channel: Channel,
    identity: Vec<Bytes>,
    /// That of the request: the parent of all that is said of it.
    pub(super) header: Bytes,
}

impl Asker {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            channel: request.channel,
            identity: request.identity.clone(),
            header: request.message.header.clone(),
        }
    }
}

pub(super) struct Outbox {
    replies: Replies,
    pub(super) iopub: Iopub,
    composer: Composer,
    topic: Bytes,
}

impl Outbox {
    pub(super) fn new(replies: Replies, iopub: Iopub) -> Self {
        Self {
            replies,
            iopub,
            composer: Composer::new(),
            topic: Bytes::from_static(b"kernel"),
        }
    }

    /// Answers on the channel of the request.
    pub(super) async fn reply(&mut self, asker: &Asker, msg_type: &str, content: &Value) {
        let message = self
            .composer
            .message(msg_type, asker.header.clone(), content);
        self.replies
            .send(asker.channel, &asker.identity, &message)
            .await;
    }

    /// Asks whoever sent a cell.
    pub(super) async fn ask(&mut self, asker: &Asker) {
        let content = json!({"prompt": "", "password": false});
        let message = self
            .composer
            .message("input_request", asker.header.clone(), &content);
        self.replies
            .send(Channel::Stdin, &asker.identity, &message)
            .await;
    }

    /// Says it to all clients, `parent` being a header or `{}`.
    pub(super) async fn publish(&mut self, msg_type: &str, parent: &Bytes, content: &Value) {
        let message = self.composer.message(msg_type, parent.clone(), content);
        self.iopub.publish(&self.topic, &message).await;
    }

    /// `busy` or `idle`.
    pub(super) async fn state(&mut self, parent: &Bytes, state: &str) {
        self.publish("status", parent, &json!({"execution_state": state}))
            .await;
    }

    pub(super) async fn stream(&mut self, parent: &Bytes, name: &str, text: &str) {
        self.publish("stream", parent, &json!({"name": name, "text": text}))
            .await;
    }

    /// Waits until clients have what was sent.
    pub(super) async fn flushed(&self) {
        self.replies.flushed().await;
    }
}
