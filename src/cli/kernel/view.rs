//! What a cell says, on a terminal or for programs.

use std::io::{self, BufRead, IsTerminal, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::jobs::session::Viewer;
use crate::protocol::message::{Channel, HeaderPeek, Message};

/// Streams as they come, results as plain text, errors as their traceback.
#[derive(Debug)]
pub(in crate::cli) struct Plain {
    /// Whether a traceback may have colours.
    colours: bool,
}

impl Plain {
    pub(in crate::cli) fn new() -> Self {
        Self {
            colours: io::stderr().is_terminal(),
        }
    }
}

impl Viewer for Plain {
    fn message(&mut self, channel: Channel, message: &Message) -> Result<(), Error> {
        if channel != Channel::Iopub {
            return Ok(());
        }
        let Some(said) = said(message) else {
            return Ok(());
        };
        match said {
            Said::Out(text) => put(&mut io::stdout(), &text),
            Said::Err(text) => put(&mut io::stderr(), &text),
            Said::Traceback(text) if self.colours => put(&mut io::stderr(), &text),
            Said::Traceback(text) => put(&mut io::stderr(), &without_colours(&text)),
        }
    }

    async fn ask(&mut self, prompt: &str, password: bool) -> Result<String, Error> {
        ask(prompt, password).await
    }
}

/// One JSON line for each message of the cell, without its buffers.
#[derive(Debug)]
pub(super) struct Lines;

impl Viewer for Lines {
    fn message(&mut self, channel: Channel, message: &Message) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            channel: &'a str,
            header: Box<RawValue>,
            parent_header: Box<RawValue>,
            metadata: Box<RawValue>,
            content: Box<RawValue>,
            /// How many bytes each of them has.
            buffers: Vec<usize>,
        }
        let raw = |part: &Bytes| -> Option<Box<RawValue>> {
            // One line each: what is not compact is written anew.
            let text = str::from_utf8(part).ok()?;
            match text.contains(['\n', '\r']) {
                false => RawValue::from_string(text.to_owned()).ok(),
                true => {
                    serde_json::value::to_raw_value(&serde_json::from_str::<Value>(text).ok()?).ok()
                }
            }
        };
        let shown = || {
            Some(Shown {
                channel: channel.name(),
                header: raw(&message.header)?,
                parent_header: raw(&message.parent_header)?,
                metadata: raw(&message.metadata)?,
                content: raw(&message.content)?,
                buffers: message.buffers.iter().map(Bytes::len).collect(),
            })
        };
        let Some(line) = shown().and_then(|shown| serde_json::to_string(&shown).ok()) else {
            return Ok(());
        };
        put(&mut io::stdout(), &format!("{line}\n"))
    }

    async fn ask(&mut self, prompt: &str, password: bool) -> Result<String, Error> {
        ask(prompt, password).await
    }
}

enum Said {
    Out(String),
    Err(String),
    Traceback(String),
}

/// What is shown of a message of iopub.
fn said(message: &Message) -> Option<Said> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Content {
        name: String,
        text: String,
        data: Map<String, Value>,
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    }
    let header = HeaderPeek::read(&message.header)?;
    let content: Content = serde_json::from_slice(&message.content).ok()?;
    Some(match &*header.msg_type {
        "stream" if content.name == "stderr" => Said::Err(content.text),
        "stream" => Said::Out(content.text),
        "execute_result" | "display_data" => {
            let text = content.data.get("text/plain")?.as_str()?;
            Said::Out(format!("{text}\n"))
        }
        "error" => Said::Traceback(match content.traceback.is_empty() {
            true => format!("{}: {}\n", content.ename, content.evalue),
            false => format!("{}\n", content.traceback.join("\n")),
        }),
        _ => return None,
    })
}

/// A reader that is gone is no fault of ours.
fn put(to: &mut impl Write, text: &str) -> Result<(), Error> {
    let put = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    match put {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::user(format!("nothing could be printed: {error}")))
        }
        _ => Ok(()),
    }
}

/// Text without the sequences that colour it.
fn without_colours(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        output.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic());
        rest = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
    }
    output + rest
}

/// A line from the terminal.
async fn ask(prompt: &str, password: bool) -> Result<String, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::user(format!("the answer could not be read: {error}"))
    };
    // Before the prompt: what is typed once that is there is neither shown nor thrown away.
    let hidden = password.then(Hidden::new).transpose();
    let hidden = hidden.map_err(|error| failed(&error))?;
    // The prompt goes where results do not.
    put(&mut io::stderr(), prompt)?;
    let read = spawn_blocking(move || -> io::Result<String> {
        let _hidden = hidden;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    });
    let line = read.await.map_err(|error| failed(&error))?;
    if password {
        put(&mut io::stderr(), "\n")?;
    }
    line.map_err(|error| failed(&error))
}

/// What is typed is not shown until this is dropped.
struct Hidden(rustix::termios::Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            tracing::debug!(%error, "the terminal stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out_and_nothing_else() {
        for (text, expected) in [
            ("\u{1b}[0;31mZero\u{1b}[0mDivision", "ZeroDivision"),
            ("plain [text]", "plain [text]"),
            ("cut \u{1b}[0;3", "cut "),
            ("é\u{1b}[1mé", "éé"),
        ] {
            assert_eq!(without_colours(text), expected);
        }
    }
}
