//! Which path and method leads to which handler, and what all of them have in common.

mod channels;
mod kernels;
mod kernelspecs;
mod sessions;
mod status;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

use super::error::ApiError;
use super::{Gateway, auth, origin};

/// All of it. Paths that are not there are 404 without a token: clients probe for other servers so.
pub(super) fn router(gateway: &Arc<Gateway>) -> Router {
    let open = Router::new()
        .route("/", get(status::home))
        .route("/api", get(status::version))
        .route("/api/openapi.json", get(status::openapi))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz));
    // Before the layer, which would hide what has no method.
    let closed = Router::new()
        .route("/metrics", get(status::metrics))
        .route("/api/status", get(status::status))
        .route("/api/me", get(status::me))
        .route("/api/kernelspecs", get(kernelspecs::list))
        .route("/api/kernelspecs/{name}", get(kernelspecs::one))
        .route("/kernelspecs/{name}/{file}", get(kernelspecs::resource))
        .route("/api/kernels", get(kernels::list).post(kernels::start))
        .route(
            "/api/kernels/{id}",
            get(kernels::one).delete(kernels::delete),
        )
        .route("/api/kernels/{id}/interrupt", post(kernels::interrupt))
        .route("/api/kernels/{id}/restart", post(kernels::restart))
        .route("/api/kernels/{id}/logs", get(kernels::log))
        .route("/api/kernels/{id}/journal", get(kernels::journal))
        .route("/api/kernels/{id}/channels", get(channels::open))
        .route("/api/sessions", get(sessions::list).post(sessions::create))
        .route(
            "/api/sessions/{id}",
            get(sessions::one)
                .patch(sessions::change)
                .delete(sessions::delete),
        )
        .method_not_allowed_fallback(wrong_method)
        .route_layer(from_fn_with_state(Arc::clone(gateway), auth::require));
    open.method_not_allowed_fallback(wrong_method)
        .merge(closed)
        .fallback(unknown)
        .layer(from_fn_with_state(Arc::clone(gateway), origin::share))
        .layer(from_fn_with_state(Arc::clone(gateway), log))
        .with_state(Arc::clone(gateway))
}

async fn unknown() -> ApiError {
    ApiError::not_found("there is nothing at this path")
}

async fn wrong_method() -> ApiError {
    ApiError::user(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed",
        "this path does not know this method",
    )
}

/// The access log: never the query, which may hold a token.
async fn log(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    gateway.metrics.answered(known(&method), status);
    tracing::debug!(%method, path, status, elapsed_ms = begun.elapsed().as_millis(), "answered");
    response
}

/// Anybody can make methods up; they are counted together.
fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}

/// Does what has begun to its end even when the client goes away: half a change is worth nothing.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}
