//! Looks after kernels whose supervisor has died: each gets another one.
//!
//! Any number of these may run on one machine: the lock on a kernel's folder decides who gets it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use super::launch::Launcher;
use super::registry::Registry;

/// How often it is looked for kernels without a supervisor.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A kernel that nobody could take over so many times in a row is ended.
const ATTEMPTS_MAX: u32 = 5;

/// Looks for as long as it is polled.
pub async fn look_after(registry: &Registry, launcher: &Launcher) -> Infallible {
    let mut attempts: HashMap<Uuid, u32> = HashMap::new();
    loop {
        let folders = registry.clone();
        let orphaned = match spawn_blocking(move || folders.orphaned()).await {
            Ok(Ok(orphaned)) => orphaned,
            Ok(Err(error)) => {
                tracing::debug!(%error, "kernels are not listed");
                Vec::new()
            }
            Err(error) => {
                tracing::warn!(%error, "kernels are not looked after this time");
                Vec::new()
            }
        };
        attempts.retain(|id, _| orphaned.contains(id));
        let adoptions = orphaned.iter().map(|id| adopt(launcher, *id));
        let adopted = futures_util::future::join_all(adoptions).await;
        for (id, is_adopted) in orphaned.into_iter().zip(adopted) {
            let failed = attempts.entry(id).or_default();
            *failed = if is_adopted { 0 } else { *failed + 1 };
            if *failed >= ATTEMPTS_MAX {
                end(registry, id).await;
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn adopt(launcher: &Launcher, id: Uuid) -> bool {
    tracing::warn!(kernel = %id, "its supervisor has died, another one takes over");
    let adopted = launcher.adopt(id).await;
    adopted
        .inspect_err(|error| tracing::warn!(kernel = %id, %error, "it was not taken over"))
        .is_ok()
}

async fn end(registry: &Registry, id: Uuid) {
    let registry = registry.clone();
    let removed = spawn_blocking(move || registry.remove(id)).await;
    tracing::warn!(kernel = %id, ?removed, "nobody could take it over, it is ended");
}
