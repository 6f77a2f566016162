//! A line that begins anew: what the other kernel never got is sent again, what gets no answer there is answered here.

use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::Other;
use crate::kernels::client::CallError;
use crate::kernels::supervisor::broker::error_content;
use crate::kernels::supervisor::others::unanswered::{Asks, Missed};
use crate::kernels::upstream::{Over, ToKernel};
use crate::protocol::message::{Channel, Message};

impl Other {
    /// Sends again what never came by an earlier line, and answers what gets no answer there.
    pub(super) async fn send_missed(&self, to: &mut ToKernel, spoken: &Notify) -> Result<(), Over> {
        let ids = self.unanswered.borrow().ids();
        if ids.is_empty() {
            return Ok(());
        }
        // By then its supervisor reads nothing more of an earlier line.
        spoken.notified().await;
        let known = match self.supervisor().requests(ids.clone()).await {
            Ok(known) => known,
            // One of an earlier release, which does not tell: all of it may have come.
            Err(CallError::Refused { status: 404, .. }) => return Ok(()),
            Err(error) => return Err(Over::Cut(error.to_string())),
        };
        let missed = self
            .unanswered
            .borrow_mut()
            .are_known(&ids, &known.phases, known.last);
        for missed in missed {
            match missed {
                Missed::Again(channel, message) => {
                    debug!(kernel = %self.kernel, "a request never came there");
                    let sent = to.send(channel, &message).await;
                    sent.map_err(|error| Over::Cut(error.to_string()))?;
                }
                missed => self.answer_missed(missed).await,
            }
        }
        Ok(())
    }

    /// Answers in the place of its kernel what gets no answer there.
    pub(super) async fn answer_missed(&self, missed: Missed) {
        let kernel = &self.kernel;
        let (asks, why) = match missed {
            Missed::Again(..) => return,
            Missed::NeverCame(asks) => {
                let why = format!(
                    "a supervisor died before the kernel in {kernel} had this; it was not run"
                );
                (asks, why)
            }
            Missed::WithoutEnd(asks) => {
                let why = format!("what the kernel in {kernel} answered was lost");
                (asks, why)
            }
        };
        warn!(%kernel, why, "answered in its place");
        let Asks {
            channel,
            msg_type,
            header,
            has_reply,
        } = asks;
        let say = |msg_type: &str, content: &Value| Message {
            parent_header: header.clone(),
            ..self.broker.compose(msg_type, content)
        };
        if !has_reply {
            let error = error_content("SupervisorDied", &why);
            if msg_type == "execute_request" {
                self.heard(Channel::Iopub, say("error", &error)).await;
            }
            let stem = msg_type.trim_end_matches("_request");
            self.heard(channel, say(&format!("{stem}_reply"), &error))
                .await;
        }
        let idle = json!({"execution_state": "idle"});
        self.heard(Channel::Iopub, say("status", &idle)).await;
    }
}
