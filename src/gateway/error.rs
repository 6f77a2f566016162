//! The one mapping from what went wrong to an HTTP status and body.
//!
//! Every error that a client sees is made here. 500 is a bug of ours and nothing else.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::audit::{Event, What};
use crate::error::Fault;
use crate::kernels::client::CallError;
use crate::kernels::contract::{ErrorBody, StartFailure, StartFailureKind};
use crate::kernels::launch::LaunchError;

/// A longer message about what a client sent is cut off.
const MESSAGE_BYTES_MAX: usize = 1024;

/// An error as a client sees it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    header: Option<(HeaderName, &'static str)>,
    /// The kernel that was kept from somebody, for the audit.
    kept_from: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, fault: Fault, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: Box::new(ErrorBody {
                reason: reason.to_owned(),
                message: message.into(),
                fault: fault.name().to_owned(),
                retry: matches!(status.as_u16(), 408 | 503 | 504),
            }),
            header: None,
            kept_from: None,
        }
    }

    /// Somebody asked for what cannot be: any status of 4xx, and 501. What was asked for may be in
    /// the message, so its length is bounded.
    pub(crate) fn user(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
            message.push('…');
        }
        Self::new(status, Fault::User, reason, message)
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::user(StatusCode::BAD_REQUEST, "bad request", message)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        let message = "a token is needed: as the header \"Authorization: token ...\" or as ?token=... \
                       in the URL";
        Self {
            header: Some((WWW_AUTHENTICATE, "Bearer")),
            ..Self::user(StatusCode::UNAUTHORIZED, "not signed in", message)
        }
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::user(StatusCode::FORBIDDEN, "not allowed", message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::user(StatusCode::NOT_FOUND, "not found", message)
    }

    /// 404 for a kernel.
    pub(crate) fn no_such_kernel(id: impl std::fmt::Display) -> Self {
        Self::not_found(format!("there is no kernel {id}"))
    }

    /// 404 for a kernel that is not the asker's: it looks as if there were none.
    pub(crate) fn not_their_kernel(id: impl std::fmt::Display) -> Self {
        Self {
            kept_from: Some(id.to_string()),
            ..Self::no_such_kernel(id)
        }
    }

    /// 426, with the header that says to what.
    pub(crate) fn upgrade_required(header: HeaderName, value: &'static str, message: &str) -> Self {
        Self {
            header: Some((header, value)),
            ..Self::user(StatusCode::UPGRADE_REQUIRED, "upgrade required", message)
        }
    }

    /// 503: the same request may succeed soon.
    pub(crate) fn recovering(message: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            header: Some((RETRY_AFTER, "2")),
            ..Self::new(status, Fault::Nb, "not available now", message)
        }
    }

    /// 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, Fault::Nb, "internal error", message)
    }

    /// The status that will be answered.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            // As Debug: a kernel's words must not look like lines of ours.
            tracing::error!(told = ?self.body.message, "a bug of ours");
        }
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = self.header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        if let Some(kernel) = self.kept_from {
            let what = What::Refuse;
            response.extensions_mut().insert(Event { what, kernel });
        }
        response
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { status, body } => {
                // An error of the supervisor's own is told as it is.
                let status = StatusCode::from_u16(status)
                    .ok()
                    .filter(|status| status.is_client_error() || status.is_server_error())
                    .unwrap_or(StatusCode::BAD_GATEWAY);
                Self {
                    status,
                    body: Box::new(body),
                    header: None,
                    kept_from: None,
                }
            }
            CallError::NotUnderstood(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                Fault::Nb,
                "supervisor not understood",
                error.to_string(),
            ),
            CallError::Gone
            | CallError::Deadline(_)
            | CallError::Lost(_)
            | CallError::Unreachable(_) => Self::recovering(error.to_string()),
        }
    }
}

impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Duplicate => Self::user(
                StatusCode::CONFLICT,
                "the kernel exists already",
                error.to_string(),
            ),
            LaunchError::Quota(_) => Self::user(
                StatusCode::TOO_MANY_REQUESTS,
                "too many kernels",
                error.to_string(),
            ),
            LaunchError::Failed(failure) => failure.into(),
            LaunchError::Ended => Self::user(
                StatusCode::CONFLICT,
                "the kernel was ended",
                error.to_string(),
            ),
            LaunchError::Machine(message) => Self::recovering(message),
        }
    }
}

impl From<StartFailure> for ApiError {
    /// The tail of the kernel's stderr goes into the message: it is what clients show.
    fn from(failure: StartFailure) -> Self {
        let (status, fault, reason) = match failure.kind {
            StartFailureKind::NotRun | StartFailureKind::Died => (
                StatusCode::BAD_GATEWAY,
                Fault::Kernel,
                "the kernel did not start",
            ),
            StartFailureKind::Deadline => (
                StatusCode::GATEWAY_TIMEOUT,
                Fault::Kernel,
                "the kernel did not start in time",
            ),
            StartFailureKind::Internal => (
                StatusCode::SERVICE_UNAVAILABLE,
                Fault::Nb,
                "the kernel could not be started",
            ),
        };
        let message = match failure.stderr_tail.trim() {
            "" => failure.message,
            tail => format!("{}\n{tail}", failure.message),
        };
        Self::new(status, fault, reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_a_failed_start_is_decides_the_status() {
        let failed = |kind| {
            ApiError::from(StartFailure {
                kind,
                message: "It ended.".to_owned(),
                stderr_tail: " no module \n".to_owned(),
            })
        };
        let died = failed(StartFailureKind::Died);
        assert_eq!(died.status, StatusCode::BAD_GATEWAY);
        assert_eq!(died.body.message, "It ended.\nno module");
        assert!(!died.body.retry);
        let late = failed(StartFailureKind::Deadline);
        assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
        let ours = failed(StartFailureKind::Internal);
        assert_eq!(ours.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_supervisor_that_is_gone_is_worth_another_try() {
        let error = ApiError::from(CallError::Gone);
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.body.retry && error.header.is_some());
    }
}
