//! A kernel behind a gateway: started by REST, reached by a WebSocket.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Answer, Gateway};
use crate::error::Error;
use crate::kernels::contract::RequestPhase;
use crate::kernels::upstream::{Line, Over};

/// A kernel there.
#[derive(Debug)]
pub(super) struct Remote {
    gateway: Gateway,
    id: String,
}

impl Remote {
    /// The one that has this id.
    pub(super) fn of(gateway: &Gateway, id: &str) -> Self {
        Self {
            gateway: gateway.clone(),
            id: id.to_owned(),
        }
    }

    /// Starts the kernel `id`, or restarts the one that has this id.
    pub(super) async fn start(
        gateway: &Gateway,
        spec: &str,
        linger: Duration,
        id: Uuid,
    ) -> Result<Self, Error> {
        let remote = Self::of(gateway, &id.to_string());
        let mut env: serde_json::Map<String, Value> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("KERNEL_"))
            .map(|(name, value)| (name, value.into()))
            .collect();
        env.insert("KERNEL_ID".to_owned(), remote.id.clone().into());
        // A line that is broken is no client that is gone.
        let linger = linger.max(super::session::MENDED_WITHIN);
        env.insert(
            "KERNEL_LINGER".to_owned(),
            linger.as_secs_f64().to_string().into(),
        );
        let body = json!({"name": spec, "env": env});
        let answer = gateway
            .ask_long(Method::POST, "/api/kernels", &body)
            .await?;
        if answer.status == StatusCode::CONFLICT {
            let path = remote.path("/restart");
            let restarted = gateway.ask_long(Method::POST, &path, &Value::Null).await?;
            restarted.good()?;
        } else {
            answer.good()?;
        }
        Ok(remote)
    }

    fn path(&self, more: &str) -> String {
        format!("/api/kernels/{}{more}", self.id)
    }

    pub(super) async fn attach(&self, session: &str) -> Result<Line, Over> {
        self.gateway.open(&self.id, session).await
    }

    pub(super) async fn has_got(&self, msg_id: &str) -> Result<bool, String> {
        let page = self.gateway.journal(&self.id, msg_id, None).await;
        let page = page.map_err(|error| error.message)?;
        let request = page.and_then(|page| page.request);
        Ok(request.is_none_or(|request| request.state != RequestPhase::Unknown))
    }

    pub(super) async fn interrupt(&self) -> Result<(), String> {
        let path = self.path("/interrupt");
        let answer = self.gateway.ask(Method::POST, &path, &Value::Null).await;
        let good = answer.and_then(Answer::good);
        good.map(drop).map_err(|error| error.message)
    }

    pub(super) async fn end(&self) {
        let path = self.path("");
        match self.gateway.ask(Method::DELETE, &path, &Value::Null).await {
            Ok(answer) => tracing::debug!(answer.status, "the kernel was ended"),
            Err(error) => tracing::warn!(%error, "the kernel was not ended"),
        }
    }

    /// Why it is dead; nothing when it is not there any more.
    pub(super) async fn death(&self) -> Option<String> {
        let path = self.path("");
        let answer = self.gateway.ask(Method::GET, &path, &Value::Null);
        let body = answer.await.ok()?.good().ok()?;
        let reason = body.pointer("/nb/reason").or_else(|| body.get("reason"))?;
        Some(reason.as_str()?.to_owned())
    }
}
