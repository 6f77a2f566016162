//! Hidden code in another kernel, by what that kernel says of it: what was printed, and how it ended.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::magics::{Failure, OtherKernel};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// More than this is printed by no code of ours.
const PRINTED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Nothing of ours takes longer, but a kernel may be busy.
const WITHIN: Duration = Duration::from_secs(600);

/// What is known of it.
#[derive(Debug, Default)]
struct Hidden {
    printed: String,
    outcome: Option<Result<(), Failure>>,
    is_idle: bool,
}

/// What the code has printed to stdout, of the answers as they come; nothing when there are no more.
pub(super) async fn printed(
    kernel: &OtherKernel,
    mut next: impl AsyncFnMut() -> Option<(Channel, Message)>,
) -> Result<Option<String>, Failure> {
    let said = async {
        let mut hidden = Hidden::default();
        while let Some((channel, message)) = next().await {
            if hidden.hears(channel, &message)? {
                return hidden
                    .outcome
                    .unwrap_or(Ok(()))
                    .map(|()| Some(hidden.printed));
            }
        }
        Ok(None)
    };
    timeout(WITHIN, said).await.unwrap_or_else(|_| {
        let kind = kernel.kind();
        Err(Failure::new(
            "TimeoutError",
            format!(
                "The kernel in {kernel} has not answered for {} minutes; `%{kind} restart {kernel}` ends what it does.",
                WITHIN.as_secs() / 60
            ),
        ))
    })
}

impl Hidden {
    /// True once it is over.
    fn hears(&mut self, channel: Channel, message: &Message) -> Result<bool, Failure> {
        let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
        let text = |key: &str| content[key].as_str().unwrap_or_default();
        let msg_type = HeaderPeek::read(&message.header).map(|peek| peek.msg_type.into_owned());
        match (channel, msg_type.as_deref()) {
            (Channel::Iopub, Some("stream")) if text("name") == "stdout" => {
                self.printed += text("text");
                if self.printed.len() > PRINTED_BYTES_MAX {
                    return Err(Failure::new("MemoryError", "It printed too much."));
                }
            }
            (Channel::Iopub, Some("status")) => self.is_idle |= text("execution_state") == "idle",
            (Channel::Shell, _) if text("status") == "ok" => self.outcome = Some(Ok(())),
            (Channel::Shell, _) => {
                self.outcome = Some(Err(Failure::new(text("ename"), text("evalue"))));
            }
            _ => {}
        }
        Ok(self.is_idle && self.outcome.is_some())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kernel() -> OtherKernel {
        OtherKernel::Venv("old".to_owned())
    }

    fn said(channel: Channel, msg_type: &str, content: &Value) -> (Channel, Message) {
        let header = json!({"msg_id": "1", "msg_type": msg_type, "session": "s"});
        let message = Message {
            header: header.to_string().into(),
            content: content.to_string().into(),
            ..Message::empty()
        };
        (channel, message)
    }

    #[tokio::test]
    async fn what_is_printed_before_its_end_is_given() {
        let idle = said(
            Channel::Iopub,
            "status",
            &json!({"execution_state": "idle"}),
        );
        let out = json!({"name": "stdout", "text": "a"});
        let out = said(Channel::Iopub, "stream", &out);
        let ok = said(Channel::Shell, "execute_reply", &json!({"status": "ok"}));
        let error = json!({"status": "error", "ename": "E", "evalue": "why"});
        let error = said(Channel::Shell, "execute_reply", &error);
        let whole = Ok(Some("aa".to_owned()));
        for (all, expected) in [
            (vec![&out, &ok, &out, &idle], whole.clone()),
            (vec![&out, &out, &idle, &ok], whole),
            (vec![&error, &idle], Err(Failure::new("E", "why"))),
            (vec![&out, &ok], Ok(None)),
        ] {
            let mut all = all.into_iter().cloned();
            assert_eq!(printed(&kernel(), async || all.next()).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_does_not_answer_is_not_waited_for_for_ever() {
        let silent = printed(&kernel(), async || std::future::pending().await).await;
        let failure = silent.unwrap_err();
        assert_eq!(failure.ename, "TimeoutError");
        assert!(
            failure.message.contains("`%venv restart old`"),
            "{failure:?}"
        );
    }
}
