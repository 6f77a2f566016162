//! The contents of requests and replies, as the messaging protocol has them. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

use super::said::{Fault, Hint};

/// The content of an `execute_request`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Execute {
    pub code: String,
    pub silent: bool,
    pub store_history: bool,
    pub allow_stdin: bool,
    pub stop_on_error: bool,
}

impl Default for Execute {
    fn default() -> Self {
        Self {
            code: String::new(),
            silent: false,
            store_history: true,
            allow_stdin: true,
            stop_on_error: true,
        }
    }
}

impl Execute {
    /// Whether it has a place in the history, and a count of its own.
    pub fn is_counted(&self) -> bool {
        self.store_history && !self.silent
    }
}

/// The content of what asks about code.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct About {
    pub code: String,
    /// In code points; at the end where nothing is said.
    pub cursor_pos: Option<usize>,
}

impl About {
    pub fn cursor(&self) -> usize {
        self.cursor_pos.unwrap_or_else(|| self.code.chars().count())
    }
}

pub fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": "nb-scala",
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "scala",
            "version": "2.13.16",
            "mimetype": "text/x-scala",
            "file_extension": ".sc",
            "pygments_lexer": "scala",
            "codemirror_mode": "text/x-scala",
            "nbconvert_exporter": "script",
        },
        "banner": "Scala 2.13.16 with Ammonite 3.0.2, by nb",
        "help_links": [
            {"text": "Scala", "url": "https://docs.scala-lang.org"},
            {"text": "Ammonite", "url": "https://ammonite.io"},
        ],
        "debugger": false,
        "supported_features": [],
    })
}

pub fn executed(count: i64, failed: Option<&Fault>) -> Value {
    let mut content = json!({"execution_count": count, "user_expressions": {}, "payload": []});
    match failed {
        None => content["status"] = json!("ok"),
        Some(fault) => {
            content["status"] = json!("error");
            content["ename"] = json!(fault.ename);
            content["evalue"] = json!(fault.evalue);
            content["traceback"] = json!(fault.traceback);
        }
    }
    content
}

pub fn error(fault: &Fault) -> Value {
    json!({"ename": fault.ename, "evalue": fault.evalue, "traceback": fault.traceback})
}

/// The reply to a `complete_request`, from nothing where nothing is known.
pub fn completed(cursor: usize, hint: &Hint) -> Value {
    json!({
        "status": "ok",
        "matches": hint.matches,
        "cursor_start": hint.from.unwrap_or(cursor).min(cursor),
        "cursor_end": cursor,
        "metadata": {},
    })
}

pub fn inspected(hint: &Hint) -> Value {
    let data = match &hint.text {
        Some(text) => json!({"text/plain": text}),
        None => json!({}),
    };
    json!({"status": "ok", "found": hint.text.is_some(), "data": data, "metadata": {}})
}

pub fn is_complete(hint: &Hint) -> Value {
    let status = hint.status.as_deref().unwrap_or("unknown");
    match status {
        "incomplete" => json!({"status": status, "indent": "  "}),
        _ => json!({"status": status}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_the_protocol_says() {
        let read = |json: &str| serde_json::from_str::<Execute>(json).unwrap();
        let usual = read(r#"{"code":"1"}"#);
        assert!(usual.is_counted() && usual.stop_on_error && usual.allow_stdin);
        assert!(!read(r#"{"code":"1","silent":true}"#).is_counted());
        let about: About = serde_json::from_str(r#"{"code":"é𝄞"}"#).unwrap();
        assert_eq!(about.cursor(), 2);
    }

    #[test]
    fn nothing_known_is_an_answer_too() {
        let nothing = Hint::default();
        assert_eq!(completed(3, &nothing)["cursor_start"], 3);
        assert_eq!(inspected(&nothing)["found"], false);
        assert_eq!(is_complete(&nothing)["status"], "unknown");
    }
}
