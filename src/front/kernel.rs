//! A kernel that a client has, wherever it is: started here, or behind a gateway.
//!
//! Owns its life as far as a client decides it. What is said to it is its [`Line`]'s.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::client::Gateway;
use super::local::{Local, Machine};
use super::remote::Remote;
use crate::error::Error;
use crate::kernels::upstream::{Line, Over};

/// How long what a start has begun may take to be undone.
const UNDO_WITHIN: Duration = Duration::from_secs(20);

/// Where a kernel is to start.
#[derive(Debug)]
pub enum Place {
    Here(Box<Machine>),
    /// Behind a gateway, of this kernelspec; how long it lives on without a client.
    Behind(Gateway, String, Duration),
}

impl Place {
    /// Waits until what a start that was cancelled has begun is undone.
    pub async fn settled(&self) {
        if let Self::Here(machine) = self {
            let undone = timeout(UNDO_WITHIN, machine.launcher.settled()).await;
            tracing::debug!(?undone, "the start that was cut off");
        }
    }
}

/// A kernel that was started, or was there. It lives on when this is dropped.
#[derive(Debug)]
pub struct Kernel {
    id: String,
    at: At,
}

#[derive(Debug)]
enum At {
    Here(Local),
    Behind(Remote),
}

impl Kernel {
    /// Starts the kernel `id`, or restarts the one that has this id.
    pub async fn start(place: &Place, id: Uuid) -> Result<Self, Error> {
        let at = match place {
            Place::Here(machine) => At::Here(Local::start(machine, id).await?),
            Place::Behind(gateway, spec, linger) => {
                At::Behind(Remote::start(gateway, spec, *linger, id).await?)
            }
        };
        Ok(Self {
            id: id.to_string(),
            at,
        })
    }

    /// The one that a gateway has.
    pub fn behind(gateway: &Gateway, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            at: At::Behind(Remote::of(gateway, id)),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A line to it, with what the session `session` has missed.
    pub async fn attach(&self, session: &str) -> Result<Line, Over> {
        match &self.at {
            At::Here(local) => local.attach(session).await,
            At::Behind(remote) => remote.attach(session).await,
        }
    }

    /// Whether it has ever got this request; an error is why that cannot be known.
    pub async fn has_got(&self, msg_id: &str) -> Result<bool, String> {
        match &self.at {
            At::Here(local) => local.has_got(msg_id).await,
            At::Behind(remote) => remote.has_got(msg_id).await,
        }
    }

    /// Interrupts what it runs.
    pub async fn interrupt(&self) -> Result<(), String> {
        match &self.at {
            At::Here(local) => local.interrupt().await,
            At::Behind(remote) => remote.interrupt().await,
        }
    }

    /// Ends it.
    pub async fn end(&self) {
        match &self.at {
            At::Here(local) => local.end().await,
            At::Behind(remote) => remote.end().await,
        }
    }

    /// Why it is dead; nothing when it is not there any more.
    pub async fn death(&self) -> Option<String> {
        match &self.at {
            At::Here(local) => {
                let kernel = local.kernel().await?;
                Some(kernel.nb.get("reason")?.as_str()?.to_owned())
            }
            At::Behind(remote) => remote.death().await,
        }
    }
}
