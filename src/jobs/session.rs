//! Cells through a line to a kernel, one after the other, each from its request to its reply and its idle.
//!
//! Knows the messaging protocol of one request; what is shown, and where, is its [`Viewer`]'s. A line that
//! breaks is mended with the same session: what comes twice is shown once, and a request that never came is sent again.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::compose::Composer;
use crate::error::Error;
use crate::front::{FromKernel, Kernel, Over, Said, ToKernel, Window};
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// How long a gateway that went away is called.
const MEND_WITHIN: Duration = Duration::from_secs(60);

/// A kernel that died is told to be dead, or to start again, right after its cells are answered.
const DEATH_TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The name of the error that cells get whose kernel died; those of another kernel of the notebook have it too.
const KERNEL_DIED: &str = "KernelDied";

/// How often.
const CALL_AGAIN: Duration = Duration::from_millis(250);

/// Takes what is said of the cell.
pub trait Viewer {
    /// Any message of the cell.
    fn message(&mut self, channel: Channel, message: &Message) -> Result<(), Error>;
    /// What the cell asks for is to be answered by a line.
    fn ask(&mut self, prompt: &str, password: bool) -> impl Future<Output = Result<String, Error>>;
}

/// So much of what the kernel says to stderr is looked through for an error that has no output of its own.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// With an error, which the kernel has not shown where this says what it is.
    Failed(Option<String>),
    /// With its kernel, which has died of this and may be started again.
    Died(String),
    /// It was not run, since something before it went wrong.
    Aborted,
}

/// How a cell is to be run.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// It may ask for input.
    pub allow_stdin: bool,
    /// Its error aborts what waits behind it.
    pub stop_on_error: bool,
}

/// A client session at a kernel, over as many lines as it takes.
#[derive(Debug)]
pub struct Session<'a> {
    kernel: &'a Kernel,
    id: String,
    composer: Composer,
    from: FromKernel,
    to: ToKernel,
    window: Window,
    /// The kernel is said to be dead, or to start again, since the cell was submitted.
    died: bool,
}

/// A cell that runs.
#[derive(Debug)]
pub struct Cell<'s, 'a> {
    session: &'s mut Session<'a>,
    id: String,
    /// The request, until something has come of it: it may not have come there.
    unheard: Option<Message>,
    /// Why it was not sent whole.
    broken: Option<Over>,
    idle: bool,
    shown: bool,
    /// The end of what the kernel said to stderr.
    said: String,
    reply: Option<Reply>,
}

impl<'a> Session<'a> {
    /// Joins a kernel.
    pub async fn open(kernel: &'a Kernel) -> Result<Self, Error> {
        let id = Uuid::new_v4().to_string();
        let (from, to) = kernel.attach(&id).await.map_err(|over| match over {
            Over::Gone => {
                let id = kernel.id();
                Error::user(format!("there is no kernel {id}, or it is dead"))
            }
            over => Error::user(why(over)),
        })?;
        Ok(Self {
            kernel,
            id,
            composer: Composer::new(),
            from,
            to,
            window: Window::default(),
            died: false,
        })
    }

    /// Submits a cell.
    pub async fn submit(&mut self, code: &str, how: How) -> Cell<'_, 'a> {
        let content = json!({
            "code": code, "silent": false, "store_history": true, "user_expressions": {},
            "allow_stdin": how.allow_stdin, "stop_on_error": how.stop_on_error,
        });
        let request = self.composer.orphan("execute_request", &content);
        let id = HeaderPeek::read(&request.header).map(|peek| peek.msg_id.into_owned());
        self.died = false;
        let broken = self.send(&request).await.err();
        Cell {
            session: self,
            id: id.unwrap_or_default(),
            unheard: Some(request),
            broken,
            idle: false,
            shown: false,
            said: String::new(),
            reply: None,
        }
    }

    async fn send(&mut self, request: &Message) -> Result<(), Over> {
        let sent = self.to.send(Channel::Shell, request).await;
        sent.map_err(|error| Over::Cut(error.to_string()))
    }

    /// The next message that has not come before.
    async fn next(&mut self) -> Result<(Channel, Message), Over> {
        loop {
            match self.from.next().await? {
                Said::Message(channel, message) => {
                    if self.window.is_new(channel, &message.header) {
                        return Ok((channel, message));
                    }
                }
                Said::Ping(payload) => {
                    self.window.pinged();
                    // A line that is broken says so at the next read.
                    if let Err(error) = self.to.pong(&payload).await {
                        tracing::debug!(%error, "a pong was not sent");
                    }
                }
            }
        }
    }

    /// What is said of the kernel itself.
    fn notice(&mut self, channel: Channel, message: &Message) {
        let is_status = || {
            let header = HeaderPeek::read(&message.header);
            header.is_some_and(|header| header.msg_type == "status")
        };
        if channel == Channel::Iopub && is_status() {
            let state = read::<Status>(message).execution_state;
            self.died |= matches!(&*state, "restarting" | "dead");
        }
    }

    /// Whether the kernel is said to have died; waits for that.
    async fn has_died(&mut self) -> bool {
        let told = async {
            while !self.died {
                match self.next().await {
                    Ok((channel, message)) => self.notice(channel, &message),
                    Err(over) => return matches!(over, Over::Gone),
                }
            }
            true
        };
        timeout(DEATH_TOLD_WITHIN, told).await.unwrap_or(false)
    }

    /// Another line with the same session, on which comes what was missed.
    async fn mend(&mut self, over: Over) -> Result<(), Error> {
        let deadline = Instant::now() + MEND_WITHIN;
        let mut over = over;
        loop {
            match over {
                Over::Gone | Over::Hopeless(_) => return Err(self.dead(over).await),
                Over::Cut(why) if Instant::now() >= deadline => return Err(Error::nb(why)),
                Over::Cut(why) => tracing::debug!(why, "the line is mended"),
            }
            sleep(CALL_AGAIN).await;
            match self.kernel.attach(&self.id).await {
                Ok((from, to)) => {
                    (self.from, self.to) = (from, to);
                    self.window.reattached();
                    return Ok(());
                }
                Err(again) => over = again,
            }
        }
    }

    /// Why the kernel is no more.
    async fn dead(&self, over: Over) -> Error {
        match (over, self.kernel.death().await) {
            (Over::Hopeless(why), _) => Error::nb(why),
            (_, Some(reason)) => Error::kernel(reason),
            (_, None) => Error::kernel("the kernel was ended before the code was done"),
        }
    }
}

impl Cell<'_, '_> {
    /// Goes on until the cell has ended; an error of the kernel's when that is gone. Cancelling loses at most what is being shown.
    pub async fn run(&mut self, viewer: &mut impl Viewer) -> Result<Outcome, Error> {
        loop {
            if let (Some(reply), true) = (&self.reply, self.idle) {
                if reply.ename == KERNEL_DIED && self.session.has_died().await {
                    return Ok(Outcome::Died(reply.evalue.clone()));
                }
                return Ok(reply.outcome(self.shown, &self.said));
            }
            let heard = match self.broken.take() {
                Some(over) => Err(over),
                None => self.session.next().await,
            };
            match heard {
                Ok((channel, message)) => self.take(channel, &message, viewer).await?,
                Err(over) => {
                    self.session.mend(over).await?;
                    self.broken = self.ask_again().await?;
                }
            }
        }
    }

    /// Sends the request again over a new line, if it has never come there. What breaks the line meanwhile.
    async fn ask_again(&mut self) -> Result<Option<Over>, Error> {
        let Some(request) = &self.unheard else {
            return Ok(None);
        };
        let kernel = self.session.kernel;
        let got = match timeout(MEND_WITHIN, has_got(kernel, &self.id)).await {
            Ok(got) => got,
            Err(_) => {
                return Err(Error::nb(
                    "the line to the kernel broke, and it is not known whether the kernel has got the code",
                ));
            }
        };
        match got {
            true => Ok(None),
            false => Ok(self.session.send(request).await.err()),
        }
    }

    async fn take(
        &mut self,
        channel: Channel,
        message: &Message,
        viewer: &mut impl Viewer,
    ) -> Result<(), Error> {
        let parent = HeaderPeek::read(&message.parent_header).unwrap_or_default();
        let Some(header) = HeaderPeek::read(&message.header) else {
            return Ok(());
        };
        if parent.msg_id != self.id {
            self.session.notice(channel, message);
            return Ok(());
        }
        self.unheard = None;
        viewer.message(channel, message)?;
        match (channel, &*header.msg_type) {
            (Channel::Iopub, "status") => self.idle |= read::<Status>(message).is_idle(),
            (Channel::Iopub, "error") => self.shown = true,
            (Channel::Shell, "execute_reply") => {
                self.reply = Some(read(message));
            }
            (Channel::Iopub, "stream") => {
                let stream: Stream = read(message);
                if stream.name == "stderr" {
                    self.said.push_str(&stream.text);
                    let over = self.said.len().saturating_sub(SAID_BYTES_MAX);
                    self.said.drain(..self.said.ceil_char_boundary(over));
                }
            }
            (Channel::Stdin, "input_request") => {
                let asked: Asked = read(message);
                let value = viewer.ask(&asked.prompt, asked.password).await?;
                let content = json!({"value": value});
                let header = message.header.clone();
                let answer = self
                    .session
                    .composer
                    .message("input_reply", header, &content);
                let sent = self.session.to.send(Channel::Stdin, &answer).await;
                sent.map_err(|error| Error::nb(format!("the answer was not sent: {error}")))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Asks until there is an answer.
async fn has_got(kernel: &Kernel, msg_id: &str) -> bool {
    loop {
        match kernel.has_got(msg_id).await {
            Ok(got) => return got,
            Err(why) => tracing::debug!(why, "whether the kernel has got the code is asked again"),
        }
        sleep(CALL_AGAIN).await;
    }
}

fn why(over: Over) -> String {
    match over {
        Over::Gone => "the kernel is gone".to_owned(),
        Over::Cut(why) | Over::Hopeless(why) => why,
    }
}

fn read<'a, T: Deserialize<'a> + Default>(message: &'a Message) -> T {
    serde_json::from_slice(&message.content).unwrap_or_default()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    execution_state: String,
}

impl Status {
    fn is_idle(&self) -> bool {
        self.execution_state == "idle"
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    status: String,
    ename: String,
    evalue: String,
}

impl Reply {
    /// How the cell ended, of which the kernel has shown its error or has said this to stderr.
    fn outcome(&self, shown: bool, said: &str) -> Outcome {
        let (name, value) = (self.ename.as_str(), self.evalue.as_str());
        match self.status.as_str() {
            "ok" => Outcome::Done,
            "error" if shown => Outcome::Failed(None),
            // IPython says so of a magic that it does not know.
            "error" if !name.is_empty() && said.contains(name) && said.contains(value) => {
                Outcome::Failed(None)
            }
            "error" => Outcome::Failed(Some(match (name, value) {
                ("", "") => "the kernel does not say what is wrong".to_owned(),
                (only, "") | ("", only) => only.to_owned(),
                (name, value) => format!("{name}: {value}"),
            })),
            _ => Outcome::Aborted,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    name: String,
    text: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    prompt: String,
    password: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_the_kernel_has_not_shown_is_told() {
        let told = |text: &str| Outcome::Failed(Some(text.to_owned()));
        for (status, ename, evalue, shown, said, outcome) in [
            ("ok", "", "", false, "", Outcome::Done),
            ("error", "E", "why", true, "", Outcome::Failed(None)),
            ("error", "E", "why", false, "E: why", Outcome::Failed(None)),
            ("error", "E", "why", false, "E: other", told("E: why")),
            ("error", "E", "", false, "", told("E")),
            (
                "error",
                "",
                "",
                false,
                "x",
                told("the kernel does not say what is wrong"),
            ),
            ("aborted", "", "", false, "", Outcome::Aborted),
            ("", "", "", false, "", Outcome::Aborted),
        ] {
            let reply = Reply {
                status: status.to_owned(),
                ename: ename.to_owned(),
                evalue: evalue.to_owned(),
            };
            assert_eq!(reply.outcome(shown, said), outcome, "{reply:?}");
        }
    }
}
