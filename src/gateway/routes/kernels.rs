//! `/api/kernels`: HTTP in, the fleet's answer out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::gateway::Gateway;
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Body, Id, check_texts};
use crate::gateway::models::KernelModel;
use crate::gateway::start::{Asked, Place};

/// The body of a start.
#[derive(Default, Deserialize)]
pub(super) struct StartBody {
    name: Option<String>,
    path: Option<String>,
    env: Option<BTreeMap<String, String>>,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
) -> Result<Json<Vec<KernelModel>>, ApiError> {
    let kernels = gateway.listed().await?;
    let models = kernels.iter().cloned().map(KernelModel::from);
    Ok(Json(models.collect()))
}

/// Answers once the kernel is ready. A client that goes before that leaves no kernel behind.
pub(super) async fn start(
    State(gateway): State<Arc<Gateway>>,
    Body(body): Body<StartBody>,
) -> Result<Response, ApiError> {
    check_texts(&[&body.name, &body.path])?;
    let path = body.path.filter(|path| !path.is_empty());
    let asked = Asked {
        spec: body.name,
        place: path.map(Place::Path),
        env: body.env.unwrap_or_default(),
    };
    let (kernel, launched) = gateway.start(asked, StatusCode::BAD_REQUEST).await?;
    let location = format!("/api/kernels/{}", kernel.id);
    let model = Json(KernelModel::from(kernel));
    let response = (StatusCode::CREATED, [(LOCATION, location)], model).into_response();
    launched.keep();
    Ok(response)
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Id(id): Id,
) -> Result<Json<KernelModel>, ApiError> {
    Ok(Json(gateway.kernel(id).await?.into()))
}

pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    gateway.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn interrupt(
    State(gateway): State<Arc<Gateway>>,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    gateway.interrupt(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers once the kernel is ready again.
pub(super) async fn restart(
    State(gateway): State<Arc<Gateway>>,
    Id(id): Id,
) -> Result<Json<KernelModel>, ApiError> {
    Ok(Json(gateway.restart(id).await?.into()))
}
