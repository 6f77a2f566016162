//! How a kernel of this machine is reached, over as many supervisors as it gets.
//!
//! Knows nothing of what is said on a line.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Line, Over, line};
use crate::kernels::client::{CallError, Supervisor, record};
use crate::kernels::contract::{Acknowledges, Attach, AttachMode, Framing};
use crate::kernels::launch::Launcher;
use crate::kernels::registry::{Registry, Standing};

/// For what the supervisor answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The way to one kernel.
#[derive(Clone, Debug)]
pub struct Reach {
    id: Uuid,
    /// Whose client is on the line.
    identity: String,
    /// What is on it.
    credential: &'static str,
    supervisor: Supervisor,
    registry: Registry,
    launcher: Launcher,
}

impl Reach {
    /// The way to the kernel `id` for clients of this user.
    pub fn new(
        id: Uuid,
        identity: String,
        credential: &'static str,
        registry: Registry,
        launcher: Launcher,
    ) -> Self {
        Self {
            id,
            identity,
            credential,
            supervisor: Supervisor::new(registry.socket(id)),
            registry,
            launcher,
        }
    }

    /// Its supervisor, whichever that is.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// A line of this client session.
    pub async fn attach(&self, session: &str) -> Result<Line, Over> {
        let mut attachment = match self.supervisor.attach(ANSWER_WITHIN).await {
            Ok(attachment) => attachment,
            Err(CallError::Gone) => return Err(self.gone().await),
            Err(error) => return Err(Over::Cut(error.to_string())),
        };
        let attach = Attach {
            session_id: session.to_owned(),
            framing: Framing::V1,
            identity: self.identity.clone(),
            credential: self.credential.to_owned(),
            expires: None,
            left: 0,
            mode: AttachMode::Splice,
            text_only: false,
            unnamed: false,
            acknowledges: Acknowledges::Pong,
            resumes: false,
        };
        let cut = |error: std::io::Error| Over::Cut(error.to_string());
        let record = record(&attach).map_err(cut)?;
        attachment.stream.write_all(&record).await.map_err(cut)?;
        let (reader, writer) = attachment.stream.into_split();
        Ok(line(reader, writer, &attachment.early))
    }

    /// What it means that no supervisor is there. One that has died is given a successor: there may be no gateway
    /// that does.
    async fn gone(&self) -> Over {
        let (registry, id) = (self.registry.clone(), self.id);
        let standing = spawn_blocking(move || registry.standing(id)).await;
        match standing {
            Ok(Standing::Held) => Over::Cut("its supervisor begins".to_owned()),
            Ok(Standing::Orphaned) => match self.launcher.adopt(self.id).await {
                Ok(()) => {
                    Over::Cut("its supervisor has died, another one has taken over".to_owned())
                }
                Err(error) => Over::Cut(error.to_string()),
            },
            Ok(Standing::Missing | Standing::Starting | Standing::Abandoned) | Err(_) => Over::Gone,
        }
    }
}
