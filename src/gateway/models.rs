//! The JSON shapes of REST, as clients check them.
//!
//! Anything more than Jupyter has is under one key, `nb`.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::kernels::contract::{Kernel, NotebookSession};

/// A kernel.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KernelModel {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) last_activity: String,
    pub(crate) execution_state: String,
    pub(crate) connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) nb: Map<String, Value>,
}

impl From<Kernel> for KernelModel {
    fn from(kernel: Kernel) -> Self {
        let reason = kernel.nb.get("reason").and_then(Value::as_str);
        Self {
            reason: reason.map(str::to_owned),
            id: kernel.id,
            name: kernel.name,
            last_activity: kernel.last_activity,
            execution_state: kernel.execution_state,
            connections: kernel.connections,
            nb: kernel.nb,
        }
    }
}

/// A notebook session with its kernel, which is never absent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionModel {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) kernel: KernelModel,
    /// For readers of the older shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notebook: Option<NotebookModel>,
}

/// The older shape of a session's notebook.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotebookModel {
    pub(crate) path: String,
    pub(crate) name: String,
}

impl SessionModel {
    /// Of a session and its kernel.
    pub(crate) fn new(session: NotebookSession, kernel: Kernel) -> Self {
        let notebook = (session.kind == "notebook").then(|| NotebookModel {
            path: session.path.clone(),
            name: session.name.clone(),
        });
        Self {
            id: session.id,
            path: session.path,
            name: session.name,
            kind: session.kind,
            kernel: kernel.into(),
            notebook,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kernel() -> Kernel {
        serde_json::from_value(json!({
            "id": "k", "name": "python3", "execution_state": "dead", "connections": 2,
            "last_activity": "2026-01-01T00:00:00.000000Z", "nb": {"reason": "was killed"},
        }))
        .unwrap()
    }

    #[test]
    fn a_session_has_the_keys_that_clients_validate() {
        let session = |kind: &str| NotebookSession {
            id: "s".to_owned(),
            path: "a/b.ipynb".to_owned(),
            name: "b.ipynb".to_owned(),
            kind: kind.to_owned(),
            owner: "me".to_owned(),
            updated: String::new(),
        };
        let model = serde_json::to_value(SessionModel::new(session("notebook"), kernel())).unwrap();
        let expected = json!({
            "id": "s", "path": "a/b.ipynb", "name": "b.ipynb", "type": "notebook",
            "kernel": {
                "id": "k", "name": "python3", "execution_state": "dead", "connections": 2,
                "last_activity": "2026-01-01T00:00:00.000000Z", "reason": "was killed",
                "nb": {"reason": "was killed"},
            },
            "notebook": {"path": "a/b.ipynb", "name": "b.ipynb"},
        });
        assert_eq!(model, expected);
        let model = serde_json::to_value(SessionModel::new(session("console"), kernel())).unwrap();
        assert!(model.get("notebook").is_none());
    }
}
