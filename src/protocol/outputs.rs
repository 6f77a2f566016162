//! What a cell's messages leave in its notebook: outputs, count and times, as JupyterLab makes them.
//!
//! Streams of one name that follow each other are one output, in which a carriage return and a backspace have done
//! what a terminal does with them. Takes messages of one request in their order; whose they are is not looked at,
//! and what is no output (widgets' comms, buffers) leaves nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json::{Json, Object};
use super::message::{Channel, Message};

/// Types of data that are text, which notebooks keep by lines.
const TEXTS: [&str; 2] = ["application/javascript", "image/svg+xml"];

/// What one cell has said so far.
#[derive(Debug, Default)]
pub struct CellOutputs {
    outputs: Vec<Output>,
    /// The next output takes the place of all.
    clears: bool,
    /// The next stream may not go on with the last one.
    breaks: bool,
    count: Option<u64>,
    times: BTreeMap<&'static str, String>,
    last: Option<String>,
    replied: bool,
    idle: bool,
}

#[derive(Debug)]
enum Output {
    Stream(Stream),
    Shown {
        output: Object,
        /// By what it can be replaced.
        display_id: Option<String>,
    },
}

/// Text as a terminal would show it.
#[derive(Debug)]
struct Stream {
    name: String,
    /// Lines that are over.
    text: String,
    line: Vec<char>,
    /// Where in the line the next character goes.
    at: usize,
}

impl Stream {
    fn new(name: String) -> Self {
        Self {
            name,
            text: String::new(),
            line: Vec::new(),
            at: 0,
        }
    }

    fn push(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\n' => {
                    self.text.extend(self.line.drain(..));
                    self.text.push('\n');
                    self.at = 0;
                }
                '\r' => self.at = 0,
                '\u{8}' if self.at == 0 => {}
                '\u{8}' => {
                    self.at -= 1;
                    // As JupyterLab has it: what was under the cursor goes too.
                    let end = self.line.len().min(self.at + 2);
                    self.line.drain(self.at..end);
                }
                c => {
                    match self.line.get_mut(self.at) {
                        Some(old) => *old = c,
                        None => self.line.push(c),
                    }
                    self.at += 1;
                }
            }
        }
    }

    fn output(&self) -> Object {
        let text: String = self.text.chars().chain(self.line.iter().copied()).collect();
        let mut output = Object::default();
        output.set("name", &*self.name);
        output.set("output_type", "stream");
        output.set("text", Json::lines(&text));
        output
    }
}

/// The parts of a message's content that are looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    name: Option<String>,
    text: Option<String>,
    wait: bool,
    execution_state: Option<String>,
    execution_count: Option<u64>,
    status: Option<String>,
    data: Option<Object>,
    metadata: Option<Object>,
    transient: Option<Transient>,
    payload: Option<Vec<Page>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Transient {
    display_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    source: String,
    data: Option<Object>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    msg_id: String,
    msg_type: String,
    date: Option<String>,
}

impl CellOutputs {
    /// Goes on from outputs that a notebook has.
    pub fn after(outputs: &[Json]) -> Self {
        let known = |output: &Json| {
            let output = Object::of(output)?;
            Some(match stream(&output) {
                Some(stream) => Output::Stream(stream),
                None => Output::Shown {
                    output,
                    display_id: None,
                },
            })
        };
        Self {
            outputs: outputs.iter().filter_map(known).collect(),
            ..Self::default()
        }
    }

    /// Takes the next message of the cell.
    pub fn take(&mut self, channel: Channel, message: &Message) {
        let Ok(header) = serde_json::from_slice::<Header>(&message.header) else {
            return;
        };
        // Content of another shape leaves nothing.
        let content: Content = serde_json::from_slice(&message.content).unwrap_or_default();
        let date = header.date.clone().unwrap_or_default();
        match (channel, &*header.msg_type) {
            (Channel::Iopub, "status") => match content.execution_state.as_deref() {
                Some("busy") => self.time("iopub.status.busy", date),
                Some("idle") => {
                    self.time("iopub.status.idle", date);
                    self.idle = true;
                }
                _ => {}
            },
            (Channel::Iopub, "execute_input") => {
                self.time("iopub.execute_input", date);
                self.count = content.execution_count.or(self.count);
            }
            (Channel::Iopub, kind) => self.shown(kind, content, message),
            (Channel::Shell, "execute_reply") => self.reply(content, message, date),
            _ => {}
        }
        self.last = Some(header.msg_id);
    }

    /// The same of a cell that has said too much: its errors, states and reply alone.
    pub fn take_end(&mut self, channel: Channel, message: &Message) {
        let header: Header = serde_json::from_slice(&message.header).unwrap_or_default();
        let is_output = channel == Channel::Iopub
            && !matches!(&*header.msg_type, "status" | "execute_input" | "error");
        if !is_output {
            self.take(channel, message);
        }
    }

    fn shown(&mut self, kind: &str, content: Content, message: &Message) {
        match kind {
            "stream" => {
                let (Some(name), Some(text)) = (content.name, content.text) else {
                    return;
                };
                self.stream(name, &text);
            }
            "display_data" | "execute_result" => {
                let display_id = content.transient.and_then(|transient| transient.display_id);
                let count = (kind == "execute_result").then_some(content.execution_count);
                let output = rich(kind, content.data, content.metadata, count);
                self.add(Output::Shown {
                    output,
                    display_id: display_id.filter(|_| kind == "display_data"),
                });
            }
            "update_display_data" => {
                let display_id = content.transient.and_then(|transient| transient.display_id);
                let new = rich("display_data", content.data, content.metadata, None);
                for output in &mut self.outputs {
                    if let Output::Shown {
                        output,
                        display_id: id,
                    } = output
                        && id.is_some()
                        && *id == display_id
                    {
                        *output = new.clone();
                    }
                }
            }
            "error" => {
                let Ok(error) = serde_json::from_slice::<Object>(&message.content) else {
                    return;
                };
                let mut output = Object::default();
                for key in ["ename", "evalue"] {
                    output.set(key, error.get(key).cloned().unwrap_or_else(|| "".into()));
                }
                output.set("output_type", "error");
                let traceback = error.get("traceback").cloned();
                output.set("traceback", traceback.unwrap_or(Json::List(Vec::new())));
                self.add(Output::Shown {
                    output,
                    display_id: None,
                });
            }
            "clear_output" => {
                self.breaks = true;
                match content.wait {
                    true => self.clears = true,
                    false => self.outputs.clear(),
                }
            }
            _ => {}
        }
    }

    fn reply(&mut self, content: Content, message: &Message, date: String) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Metadata {
            started: Option<String>,
        }
        let metadata: Metadata = serde_json::from_slice(&message.metadata).unwrap_or_default();
        self.time(
            "shell.execute_reply.started",
            metadata.started.unwrap_or_default(),
        );
        self.time("shell.execute_reply", date);
        self.count = content.execution_count.or(self.count);
        self.replied = true;
        if content.status.as_deref() != Some("ok") {
            return;
        }
        // What `name?` shows.
        let mut payload = content.payload.unwrap_or_default().into_iter();
        if let Some(page) = payload.find(|page| page.source == "page") {
            self.add(Output::Shown {
                output: rich("display_data", page.data, None, None),
                display_id: None,
            });
        }
    }

    /// Text on a stream: that of a message, or a word of our own.
    pub fn stream(&mut self, name: String, text: &str) {
        let goes_on = !self.clears && !self.breaks;
        match self.outputs.last_mut() {
            Some(Output::Stream(last)) if goes_on && last.name == name => last.push(text),
            _ => {
                let mut stream = Stream::new(name);
                stream.push(text);
                self.add(Output::Stream(stream));
            }
        }
    }

    fn add(&mut self, output: Output) {
        if std::mem::take(&mut self.clears) {
            self.outputs.clear();
        }
        self.breaks = false;
        self.outputs.push(output);
    }

    fn time(&mut self, name: &'static str, time: String) {
        if !time.is_empty() {
            self.times.insert(name, time);
        }
    }

    /// The outputs as the notebook has them.
    pub fn outputs(&self) -> Json {
        let outputs = self.outputs.iter().map(|output| match output {
            Output::Stream(stream) => stream.output().into(),
            Output::Shown { output, .. } => output.clone().into(),
        });
        Json::List(outputs.collect())
    }

    /// `In [n]`, when the kernel has said it.
    pub fn count(&self) -> Option<u64> {
        self.count
    }

    /// When what happened, by the names of `metadata.execution`.
    pub fn times(&self) -> impl Iterator<Item = (&str, &str)> {
        self.times.iter().map(|(name, time)| (*name, &**time))
    }

    /// The msg_id of the last message.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The kernel has said that it is done; a reply may follow.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Nothing follows.
    pub fn is_over(&self) -> bool {
        self.replied && self.idle
    }
}

/// A stream that a notebook has.
fn stream(output: &Object) -> Option<Stream> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Whole(String),
        Lines(Vec<String>),
    }
    let kind: String = output.get("output_type")?.read()?;
    if kind != "stream" {
        return None;
    }
    let mut stream = Stream::new(output.get("name")?.read()?);
    match output.get("text")?.read()? {
        Text::Whole(text) => stream.push(&text),
        Text::Lines(lines) => lines.iter().for_each(|line| stream.push(line)),
    }
    Some(stream)
}

/// An output of data by type; text is kept by lines.
fn rich(
    kind: &str,
    data: Option<Object>,
    metadata: Option<Object>,
    count: Option<Option<u64>>,
) -> Object {
    let mut data = data.unwrap_or_default();
    for (mime, value) in data.fields() {
        if (mime.starts_with("text/") || TEXTS.contains(&&**mime))
            && let Some(text) = value.read::<String>()
        {
            *value = Json::lines(&text);
        }
    }
    data.fields().sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut output = Object::default();
    output.set("data", data);
    match count {
        Some(Some(count)) => output.set("execution_count", count),
        Some(None) => output.set("execution_count", Json::Null),
        None => {}
    }
    output.set("metadata", metadata.unwrap_or_default());
    output.set("output_type", kind);
    output
}

#[cfg(test)]
mod tests;
