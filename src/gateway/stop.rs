//! The end of all kernels with their gateway, where the settings say so.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Gateway;

/// How long they may take, all at once.
const KERNELS_END: Duration = Duration::from_secs(20);

impl Gateway {
    /// Ends every kernel but those of `nb launch`, which end with their clients.
    pub(crate) async fn end_kernels(&self) {
        let registry = self.registry.clone();
        let ours = move || {
            let ids = registry.ids()?;
            let ours = ids
                .into_iter()
                .filter(|id| !registry.goes_with_its_client(*id));
            Ok::<Vec<_>, std::io::Error>(ours.collect())
        };
        let ours = match tokio::task::spawn_blocking(ours).await {
            Ok(Ok(ours)) => ours,
            Ok(Err(error)) => return tracing::warn!(%error, "kernels cannot be listed, they stay"),
            Err(error) => return tracing::warn!(%error, "kernels cannot be listed, they stay"),
        };
        let ends = ours.into_iter().map(|id| async move {
            if let Err(error) = self.delete(id).await
                && !error.is_not_found()
            {
                tracing::warn!(kernel = %id, ?error, "it does not end");
            }
        });
        if timeout(KERNELS_END, join_all(ends)).await.is_err() {
            tracing::warn!("not all kernels have ended; the next gateway finds them");
        }
    }
}
