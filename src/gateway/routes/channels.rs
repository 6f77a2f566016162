//! `/api/kernels/{id}/channels`: the handshake of a WebSocket, then its handover.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    USER_AGENT,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::config::Handover;
use crate::gateway::audit::{Event, What};
use crate::gateway::error::ApiError;
use crate::gateway::extract::KernelId;
use crate::gateway::handover::hand_over;
use crate::gateway::handshake::{ACK_CLIENT, Handshake, NB_ACK, V1};
use crate::gateway::identity::Identity;
use crate::gateway::server::Place;
use crate::gateway::{Gateway, origin, query};
use crate::kernels::contract::{Acknowledges, Attach, AttachMode, Framing};

/// A longer session id is refused, and one with control characters.
const SESSION_ID_BYTES_MAX: usize = 256;

/// The 101 is only answered when the supervisor has agreed: a kernel that is gone is an HTTP error,
/// which clients understand, and no broken WebSocket.
pub(super) async fn open(
    State(gateway): State<Arc<Gateway>>,
    KernelId(id): KernelId,
    Extension(identity): Extension<Identity>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let handshake = Handshake::read(request.version(), request.headers())?;
    origin::check(request.headers(), &gateway.config.server.origins)?;
    let session_id = query::value(request.uri().query(), "session_id");
    let session_id = session_id.filter(|id| !id.is_empty());
    // It is logged, by people's terminals too.
    let is_sound = |id: &String| id.len() <= SESSION_ID_BYTES_MAX && !id.contains(char::is_control);
    if !session_id.as_ref().is_none_or(is_sound) {
        let message =
            format!("session_id is over {SESSION_ID_BYTES_MAX} bytes or holds a control character");
        return Err(ApiError::bad_request(message));
    }
    let user_agent = request.headers().get(USER_AGENT);
    let is_tornado = user_agent.is_some_and(|name| name.as_bytes().starts_with(b"Tornado/"));
    let unnamed = session_id.is_none();
    // The other one that breaks on them, jupyter_server's client in a job, names no session.
    let is_jupyter_server = handshake.framing == Framing::Legacy && (is_tornado || unnamed);
    let attach = Attach {
        session_id: session_id.unwrap_or_else(|| Uuid::new_v4().to_string()),
        framing: handshake.framing,
        identity: identity.name.to_string(),
        credential: identity.credential.to_string(),
        expires: identity.expires,
        left: 0,
        mode: match gateway.config.server.handover {
            Handover::Auto => AttachMode::Fd,
            Handover::Never => AttachMode::Splice,
        },
        text_only: is_jupyter_server,
        unnamed,
        acknowledges: handshake.acknowledges,
        resumes: handshake.framing == Framing::V1 && is_vs_code(&request),
    };
    let attachment = gateway.attach(id).await?;

    // One that is spliced stays a connection of ours.
    let place = request.extensions_mut().remove::<Place>();
    let upgrade = hyper::upgrade::on(&mut request);
    let drain = gateway.drain.clone();
    gateway.drain.spawn(async move {
        if let Err(error) = hand_over(upgrade, attachment, attach, &drain).await {
            // There is no status left to answer with: the client sees the connection end.
            tracing::debug!(kernel = %id, %error, "a client's connection ended");
        }
        drop(place);
    });
    let mut response = answer(&handshake)?;
    let event = Event::new(What::Connect, &id);
    response.extensions_mut().insert(event);
    Ok(response)
}

/// Nobody else presents its token twice, and a page cannot.
fn is_vs_code(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(AUTHORIZATION)
        && query::value(request.uri().query(), "token").is_some_and(|token| !token.is_empty())
        && !headers.contains_key(ORIGIN)
}

fn answer(handshake: &Handshake) -> Result<Response, ApiError> {
    let accept = HeaderValue::from_str(&handshake.accept)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if handshake.framing == Framing::V1 {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(V1));
    }
    if handshake.acknowledges == Acknowledges::Client {
        // It knows by this that it talks to nb.
        headers.insert(NB_ACK, HeaderValue::from_static(ACK_CLIENT));
    }
    Ok(response)
}
