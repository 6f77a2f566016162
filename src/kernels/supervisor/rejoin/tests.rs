//! The order in which a kernel gets to know of whoever takes it over.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use zeromq::{PubSocket, RouterSocket, Socket as _, SocketRecv, SocketSend, ZmqMessage};

use super::*;
use crate::kernels::supervisor::journal::memory::MemoryJournal;
use crate::protocol::connection_file::Socket;
use crate::protocol::message::Message;
use crate::protocol::multipart;
use crate::protocol::signature::Signer;

const LIMIT: Duration = Duration::from_secs(20);

/// What a client says on the output's socket, its subscription too, takes so long.
const LATE: Duration = Duration::from_millis(100);

const JOURNAL_BYTES: usize = 1 << 20;

/// What the real socket of the output is called.
const BEHIND: &str = "behind";

fn frames(id: &str) -> ZmqMessage {
    let message = Message {
        header: format!(r#"{{"msg_id":"{id}","msg_type":"status","session":"k"}}"#).into(),
        content: Bytes::from_static(br#"{"execution_state":"idle"}"#),
        ..Message::empty()
    };
    let signer = Signer::new(b"key");
    multipart::encode(&message, &signer).try_into().unwrap()
}

/// One way of a connection.
async fn slowly(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let mut bytes = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        sleep(LATE).await;
        to.write_all(&bytes[..read]).await.unwrap();
    }
}

/// A kernel that publishes something to each request, to whoever has subscribed by then.
async fn kernel(connection: ConnectionFile, serves_control: bool) {
    let (mut shell, mut control) = (RouterSocket::new(), RouterSocket::new());
    let (mut stdin, mut iopub) = (RouterSocket::new(), PubSocket::new());
    let output = connection.endpoint(Socket::Iopub);
    let behind = format!("{output}{BEHIND}");
    iopub.bind(&behind).await.unwrap();
    let path = |endpoint: &str| endpoint.trim_start_matches("ipc://").to_owned();
    let door = UnixListener::bind(path(&output)).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = door.accept().await {
            let (from_client, mut to_client) = client.into_split();
            let server = UnixStream::connect(path(&behind)).await.unwrap();
            let (mut from_server, to_server) = server.into_split();
            tokio::spawn(slowly(from_client, to_server));
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        }
    });
    for (socket, name) in [
        (&mut control, Socket::Control),
        (&mut stdin, Socket::Stdin),
        (&mut shell, Socket::Shell),
    ] {
        socket.bind(&connection.endpoint(name)).await.unwrap();
    }
    loop {
        let request = tokio::select! {
            request = control.recv(), if serves_control => (request, "of control"),
            request = shell.recv() => (request, "of shell"),
        };
        request.0.unwrap();
        iopub.send(frames(request.1)).await.unwrap();
    }
}

#[tokio::test]
async fn the_shell_of_a_kernel_knows_of_us_once_its_output_is_heard() {
    for serves_control in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("k").display().to_string();
        let connection = ConnectionFile::ipc(prefix, "key".to_owned(), String::new());
        let kernel = tokio::spawn(kernel(connection.clone(), serves_control));
        let broker = Broker::new(Box::new(MemoryJournal::new(JOURNAL_BYTES)));
        let both = async {
            let joined = rejoin(&connection, "nb", &broker).await;
            let (mut sender, mut receiver) = joined.unwrap();
            // What one that is busy on all channels says is heard by then as well.
            let asked = broker.compose("kernel_info_request", &json!({}));
            sender.send(Channel::Shell, &asked).await.unwrap();
            loop {
                let (channel, message) = receiver.recv().await.unwrap();
                let header = message.unwrap().header;
                if channel == Channel::Iopub && header.starts_with(br#"{"msg_id":"of shell""#) {
                    return;
                }
            }
        };
        timeout(LIMIT, both).await.unwrap();
        kernel.abort();
    }
}
