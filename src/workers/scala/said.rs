//! What the two sides of the line to the JVM say: frames of four bytes of length and JSON. Pure.

use serde::{Deserialize, Serialize};

/// A longer frame is none of ours.
pub const FRAME_BYTES_MAX: usize = 512 * 1024 * 1024;

/// What the JVM is told.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Told<'a> {
    Execute {
        code: &'a str,
        count: i64,
        silent: bool,
    },
    Interrupt,
    /// The answer to a question, or why there is none.
    Input {
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<&'a str>,
    },
    Complete {
        id: u64,
        code: &'a str,
        /// In code points, as Jupyter has it.
        cursor: usize,
    },
    Inspect {
        id: u64,
        code: &'a str,
        cursor: usize,
    },
    #[serde(rename = "complete?")]
    IsComplete {
        id: u64,
        code: &'a str,
    },
}

/// What the JVM says.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Said {
    /// It takes cells from now on.
    Ready,
    Stream {
        name: String,
        text: String,
    },
    Display {
        data: serde_json::Value,
    },
    /// The cell asks for a line.
    Input,
    Done(Done),
    Hint(Hint),
}

/// How a cell ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Done {
    Ok {
        /// What is shown as its result.
        text: Option<String>,
    },
    Error(Fault),
}

/// Why a cell failed, as Jupyter has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fault {
    pub ename: String,
    pub evalue: String,
    pub traceback: Vec<String>,
}

impl Fault {
    /// One of a single sentence.
    pub fn new(ename: &str, evalue: impl Into<String>) -> Self {
        let evalue = evalue.into();
        Self {
            ename: ename.to_owned(),
            traceback: vec![format!("{ename}: {evalue}")],
            evalue,
        }
    }
}

/// The answer to what was asked by this id; nothing where it knows nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hint {
    pub id: u64,
    pub matches: Vec<String>,
    /// From here on, in code points, a match replaces what is there.
    pub from: Option<usize>,
    pub text: Option<String>,
    pub status: Option<String>,
}

/// A frame as it is sent.
pub fn encode(told: &Told<'_>) -> Vec<u8> {
    let json = serde_json::to_vec(told).unwrap_or_default();
    let length = u32::try_from(json.len()).unwrap_or_default();
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(json);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_length_in_front() {
        let frame = encode(&Told::Interrupt);
        assert_eq!(frame[..4], [0, 0, 0, 18]);
        assert_eq!(frame[4..], *br#"{"op":"interrupt"}"#);
    }

    #[test]
    fn what_the_jvm_says_is_read() {
        let read = |json: &str| serde_json::from_str::<Said>(json).unwrap();
        assert!(matches!(read(r#"{"op":"ready"}"#), Said::Ready));
        assert!(matches!(
            read(r#"{"op":"done","status":"ok","text":"1"}"#),
            Said::Done(Done::Ok { text: Some(_) })
        ));
        let failed =
            read(r#"{"status":"error","ename":"E","evalue":"v","traceback":["t"],"op":"done"}"#);
        assert!(matches!(failed, Said::Done(Done::Error(fault)) if fault.ename == "E"));
        let hint = read(r#"{"matches":["size"],"from":4,"op":"hint","id":3}"#);
        assert!(matches!(hint, Said::Hint(hint) if hint.id == 3 && hint.from == Some(4)));
    }
}
