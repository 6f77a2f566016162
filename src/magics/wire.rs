//! What the helper in an IPython kernel and the supervisor say to each other, as JSON.
//!
//! ```text
//! POST /v1/cells             CellRequest -> 200, JSON lines: Line, Line, …, the last one a Last
//! POST /v1/cells/{id}/answer Reply       -> 204; 404 when nothing waits for it
//! ```
//!
//! The helper closing the first connection early is the interrupt of the cell. Knows no HTTP.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::call::Call;
use super::cell::{Answer, Bundle, Given, Named, Output};
use super::failure::Failure;

/// The body of `POST /v1/cells`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CellRequest {
    pub magic: String,
    pub line: String,
    #[serde(default)]
    pub cell: Option<String>,
    /// The header of the request that the kernel runs, exactly as the kernel has it.
    #[serde(default)]
    pub parent: Option<Box<RawValue>>,
}

impl CellRequest {
    /// The call and its parent's header.
    pub fn into_parts(self) -> (Call, Option<Box<RawValue>>) {
        let call = Call {
            magic: self.magic,
            line: self.line,
            cell: self.cell,
        };
        (call, self.parent)
    }
}

/// One line of the answer to `POST /v1/cells`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A question that the helper puts to the user; `id` goes into the path of its reply.
    Ask {
        id: String,
        prompt: String,
        password: bool,
    },
    /// Hidden code for the helper to run; the reply's value is what it printed.
    Run { id: String, code: String },
    #[serde(untagged)]
    Output(Output),
    #[serde(untagged)]
    Last(Last),
}

impl Line {
    /// As it is written: one line of JSON with its end.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_else(|error| {
            debug_assert!(false, "a line always has JSON: {error}");
            br#"{"status":"error","ename":"RuntimeError","evalue":"No JSON."}"#.to_vec()
        });
        bytes.push(b'\n');
        bytes
    }
}

/// The last line: how the magic ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Last {
    Ok {
        #[serde(default)]
        result: Option<Taken>,
        /// What stands for the result where it is shown.
        #[serde(default)]
        display: Option<Bundle>,
        /// The variable that takes the result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        named: Option<Named>,
    },
    Error {
        ename: String,
        evalue: String,
        #[serde(default)]
        log: String,
        /// To be shown instead of the others.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        traceback: Vec<String>,
    },
}

/// The value of the magic's expression, for the helper to make an object of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    Text(String),
    Json(Value),
    Path(String),
    /// A file that the helper removes.
    Arrow(String),
    /// A file that is there until the helper closes the connection.
    Lent(String),
}

impl From<Result<Answer, Failure>> for Last {
    fn from(outcome: Result<Answer, Failure>) -> Self {
        let Answer {
            given,
            shown,
            named,
        } = match outcome {
            Ok(answer) => answer,
            Err(failure) => {
                return Self::Error {
                    ename: failure.ename,
                    evalue: failure.message,
                    log: failure.log,
                    traceback: failure.traceback,
                };
            }
        };
        let result = match given {
            Given::Nothing => Ok(None),
            Given::Text(text) => Ok(Some(Taken::Text(text))),
            Given::Json(value) => Ok(Some(Taken::Json(value))),
            Given::Path(path) => utf8(&path).map(|path| Some(Taken::Path(path))),
            Given::Arrow(frame) => utf8(frame.path()).map(|path| match frame.held() {
                Some(_) => Some(Taken::Lent(path)),
                None => Some(Taken::Arrow(path)),
            }),
        };
        match result {
            Ok(result) => Self::Ok {
                result,
                display: shown,
                named,
            },
            Err(failure) => Err(failure).into(),
        }
    }
}

fn utf8(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(
            "UnicodeError",
            format!("The path {} is not UTF-8.", PathBuf::from(path).display()),
        )
    })
}

/// The body of `POST /v1/cells/{id}/answer`: what came of an `ask` or a `run`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What was typed, or printed.
    Value(String),
    Failure {
        ename: String,
        evalue: String,
        #[serde(default)]
        log: String,
    },
}

impl From<Reply> for Result<String, Failure> {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Value(value) => Ok(value),
            Reply::Failure { ename, evalue, log } => Err(Failure {
                log,
                ..Failure::new(ename, evalue)
            }),
        }
    }
}

impl fmt::Debug for Reply {
    /// Without the value: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value"),
            Self::Failure { ename, .. } => write!(f, "Failure({ename})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::Frame;
    use serde_json::json;
    fn written(line: &Line) -> Value {
        let bytes = line.encode();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        let back: Line = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(&back, line);
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn lines_have_their_shapes() {
        assert_eq!(
            written(&Line::Output(Output::stdout("a\nb"))),
            json!({"stream": {"name": "stdout", "text": "a\nb"}})
        );
        assert_eq!(
            written(&Line::Output(Output::Clear { wait: true })),
            json!({"clear": {"wait": true}})
        );
        let data = Bundle::from_iter([("text/plain".to_owned(), json!("x"))]);
        assert_eq!(
            written(&Line::Output(Output::display(data.clone()))),
            json!({"display": {
                "data": {"text/plain": "x"}, "metadata": {}, "transient": {}, "update": false,
            }})
        );
        let ask = Line::Ask {
            id: "1".to_owned(),
            prompt: "name?".to_owned(),
            password: false,
        };
        assert_eq!(
            written(&ask),
            json!({"ask": {"id": "1", "prompt": "name?", "password": false}})
        );
        let run = Line::Run {
            id: "2".to_owned(),
            code: "1".to_owned(),
        };
        assert_eq!(written(&run), json!({"run": {"id": "2", "code": "1"}}));
        let answer = Answer {
            given: Given::Json(json!({"a": 1})),
            shown: Some(data),
            ..Answer::nothing()
        };
        assert_eq!(
            written(&Line::Last(Ok(answer).into())),
            json!({
                "status": "ok",
                "result": {"json": {"a": 1}},
                "display": {"text/plain": "x"},
            })
        );
        assert_eq!(
            written(&Line::Last(Ok(Answer::nothing()).into())),
            json!({"status": "ok", "result": null, "display": null})
        );
        assert_eq!(
            written(&Line::Last(Err(Failure::usage("No.")).into())),
            json!({"status": "error", "ename": "UsageError", "evalue": "No.", "log": ""})
        );
    }

    #[test]
    fn a_path_that_json_cannot_hold_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]));
        let answer = Answer {
            given: Given::Arrow(Frame::file(path)),
            shown: None,
            ..Answer::nothing()
        };
        assert!(matches!(Last::from(Ok(answer)), Last::Error { .. }));
    }

    #[test]
    fn a_parent_is_kept_as_it_came() {
        let body =
            r#"{"magic":"nb","line":"","cell":null,"more":1,"parent":{"z":1.50, "a":"\u00e9"}}"#;
        let request: CellRequest = serde_json::from_str(body).unwrap();
        let (call, parent) = request.into_parts();
        assert_eq!(call.cell, None);
        assert_eq!(parent.unwrap().get(), r#"{"z":1.50, "a":"\u00e9"}"#);
    }

    #[test]
    fn replies_are_values_or_failures_and_never_logged() {
        let reply: Reply = serde_json::from_str(r#"{"value":"hunter2"}"#).unwrap();
        assert!(!format!("{reply:?}").contains("hunter2"));
        assert_eq!(Result::from(reply), Ok("hunter2".to_owned()));
        let reply: Reply =
            serde_json::from_str(r#"{"failure":{"ename":"E","evalue":"No."}}"#).unwrap();
        assert_eq!(
            Result::<String, _>::from(reply),
            Err(Failure::new("E", "No."))
        );
    }
}
