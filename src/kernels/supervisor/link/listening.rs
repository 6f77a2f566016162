//! The link to a kernel that runs already: its output is heard before its shell knows us.
//!
//! A kernel says the idle of a cell to whoever has subscribed by then, and sends the reply to whoever is at its shell. Of a cell
//! that ends while somebody connects to both at once, the reply may come and the idle not.

use zeromq::{DealerRecvHalf, DealerSendHalf, SocketRecv, SubSocket};

use super::{
    Large, LinkError, LinkReceiver, LinkSender, Received, dealer, send_signed, subscriber,
};
use crate::protocol::connection_file::{ConnectionFile, Socket};
use crate::protocol::message::{Channel, Message};
use crate::protocol::multipart;
use crate::protocol::signature::Signer;

/// The first part of a link: the kernel's output and its control channel.
#[expect(missing_debug_implementations, reason = "its fields have none")]
pub struct Listening {
    signer: Signer,
    control_send: DealerSendHalf,
    control: DealerRecvHalf,
    iopub: SubSocket,
}

/// Connects to the output and then to the control channel of a kernel, as soon as it has bound them.
///
/// That the kernel knows of the subscription is sure once anything was heard. `identity` is that of all our DEALERs.
pub async fn listen(connection: &ConnectionFile, identity: &str) -> Result<Listening, LinkError> {
    let iopub = subscriber(connection).await?;
    let (control_send, control) = dealer(connection, Socket::Control, identity).await?;
    Ok(Listening {
        signer: Signer::new(connection.key.as_bytes()),
        control_send,
        control,
        iopub,
    })
}

impl Listening {
    /// Signs and sends a message on the control channel.
    pub async fn ask(&mut self, message: &Message) -> Result<(), LinkError> {
        send_signed(&mut self.control_send, message, &self.signer).await
    }

    /// The next message on either channel. Cancelling loses nothing.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        let (channel, frames) = tokio::select! {
            frames = self.iopub.recv() => (Channel::Iopub, frames),
            frames = self.control.recv() => (Channel::Control, frames),
        };
        Ok((channel, multipart::decode(frames?.into_vec(), &self.signer)))
    }

    /// Connects the rest, the shell last.
    pub async fn connect(
        self,
        connection: &ConnectionFile,
        identity: &str,
    ) -> Result<(LinkSender, LinkReceiver), LinkError> {
        let (stdin_send, stdin) = dealer(connection, Socket::Stdin, identity).await?;
        let (shell_send, shell) = dealer(connection, Socket::Shell, identity).await?;
        let sender = LinkSender {
            signer: self.signer.clone(),
            shell: shell_send,
            control: self.control_send,
            stdin: stdin_send,
        };
        let receiver = LinkReceiver {
            signer: self.signer,
            shell,
            control: self.control,
            stdin,
            iopub: self.iopub,
            large: Large::default(),
        };
        Ok((sender, receiver))
    }
}
