//! `/api/sessions`: HTTP in, notebook sessions out.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::to_the_end;
use crate::gateway::Gateway;
use crate::gateway::audit::{Event, What};
use crate::gateway::error::ApiError;
use crate::gateway::extract::{Body, Id, check_texts, object};
use crate::gateway::identity::Identity;
use crate::gateway::models::SessionModel;
use crate::gateway::notebooks::{Changes, Wanted, WantedKernel};

/// The body of a new session and of a change.
#[derive(Default, Deserialize)]
pub(super) struct SessionBody {
    path: Option<String>,
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "object")]
    kernel: Option<KernelBody>,
    /// The older shape.
    #[serde(default, deserialize_with = "object")]
    notebook: Option<NotebookBody>,
}

#[derive(Default, Deserialize)]
struct KernelBody {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct NotebookBody {
    path: Option<String>,
    name: Option<String>,
}

impl SessionBody {
    /// Moves the older shape into the newer one and refuses what is too long.
    fn checked(mut self) -> Result<Self, ApiError> {
        if let Some(notebook) = self.notebook.take() {
            self.path = self.path.or(notebook.path);
            self.name = self.name.or(notebook.name);
            self.kind = self.kind.or_else(|| Some("notebook".to_owned()));
        }
        check_texts(&[&self.path, &self.name, &self.kind])?;
        Ok(self)
    }

    fn kernel(kernel: Option<KernelBody>) -> Option<WantedKernel> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let kernel = kernel?;
        match (given(kernel.id), given(kernel.name)) {
            (Some(id), _) => Some(WantedKernel::Existing(id)),
            (None, Some(name)) => Some(WantedKernel::New(Some(name))),
            (None, None) => None,
        }
    }

    fn wanted(self) -> Result<Wanted, ApiError> {
        let body = self.checked()?;
        let missing = |field| ApiError::bad_request(format!("the field {field:?} is missing"));
        let path = body.path.filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| missing("path"))?;
        let kind = body.kind.filter(|kind| !kind.is_empty());
        let kind = kind.ok_or_else(|| missing("type"))?;
        let last = || path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Wanted {
            name: body.name.unwrap_or_else(last),
            kernel: Self::kernel(body.kernel).unwrap_or(WantedKernel::New(None)),
            path,
            kind,
        })
    }

    fn changes(self) -> Result<Changes, ApiError> {
        let body = self.checked()?;
        Ok(Changes {
            path: body.path.filter(|path| !path.is_empty()),
            name: body.name,
            kind: body.kind.filter(|kind| !kind.is_empty()),
            kernel: Self::kernel(body.kernel),
        })
    }
}

pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<Vec<SessionModel>>, ApiError> {
    Ok(Json(gateway.sessions(&identity).await?))
}

/// The session of that path, made with a kernel if there is none. A client that goes before it is
/// answered leaves neither behind.
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Body(body): Body<SessionBody>,
) -> Result<Response, ApiError> {
    let wanted = body.wanted()?;
    let (session, launched) = gateway.create_session(wanted, &identity).await?;
    let location = format!("/api/sessions/{}", session.id);
    let event = Event::new(What::Start, &session.kernel.id);
    let mut response = (StatusCode::CREATED, [(LOCATION, location)], Json(session)).into_response();
    if let Some(launched) = launched {
        response.extensions_mut().insert(event);
        launched.keep();
    }
    Ok(response)
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
) -> Result<Json<SessionModel>, ApiError> {
    Ok(Json(gateway.session(id, &identity).await?))
}

pub(super) async fn change(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
    Body(body): Body<SessionBody>,
) -> Result<Json<SessionModel>, ApiError> {
    let changes = body.changes()?;
    let change = async move { gateway.change_session(id, changes, &identity).await };
    Ok(Json(to_the_end(change).await?))
}

pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Extension(identity): Extension<Identity>,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let delete = async move { gateway.delete_session(id, &identity).await };
    let kernel = to_the_end(delete).await?;
    let event = Extension(Event::new(What::Stop, &kernel));
    Ok((StatusCode::NO_CONTENT, event).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> SessionBody {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_new_session_needs_a_path_and_a_type() {
        for json in [
            "{}",
            r#"{"path":"a"}"#,
            r#"{"type":"notebook"}"#,
            r#"{"path":"","type":"x"}"#,
        ] {
            assert!(body(json).wanted().is_err(), "{json}");
        }
        let wanted = body(r#"{"path":"a/b.ipynb","type":"notebook","kernel":null}"#);
        let wanted = wanted.wanted().unwrap();
        assert_eq!(wanted.name, "b.ipynb");
        assert!(matches!(wanted.kernel, WantedKernel::New(None)));
        let older = body(r#"{"notebook":{"path":"a","name":null},"kernel":{"id":null}}"#);
        assert_eq!(older.wanted().unwrap().kind, "notebook");
    }

    #[test]
    fn a_change_may_be_of_anything() {
        let changes = body(r#"{"name":"n","kernel":{"id":"k","name":"python3"}}"#);
        let changes = changes.changes().unwrap();
        assert_eq!((changes.path, changes.name.as_deref()), (None, Some("n")));
        assert!(matches!(changes.kernel, Some(WantedKernel::Existing(id)) if id == "k"));
        let long = format!(r#"{{"path":"{}"}}"#, "x".repeat(5000));
        assert!(body(&long).changes().is_err());
    }
}
