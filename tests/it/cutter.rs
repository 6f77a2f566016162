//! A line between clients and a gateway that can be cut: forwards bytes, loses some in both directions,
//! cuts, stays away, comes back on the same port.
//!
//! ```text
//! client ──> port ── bytes ──> the gateway
//! script ──> control: "cut fin 5000"   answered with a number, or with what went wrong
//! ```
//!
//! Of what passes to a client it reads just enough to say what a reconnect may repeat. A gateway's ping is
//! sent only when the one before it is answered, so whatever passed before the last ping but one is
//! acknowledged: the answer is how many lines passed after that. TCP has delivered to here what is lost:
//! first the clients' acknowledgement of at least one line, then at least one line.
//! Must not know messages: a line is where their payload says `line `.

mod passed;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::passed::Passed;
use crate::gateway::LIMIT;

/// How both ends see a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The end of the stream.
    Fin,
    /// An error.
    Rst,
}

#[derive(Debug)]
struct Order {
    how: How,
    absent_for: Duration,
    done: oneshot::Sender<Result<usize, String>>,
}

/// A cutter; ends with the runtime of its test.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// Where clients find the gateway.
    pub(crate) port: u16,
    /// Where scripts ask for a cut.
    pub(crate) control: u16,
}

impl Cutter {
    pub(crate) async fn start(gateway: u16) -> Self {
        let holder = bind(0).unwrap();
        let port = holder.local_addr().unwrap().port();
        let (orders, received) = mpsc::channel(1);
        let listener = listen(port).unwrap();
        tokio::spawn(serve(holder, listener, gateway, received));
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = control.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((script, _)) = control.accept().await {
                tokio::spawn(obey(script, orders.clone()));
            }
        });
        Self {
            port,
            control: address.port(),
        }
    }
}

impl Cutter {
    /// What a script asks for: cut by an error, away for a while. Gives how many lines may come twice.
    pub(crate) async fn cut(&self, absent_ms: u64) -> usize {
        let control = TcpStream::connect((Ipv4Addr::LOCALHOST, self.control)).await;
        let mut control = control.unwrap();
        let order = format!("cut rst {absent_ms}\n");
        control.write_all(order.as_bytes()).await.unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).await.unwrap();
        answer.parse().expect(&answer)
    }
}

/// A socket with this port, or any. Two may have one as long as none of them listens.
fn bind(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    bind(port)?.listen(1024)
}

/// One order of a script: a line in, a line out.
async fn obey(script: TcpStream, orders: mpsc::Sender<Order>) {
    let mut script = BufReader::new(script);
    let mut line = String::new();
    script.read_line(&mut line).await.unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let answer = match words[..] {
        ["cut", how, ms] => {
            let how = if how == "rst" { How::Rst } else { How::Fin };
            let absent_for = Duration::from_millis(ms.parse().unwrap());
            let (done, answer) = oneshot::channel();
            let order = Order {
                how,
                absent_for,
                done,
            };
            orders.send(order).await.unwrap();
            answer.await.unwrap()
        }
        _ => Err(format!("what is {line}?")),
    };
    let answer = answer.map_or_else(|why| why, |lines| lines.to_string());
    script.write_all(answer.as_bytes()).await.unwrap();
}

/// What becomes of the bytes that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Whole,
    /// What clients say is lost.
    Deaf,
    /// What the gateway says is lost too.
    Lost,
    Cut(How),
}

/// What the connections between two cuts share.
#[derive(Debug)]
struct Line {
    phase: watch::Sender<Phase>,
    /// A line has come in this phase; so many before it may be unacknowledged.
    seen: watch::Sender<Option<(Phase, usize)>>,
}

impl Line {
    fn has_seen(&self, phase: Phase) -> bool {
        self.seen.borrow().is_some_and(|(of, _)| of == phase)
    }

    /// Waits until a line has come in this phase; gives how many before it may be unacknowledged.
    async fn line_in(&self, phase: Phase) -> Result<usize, String> {
        self.phase.send_replace(phase);
        let mut seen = self.seen.subscribe();
        let of_phase = seen.wait_for(|seen| seen.is_some_and(|(of, _)| of == phase));
        match timeout(LIMIT, of_phase).await {
            Ok(Ok(seen)) => Ok(seen.map_or(0, |(_, unconfirmed)| unconfirmed)),
            _ => Err(format!("no line came in the phase {phase:?}")),
        }
    }
}

/// `holder` keeps the port ours, and refusing, while nobody listens on it.
async fn serve(
    holder: TcpSocket,
    mut listener: TcpListener,
    gateway: u16,
    mut orders: mpsc::Receiver<Order>,
) {
    let port = holder.local_addr().unwrap().port();
    loop {
        let line = Arc::new(Line {
            phase: watch::Sender::new(Phase::Whole),
            seen: watch::Sender::new(None),
        });
        let mut connections = JoinSet::new();
        let order = loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn(connect(accepted.unwrap().0, gateway, Arc::clone(&line)));
                }
                Some(_) = connections.join_next() => {}
                order = orders.recv() => break order,
            }
        };
        let Some(order) = order else { return };
        let lines = match line.line_in(Phase::Deaf).await {
            Ok(_) => line.line_in(Phase::Lost).await,
            Err(why) => Err(why),
        };
        drop(listener);
        line.phase.send_replace(Phase::Cut(order.how));
        while connections.join_next().await.is_some() {}
        let _gone = order.done.send(lines);
        sleep(order.absent_for).await;
        listener = listen(port).unwrap();
    }
}

async fn connect(mut client: TcpStream, gateway: u16, line: Arc<Line>) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut phase = line.phase.subscribe();
    tokio::select! {
        ended = forward(&mut client, &mut server, &line) => return ended,
        cut = phase.wait_for(|phase| matches!(phase, Phase::Cut(_))) => drop(cut),
    }
    let cut = *phase.borrow();
    match cut {
        Phase::Cut(How::Rst) => {
            client.set_zero_linger()?;
            server.set_zero_linger()
        }
        _ => {
            // Closing with unread input would be a reset.
            let ends = async {
                tokio::try_join!(client.shutdown(), server.shutdown())?;
                tokio::try_join!(drain(&mut client), drain(&mut server))
            };
            timeout(LIMIT, ends).await??;
            Ok(())
        }
    }
}

async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

async fn forward(client: &mut TcpStream, server: &mut TcpStream, line: &Line) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut bytes).await?;
            if read == 0 {
                return to_server.shutdown().await;
            }
            if *line.phase.borrow() == Phase::Whole {
                to_server.write_all(&bytes[..read]).await?;
            }
        }
    };
    let down = async {
        let mut passed = Passed::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 {
                return to_client.shutdown().await;
            }
            let phase = *line.phase.borrow();
            if matches!(phase, Phase::Whole | Phase::Deaf) {
                to_client.write_all(&bytes[..read]).await?;
            }
            let unconfirmed = passed.unconfirmed();
            if passed.read(&bytes[..read]) > 0 && !line.has_seen(phase) {
                line.seen.send_replace(Some((phase, unconfirmed)));
            }
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// What a gateway sends; ends with its client.
async fn say_lines(mut client: TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 101 \r\n\r\n").await?;
    let mut ignored = [0];
    while timeout(Duration::from_millis(1), client.read(&mut ignored))
        .await
        .is_err()
    {
        client.write_all(b"\x82\x06line 0").await?;
    }
    Ok(())
}

/// The end of a stream of lines: nothing when it was clean, else the error.
async fn end_of(client: &mut TcpStream) -> Option<io::ErrorKind> {
    let mut bytes = [0; 4096];
    loop {
        match client.read(&mut bytes).await {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

#[tokio::test]
async fn a_cut_looks_as_it_was_asked_for_and_nobody_is_there_for_a_while() {
    let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let cutter = Cutter::start(gateway.local_addr().unwrap().port()).await;
    tokio::spawn(async move {
        while let Ok((client, _)) = gateway.accept().await {
            tokio::spawn(say_lines(client));
        }
    });
    let connect = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    for (how, expected) in [("fin", None), ("rst", Some(io::ErrorKind::ConnectionReset))] {
        let mut client = connect(cutter.port).await.unwrap();
        client.readable().await.unwrap();
        let mut script = connect(cutter.control).await.unwrap();
        let order = format!("cut {how} 1000\n");
        script.write_all(order.as_bytes()).await.unwrap();
        let ended = timeout(LIMIT, end_of(&mut client)).await;
        assert_eq!(ended.expect("no cut"), expected, "{how}");
        drop(client);
        let refused = connect(cutter.port).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let mut answer = String::new();
        script.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.parse::<usize>().is_ok_and(|lines| lines > 0),
            "{answer}"
        );
        let back = async {
            while connect(cutter.port).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, back).await.expect("nobody comes back");
    }
}
