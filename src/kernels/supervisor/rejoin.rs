//! The link to a kernel process that an earlier supervisor had: its output first, then its shell.
//!
//! Knows nothing of what the kernel had been asked.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::adoption::Ready;
use super::bring_up::{Running, died};
use super::broker::{Broker, Outbox};
use super::link::{LinkError, LinkReceiver, LinkSender, Listening, listen};
use super::process::KernelProcess;
use crate::kernels::contract::{Start, StartFailure};
use crate::protocol::connection_file::ConnectionFile;
use crate::protocol::message::Channel;

/// How long a kernel that is taken over may take to accept our connections.
const LINKED_WITHIN: Duration = Duration::from_secs(10);

/// How long such a kernel may take to say anything that shows that its output is heard, until its shell is connected to all the
/// same. Its clients wait meanwhile.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

/// After this time it is asked again for something to say.
const HEAR_AGAIN: Duration = Duration::from_millis(50);

/// Takes over a kernel process that was ready.
///
/// It may be busy, so nothing is asked of its shell: what it answers later is the broker's. Kernels of which it is not known
/// that they give an identity to whoever comes last with it (`ROUTER_HANDOVER`) see a new one.
pub(super) async fn adopt(
    start: &Start,
    ready: &Ready,
    takeovers: usize,
    folder: &Path,
    broker: &Broker,
) -> Result<(Running, Outbox), StartFailure> {
    let mut process = KernelProcess::adopt(ready.process, folder).map_err(|error| {
        let message = format!("the kernel ended while nobody listened: {error}");
        died(message, String::new())
    })?;
    let identity = match ready.implementation.as_str() {
        "ipython" => start.kernel_id.clone(),
        _ => format!("{}-{takeovers}", start.kernel_id),
    };
    let link = tokio::select! {
        link = timeout(LINKED_WITHIN, rejoin(&ready.connection, &identity, broker)) => link,
        cause = process.ended() => {
            let message = format!("the kernel {cause}");
            return Err(died(message, process.stderr_tail()));
        }
    };
    let link = match link {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => return Err(died(error.to_string(), process.stderr_tail())),
        Err(_) => {
            return Err(died(
                "the kernel took no connection".to_owned(),
                process.stderr_tail(),
            ));
        }
    };
    Ok(Running::over(process, ready.connection.transport, link))
}

/// Connects to a kernel that runs. Its shell knows of us once its output is heard, or when it says nothing within
/// [`HEARD_WITHIN`].
async fn rejoin(
    connection: &ConnectionFile,
    identity: &str,
    broker: &Broker,
) -> Result<(LinkSender, LinkReceiver), LinkError> {
    let mut listening = listen(connection, identity).await?;
    let heard = timeout(HEARD_WITHIN, hear_output(&mut listening, broker));
    match heard.await {
        Ok(heard) => heard?,
        Err(_) => debug!("the kernel says nothing while it is busy"),
    }
    listening.connect(connection, identity).await
}

/// Asks on the control channel, which most kernels serve while they run a cell, until anything is published.
async fn hear_output(listening: &mut Listening, broker: &Broker) -> Result<(), LinkError> {
    loop {
        let request = broker.compose("kernel_info_request", &json!({}));
        listening.ask(&request).await?;
        let ask_again = sleep(HEAR_AGAIN);
        tokio::pin!(ask_again);
        loop {
            let (channel, message) = tokio::select! {
                received = listening.recv() => received?,
                () = &mut ask_again => break,
            };
            match message {
                Ok(message) => broker.kernel_said(channel, message),
                Err(error) => {
                    debug!(channel = channel.name(), %error, "dropped what is no message");
                }
            }
            if channel == Channel::Iopub {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
