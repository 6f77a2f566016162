//! `/api/kernels`: HTTP in, the fleet's answer out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use crate::gateway::audit::{Event, What};
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Body, KernelId, check_texts};
use crate::gateway::identity::Identity;
use crate::gateway::models::KernelModel;
use crate::gateway::{Gateway, query};
use crate::kernels::contract::{LogPiece, file};
use crate::kernels::plan::{Asked, Place};
use crate::protocol::message::is_msg_id;

/// The body of a start.
#[derive(Default, Deserialize)]
pub(super) struct StartBody {
    name: Option<String>,
    path: Option<String>,
    env: Option<BTreeMap<String, String>>,
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<Vec<KernelModel>>, ApiError> {
    let kernels = gateway.listed(&identity).await?;
    let models = kernels.into_iter().map(KernelModel::from);
    Ok(Json(models.collect()))
}

/// Answers once the kernel is ready. A client that goes before that leaves no kernel behind.
pub(super) async fn start(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Body(body): Body<StartBody>,
) -> Result<Response, ApiError> {
    check_texts(&[&body.name, &body.path])?;
    let path = body.path.filter(|path| !path.is_empty());
    let asked = Asked {
        spec: body.name,
        place: path.map(Place::Path),
        env: body.env.unwrap_or_default(),
    };
    let (kernel, launched) = gateway
        .start(asked, &identity, StatusCode::BAD_REQUEST)
        .await?;
    let location = format!("/api/kernels/{}", kernel.id);
    let event = Extension(Event::new(What::Start, &kernel.id));
    let model = Json(KernelModel::from(kernel));
    let response = (StatusCode::CREATED, [(LOCATION, location)], event, model).into_response();
    launched.keep();
    Ok(response)
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
) -> Result<Json<KernelModel>, ApiError> {
    Ok(Json(gateway.kernel(id).await?.into()))
}

pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
) -> Result<Response, ApiError> {
    gateway.delete(id).await?;
    let event = Extension(Event::new(What::Stop, &id));
    Ok((StatusCode::NO_CONTENT, event).into_response())
}

pub(super) async fn interrupt(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
) -> Result<StatusCode, ApiError> {
    gateway.interrupt(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers once the kernel is ready again.
pub(super) async fn restart(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
) -> Result<Json<KernelModel>, ApiError> {
    Ok(Json(gateway.restart(id).await?.into()))
}

/// What the kernel's process wrote to its stdout or stderr.
pub(super) async fn log(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
    uri: Uri,
) -> Result<Json<LogPiece>, ApiError> {
    let given = |name| query::value(uri.query(), name).filter(|value| !value.is_empty());
    let number = |name| given(name).map(|text| text.parse::<u64>()).transpose();
    let (Ok(after), Ok(bytes)) = (number("after"), number("bytes")) else {
        return Err(ApiError::bad_request("after and bytes are whole numbers"));
    };
    let stream = given("stream").unwrap_or_else(|| file::STDERR.to_owned());
    if ![file::STDOUT, file::STDERR].contains(&&*stream) {
        return Err(ApiError::bad_request("stream is stdout or stderr"));
    }
    Ok(Json(gateway.log(id, &stream, after, bytes).await?))
}

/// What the kernel has said and its supervisor still holds; passed on as it comes, since one output may be large.
pub(super) async fn journal(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
    uri: Uri,
) -> Result<Response, ApiError> {
    let given = |name| query::value(uri.query(), name).filter(|value| !value.is_empty());
    let number = |name| given(name).map(|text| text.parse::<u64>()).transpose();
    let (Ok(after), Ok(limit)) = (number("after"), number("limit")) else {
        return Err(ApiError::bad_request("after and limit are whole numbers"));
    };
    // An empty one is none, and would stand for all.
    let request = query::value(uri.query(), "msg_id");
    if request.as_ref().is_some_and(|id| !is_msg_id(id)) {
        return Err(ApiError::bad_request("msg_id is no id of a request"));
    }
    let page = gateway
        .journal(id, after, request.as_deref(), limit)
        .await?;
    let head = [(CONTENT_TYPE, "application/json")];
    Ok((head, HttpBody::from_stream(page)).into_response())
}
