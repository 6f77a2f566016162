//! The side of the gateway that comes: it finds the one that listens where it is to listen, and takes its
//! sockets.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::choice::{Choice, choose};
use super::door::Door;
use super::{FORMAT, GIVEN, Hello, SERVING, SOCKETS_MAX, STEP_DEADLINE, TAKE, doors, folder};
use crate::error::Error;
use crate::gateway::listen::{At, Listener};

/// A longer hello is none.
const HELLO_BYTES_MAX: u64 = 64 * 1024;

/// What came of it.
#[derive(Debug)]
pub enum Takeover {
    Taken(Taken),
    /// Nobody listens there. Where the gateways of this runtime folder do, as text; empty without any.
    Nobody(String),
}

/// The sockets of a gateway that goes on until it hears that we serve.
#[derive(Debug)]
pub struct Taken {
    pub(crate) listeners: Vec<Listener>,
    process: String,
    stream: UnixStream,
}

impl Taken {
    /// The first of where it listens.
    pub fn at(&self) -> io::Result<At> {
        self.listeners
            .first()
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(Listener::at)
    }

    /// From now on we serve, and the other does not.
    pub(crate) async fn confirm(mut self) -> Vec<Listener> {
        match timeout(STEP_DEADLINE, self.stream.write_u8(SERVING)).await {
            Ok(Ok(())) => tracing::info!("took over from the gateway of {}", self.process),
            // It has ended in between; the sockets are ours.
            _ => tracing::warn!(
                "the gateway of {} was gone before it could end",
                self.process
            ),
        }
        self.listeners
    }
}

/// A gateway that was asked where it listens.
struct Offer {
    hello: Hello,
    process: String,
    stream: UnixStream,
}

enum Answer {
    Offer(Offer),
    /// It runs and says nothing.
    Silent(String),
    Gone,
}

/// Takes over the gateway beside `own` that listens at `wanted`, if there is one.
pub async fn take_over(own: &Door, wanted: &At) -> Result<Takeover, Error> {
    let answers = join_all(own.others().into_iter().map(ask)).await;
    let (mut offers, mut silent) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Answer::Offer(offer) => offers.push(offer),
            Answer::Silent(process) => silent.push(process),
            Answer::Gone => {}
        }
    }
    let listens: Vec<&[At]> = offers.iter().map(|offer| &*offer.hello.listens).collect();
    let chosen = choose(wanted, &listens);
    match (chosen, silent.first()) {
        (Choice::Take(index), _) => take(offers.swap_remove(index)).await.map(Takeover::Taken),
        (Choice::InTheWay(index), _) => {
            let (process, there) = (&offers[index].process, places(&offers[index..=index]));
            Err(Error::user(format!(
                "the gateway of {process} listens on {there}, and not on {wanted}: a takeover keeps the address; \
                 end that gateway first, its kernels live on"
            )))
        }
        (Choice::Several, _) => Err(Error::user(format!(
            "several gateways could be taken over, on {}; say which with --port",
            places(&offers)
        ))),
        (Choice::Nobody, Some(process)) => Err(Error::user(format!(
            "the gateway of {process} does not answer within {} s, so it cannot be taken over; kill it and \
             start again: its kernels live on",
            STEP_DEADLINE.as_secs()
        ))),
        (Choice::Nobody, None) => Ok(Takeover::Nobody(places(&offers))),
    }
}

/// Where each gateway of this runtime folder listens first.
pub async fn running(runtime: &Path) -> Vec<At> {
    let doors = doors(&folder(runtime));
    let answers = join_all(doors.into_iter().map(ask)).await;
    let listens = answers.into_iter().filter_map(|answer| match answer {
        Answer::Offer(offer) => offer.hello.listens.into_iter().next(),
        Answer::Silent(_) | Answer::Gone => None,
    });
    listens.collect()
}

fn places(offers: &[Offer]) -> String {
    let listens = offers.iter().flat_map(|offer| &offer.hello.listens);
    listens.map(At::to_string).collect::<Vec<_>>().join(", ")
}

async fn ask(door: PathBuf) -> Answer {
    let stream = match UnixStream::connect(&door).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Answer::Silent("a process that takes no more connections".to_owned());
        }
        Err(_) => return Answer::Gone,
    };
    let Ok(peer) = stream.peer_cred() else {
        return Answer::Gone;
    };
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Answer::Gone;
    }
    let process = format!("process {}", peer.pid().unwrap_or_default());
    let mut line = Vec::new();
    // Its end is not read over: nothing follows before we have spoken.
    let mut reader = BufReader::new(stream);
    let mut bounded = (&mut reader).take(HELLO_BYTES_MAX);
    match timeout(STEP_DEADLINE, bounded.read_until(b'\n', &mut line)).await {
        Err(_) => Answer::Silent(process),
        Ok(Ok(_)) => match serde_json::from_slice(&line) {
            Ok(hello) => Answer::Offer(Offer {
                hello,
                process,
                stream: reader.into_inner(),
            }),
            // It ends just now.
            Err(_) if line.is_empty() => Answer::Gone,
            Err(_) => Answer::Silent(process),
        },
        Ok(Err(_)) => Answer::Gone,
    }
}

async fn take(offer: Offer) -> Result<Taken, Error> {
    let Offer {
        hello,
        process,
        mut stream,
    } = offer;
    let failed = |what: &dyn std::fmt::Display| {
        Error::user(format!(
            "the gateway of {process} cannot be taken over: {what}; end it and start again: its kernels live on"
        ))
    };
    if hello.format != FORMAT {
        return Err(failed(&format!(
            "it is nb {}, which does that in another way",
            hello.nb
        )));
    }
    let exchange = async {
        stream.write_u8(TAKE).await?;
        stream
            .async_io(Interest::READABLE, || receive(&stream))
            .await
    };
    let descriptors = match timeout(STEP_DEADLINE, exchange).await {
        Ok(descriptors) => descriptors.map_err(|error| failed(&error))?,
        Err(_) => return Err(failed(&"it does not answer")),
    };
    if descriptors.len() != hello.listens.len() || descriptors.is_empty() {
        return Err(failed(&"it gave other sockets than it said"));
    }
    let listeners = descriptors.into_iter().zip(hello.listens);
    let listeners = listeners
        .map(|(descriptor, at)| Listener::given(descriptor, at))
        .collect::<io::Result<_>>()
        .map_err(|error| failed(&error))?;
    Ok(Taken {
        listeners,
        process,
        stream,
    })
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        stream.as_fd(),
        &mut [IoSliceMut::new(&mut said)],
        &mut control,
        flags,
    )?;
    if received.bytes != 1 || said != [GIVEN] {
        return Err(io::Error::other("it gave nothing"));
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}
