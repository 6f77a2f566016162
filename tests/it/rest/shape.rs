//! The shapes of REST's bodies, as the validators of the clients have them.

use jiff::civil::DateTime;
use serde_json::Value;
use uuid::Uuid;

use super::Reply;

fn assert_kernel(kernel: &Value) {
    let id = kernel["id"].as_str().unwrap();
    assert_eq!(id.parse::<Uuid>().unwrap().to_string(), id);
    assert!(kernel["name"].is_string() && kernel["connections"].is_u64());
    let states = ["starting", "idle", "busy", "restarting", "dead"];
    assert!(states.contains(&kernel["execution_state"].as_str().unwrap()));
    assert_time(&kernel["last_activity"]);
}

/// The one format that jupyter_server parses; another breaks its whole list.
fn assert_time(time: &Value) {
    let time = time.as_str().unwrap();
    DateTime::strptime("%Y-%m-%dT%H:%M:%S.%fZ", time).unwrap();
    assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{time}");
}

fn assert_session(session: &Value) {
    for key in ["id", "path", "name", "type"] {
        assert!(session[key].is_string(), "{key}: {session}");
    }
    assert_kernel(&session["kernel"]);
    assert_eq!(session["notebook"]["path"], session["path"]);
}

pub(super) fn assert_spec(spec: &Value) {
    assert!(spec["name"].is_string() && spec["resources"].is_object());
    assert!(spec["spec"]["argv"].is_array() && spec["spec"]["env"].is_object());
    assert!(spec["spec"]["display_name"].is_string() && spec["spec"]["language"].is_string());
    assert!(spec["spec"]["metadata"].is_object() && spec["spec"]["interrupt_mode"].is_string());
}

/// What a body has to be.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// It is empty.
    Nothing,
    Error,
    Kernel,
    Kernels(usize),
    Session,
    Sessions(usize),
    Spec,
    /// An object with these keys.
    Keys(&'static [&'static str]),
}

impl Shape {
    pub(super) fn check(self, reply: &Reply) {
        let body = reply.json();
        let all = |length: usize, check: fn(&Value)| {
            assert_eq!(body.as_array().unwrap().len(), length, "{body}");
            body.as_array().unwrap().iter().for_each(check);
        };
        match self {
            Self::Nothing => assert!(reply.body.is_empty(), "{reply:?}"),
            Self::Error => assert!(reply.is_error(), "{reply:?}"),
            Self::Kernel => assert_kernel(&body),
            Self::Kernels(length) => all(length, assert_kernel),
            Self::Session => assert_session(&body),
            Self::Sessions(length) => all(length, assert_session),
            Self::Spec => assert_spec(&body),
            Self::Keys(keys) => assert!(keys.iter().all(|key| body.get(key).is_some()), "{body}"),
        }
    }
}
