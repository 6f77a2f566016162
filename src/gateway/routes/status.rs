//! What the gateway says of itself and of who asks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::compose::timestamp;
use crate::gateway::Gateway;
use crate::gateway::error::ApiError;
use crate::gateway::identity::Identity;

/// A page for whoever comes with a browser. It is the same for all, so it tells nothing.
pub(super) async fn home() -> &'static str {
    "This is nb, a Jupyter kernel gateway. It has no pages of its own: give this address, with its \
     token, to JupyterLab (--gateway-url) or to VS Code (Existing Jupyter Server).\n"
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// What there is to ask, for programs; a test holds it against the routes.
pub(super) async fn openapi() -> impl IntoResponse {
    const DOCUMENT: &str = include_str!("../openapi.json");
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether kernels could be found and started.
pub(super) async fn readyz(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, ApiError> {
    let registry = gateway.registry.clone();
    match spawn_blocking(move || registry.ids()).await {
        Ok(Ok(_)) => Ok(Json(json!({"status": "ok"}))),
        Ok(Err(_)) | Err(_) => Err(ApiError::recovering("the runtime folder cannot be read")),
    }
}

pub(super) async fn status(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<Value>, ApiError> {
    let kernels = gateway.listed(&identity).await?;
    let started = timestamp(gateway.started);
    let activity = kernels.iter().map(|kernel| kernel.last_activity.as_str());
    Ok(Json(json!({
        "started": started,
        "last_activity": activity.max().unwrap_or(&started),
        "kernels": kernels.len(),
        "connections": kernels.iter().map(|kernel| kernel.connections).sum::<usize>(),
        // Whose the processes of kernels are.
        "nb": {"user": &*gateway.credentials.user, "uid": rustix::process::geteuid().as_raw()},
    })))
}

/// Of the kernels that the caller may see.
pub(super) async fn metrics(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
) -> Result<impl IntoResponse, ApiError> {
    let kernels = gateway.listed(&identity).await?;
    let content_type = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, gateway.metrics.text(&kernels)))
}

pub(super) async fn me(Extension(identity): Extension<Identity>) -> Json<Value> {
    let name = &*identity.name;
    let initials: String = name.chars().take(1).flat_map(char::to_uppercase).collect();
    Json(json!({
        "identity": {
            "username": name,
            "name": name,
            "display_name": name,
            "initials": initials,
            "avatar_url": null,
            "color": null,
        },
        "permissions": {},
    }))
}
