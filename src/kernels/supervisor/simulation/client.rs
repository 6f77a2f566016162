//! A client of a simulation: it comes, asks, reads at its pace or not at all, is cut off at any byte, comes back with
//! its session or as a new one; and when there is peace, drains all sessions that it ever had.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::chance::Chance;
use super::manner::{Answers, Ends, Manner};
use super::record::{Answer, LineId};
use super::spy::MESSAGE_BYTES_MAX;
use super::world::World;
use crate::kernels::contract::{Acknowledges, Framing};
use crate::kernels::supervisor::connection;
use crate::kernels::supervisor::sessions::Holder;
use crate::protocol::legacy::{self, Payload};
use crate::protocol::message::{Channel, HeaderPeek, Message};
use crate::protocol::v1;
use crate::protocol::websocket::{Decoder, Event, Opcode, encode_masked};

/// What a client is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Binary frames both ways.
    V1,
    Legacy,
    /// Legacy, and it breaks on binary frames: what it acknowledges its browser may not have.
    Stock,
    /// It acknowledges for a browser.
    Companion,
    /// Like VS Code it looks for the cell that an earlier session was watching, and listens late.
    Resuming,
}

pub(super) struct Client {
    pub(super) world: Rc<World>,
    pub(super) chance: Chance,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) identity: Rc<str>,
}

/// One line while it lasts.
struct Line<'a> {
    client: &'a Client,
    session: &'a Rc<str>,
    manner: &'a Manner,
    id: LineId,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    asked: &'a Cell<u64>,
}

impl Client {
    /// Comes and goes for a while; then all sessions that it has had.
    pub(super) async fn live(&mut self) -> Vec<Rc<str>> {
        let asked = Cell::new(0);
        let mut sessions: Vec<Rc<str>> = Vec::new();
        for _ in 0..self.chance.between(1, 4) {
            sleep(self.chance.pause(Duration::from_secs(8))).await;
            if sessions.is_empty() || self.chance.percent(20) {
                sessions.push(format!("{}.{}", self.name, sessions.len()).into());
            }
            let session = Rc::clone(&sessions[sessions.len() - 1]);
            let manner = Manner::any(&mut self.chance);
            let chance = self.chance.fork();
            self.line(&session, &manner, chance, &asked).await;
        }
        sessions
    }

    /// Stays, and takes what there is for this session.
    pub(super) async fn drain(&self, session: &Rc<str>) {
        loop {
            let (chance, asked) = (Chance::new(0), Cell::new(0));
            self.line(session, &Manner::peaceful(), chance, &asked)
                .await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// One line from its begin to its end.
    async fn line(
        &self,
        session: &Rc<str>,
        manner: &Manner,
        mut chance: Chance,
        asked: &Cell<u64>,
    ) {
        let Some((stream, id)) = self.world.connect(self.is(session), manner.pipe_bytes) else {
            return;
        };
        self.world
            .trace(|| format!("{session} comes by line {id}: {manner:?}"));
        let (frames, mut queue) = mpsc::unbounded_channel();
        let line = Line {
            client: self,
            session,
            manner,
            id,
            frames,
            asked,
        };
        let (mut reader, mut writer) = split(stream);
        let (script, reads) = (chance.fork(), chance.fork());
        let is_cut = tokio::select! {
            biased;
            why = line.read(&mut reader, reads) => {
                self.world.trace(|| format!("line {id}: {why}"));
                true
            }
            () = line.write(&mut writer, &mut queue) => true,
            () = line.ask(script) => false,
        };
        self.world.trace(|| format!("line {id} ends"));
        match manner.ends {
            _ if is_cut => {}
            Ends::Cut => {}
            Ends::Goodbye => {
                let _gone = writer.write_all(&goodbye()).await;
            }
            Ends::Held(until) => {
                spawn_local(async move {
                    sleep(until).await;
                    drop((reader, writer));
                });
            }
        }
    }

    fn is(&self, session: &Rc<str>) -> connection::Client {
        let (framing, text_only, acknowledges) = match self.kind {
            Kind::V1 | Kind::Resuming => (Framing::V1, false, Acknowledges::Pong),
            Kind::Legacy => (Framing::Legacy, false, Acknowledges::Pong),
            Kind::Stock => (Framing::Legacy, true, Acknowledges::Pong),
            Kind::Companion => (Framing::V1, false, Acknowledges::Client),
        };
        connection::Client {
            session: Rc::clone(session),
            holder: Holder {
                identity: Rc::clone(&self.identity),
                credential: "1".into(),
            },
            framing,
            text_only,
            unnamed: false,
            acknowledges,
            resumes: matches!(self.kind, Kind::Resuming),
            expires_in: None,
        }
    }

    fn frame(&self, channel: Channel, message: &Message) -> Vec<u8> {
        let (opcode, payload) = match self.kind {
            Kind::V1 | Kind::Companion | Kind::Resuming => {
                (Opcode::Binary, v1::encode(channel, message))
            }
            Kind::Legacy | Kind::Stock => match legacy::encode(channel, message).unwrap() {
                Payload::Text(text) => (Opcode::Text, text),
                Payload::Binary(binary) => (Opcode::Binary, binary),
            },
        };
        masked(opcode, &payload)
    }
}

impl Line<'_> {
    /// Reads until the line ends, and says why.
    async fn read(&self, reader: &mut ReadHalf<DuplexStream>, mut chance: Chance) -> &'static str {
        let mut decoder = Decoder::of_server(MESSAGE_BYTES_MAX);
        let mut input = BytesMut::new();
        let mut left = self.manner.reads;
        let mut owed = None;
        loop {
            while let Some(event) = decoder.decode(&mut input).unwrap() {
                match event {
                    Event::Ping(number) => self.pinged(&number, &mut owed, &mut chance),
                    Event::Text(payload) => {
                        self.heard(&legacy::decode(&payload).unwrap(), &mut chance)
                    }
                    Event::Binary(payload) => {
                        self.heard(&v1::decode(&payload).unwrap(), &mut chance)
                    }
                    Event::Close(_) => return "closed by the supervisor",
                    Event::Pong(_) => {}
                }
            }
            if chance.percent(20) {
                owed.take()
                    .into_iter()
                    .for_each(|ping| self.acknowledge(ping));
            }
            let (cases, most) = self.manner.pauses;
            if chance.percent(cases) {
                sleep(chance.pause(most)).await;
            }
            let most = usize::try_from(left.min(4096)).unwrap();
            let mut bytes = vec![0; most];
            match reader.read(&mut bytes).await {
                Ok(0) if most == 0 => return "cut while it read",
                Ok(0) | Err(_) => return "broken",
                Ok(read) => {
                    left -= read as u64;
                    input.extend_from_slice(&bytes[..read]);
                }
            }
        }
    }

    /// Writes frames until the line ends.
    async fn write(
        &self,
        writer: &mut WriteHalf<DuplexStream>,
        queue: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    ) {
        let mut left = self.manner.writes;
        while let Some(frame) = queue.recv().await {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(frame.len());
            left -= most as u64;
            if writer.write_all(&frame[..most]).await.is_err() || most < frame.len() {
                return;
            }
        }
    }

    /// Asks the kernel this and that.
    async fn ask(&self, mut chance: Chance) {
        for _ in 0..self.manner.requests {
            sleep(chance.pause(Duration::from_millis(500))).await;
            self.request(&mut chance);
        }
        match self.manner.stays {
            Some(stays) => sleep(chance.pause(stays)).await,
            None => std::future::pending().await,
        }
    }

    fn request(&self, chance: &mut Chance) {
        self.asked.set(self.asked.get() + 1);
        let id = format!("{}-{}", self.client.name, self.asked.get());
        let cell = |code: &str| {
            json!({
                "code": code, "silent": false, "allow_stdin": true, "stop_on_error": true,
            })
        };
        let (channel, msg_type, content) = match chance.below(20) {
            0..10 => (Channel::Shell, "execute_request", cell("x")),
            10..13 => (Channel::Shell, "execute_request", cell("%nb status")),
            13 => {
                let silent = json!({"code": "x", "silent": true});
                (Channel::Shell, "execute_request", silent)
            }
            14 => (Channel::Shell, "kernel_info_request", json!({})),
            15 => (Channel::Shell, "comm_msg", json!({"data": {}})),
            16 => {
                let place = json!({"code": "%nb s", "cursor_pos": 5});
                (Channel::Shell, "complete_request", place)
            }
            17 => {
                let place = json!({"code": "pri", "cursor_pos": 3});
                (Channel::Shell, "complete_request", place)
            }
            18 => (Channel::Control, "debug_request", json!({})),
            _ => (
                Channel::Control,
                "shutdown_request",
                json!({"restart": true}),
            ),
        };
        let header = json!({"msg_id": id, "msg_type": msg_type, "session": **self.session});
        self.client
            .world
            .trace(|| format!("line {}: {msg_type} {id}", self.id));
        self.send(channel, &header, Bytes::from_static(b"{}"), &content);
    }

    fn send(&self, channel: Channel, header: &Value, parent_header: Bytes, content: &Value) {
        let message = Message {
            header: header.to_string().into(),
            parent_header,
            content: content.to_string().into(),
            ..Message::empty()
        };
        let _gone = self.frames.send(self.client.frame(channel, &message));
    }

    fn heard(&self, (channel, message): &(Channel, Message), chance: &mut Chance) {
        let world = &self.client.world;
        world.notes.heard(self.id, message);
        world.trace(|| {
            let peek = HeaderPeek::read(&message.header).unwrap();
            let content =
                String::from_utf8_lossy(&message.content[..message.content.len().min(60)]);
            format!(
                "line {} hears {} {} {content}",
                self.id, peek.msg_id, peek.msg_type
            )
        });
        if *channel == Channel::Stdin && chance.percent(self.manner.obliges) {
            let header = json!({
                "msg_id": "answer", "msg_type": "input_reply", "session": **self.session,
            });
            // Some clients name no parent.
            let parent = match chance.percent(70) {
                true => message.header.clone(),
                false => Bytes::from_static(b"{}"),
            };
            self.send(Channel::Stdin, &header, parent, &json!({"value": "yes"}));
        }
    }

    fn pinged(&self, number: &Bytes, owed: &mut Option<Answer>, chance: &mut Chance) {
        let number = str::from_utf8(number).unwrap().parse().unwrap();
        let ping = self.client.world.notes.pinged(self.id, number);
        let answers = match self.manner.answers {
            Answers::Always => true,
            Answers::Mostly(cases) => chance.percent(cases),
            Answers::Never => return,
        };
        let put_off = owed.replace(ping).filter(|_| chance.percent(50));
        put_off.into_iter().for_each(|ping| self.acknowledge(ping));
        if answers {
            owed.take()
                .into_iter()
                .for_each(|ping| self.acknowledge(ping));
        }
    }

    fn acknowledge(&self, answer: Answer) {
        let number = answer.number.to_string();
        let pong = masked(Opcode::Pong, number.as_bytes());
        self.client.world.notes.answers(self.id, answer);
        let _gone = self.frames.send(pong);
        if let Kind::Companion = self.client.kind {
            let told = format!("{{\"nb\":{{\"ack\":{number}}}}}");
            let _gone = self.frames.send(masked(Opcode::Text, told.as_bytes()));
        }
    }
}

fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_masked(opcode, payload, [0x5a, 1, 2, 3], &mut frame);
    frame.to_vec()
}

/// A close frame with its code.
fn goodbye() -> Vec<u8> {
    masked(Opcode::Close, &1000_u16.to_be_bytes())
}
