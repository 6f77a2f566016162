//! The cells of this session, as `history_request` asks for them. Pure. The oldest go first when they are too many.

use std::collections::{HashSet, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

/// The text of all that are kept.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub struct History {
    cells: VecDeque<Past>,
    bytes: usize,
}

#[derive(Debug)]
struct Past {
    count: i64,
    code: String,
    /// What was shown as its result.
    result: Option<String>,
}

impl Past {
    fn bytes(&self) -> usize {
        self.code.len() + self.result.as_ref().map_or(0, String::len)
    }
}

/// The content of a `history_request`, as far as it is understood: `search` finds all that contain its pattern, without its stars.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    hist_access_type: String,
    n: Option<usize>,
    start: Option<i64>,
    stop: Option<i64>,
    pattern: String,
    output: bool,
    unique: bool,
}

impl History {
    /// A cell begins.
    pub fn push(&mut self, count: i64, code: &str) {
        let past = Past {
            count,
            code: code.to_owned(),
            result: None,
        };
        self.bytes += past.bytes();
        self.cells.push_back(past);
        self.forget();
    }

    /// The result of the cell of this count.
    pub fn result(&mut self, count: i64, result: &str) {
        if let Some(past) = self.cells.iter_mut().rfind(|past| past.count == count) {
            past.result = Some(result.to_owned());
            self.bytes += result.len();
            self.forget();
        }
    }

    fn forget(&mut self) {
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.cells.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// The content of the reply.
    pub fn answer(&self, content: &[u8]) -> Value {
        let asked: Asked = serde_json::from_slice(content).unwrap_or_default();
        let pattern = asked.pattern.trim_matches('*');
        let (start, stop) = (asked.start.unwrap_or(0), asked.stop.unwrap_or(i64::MAX));
        let is_asked_for = |past: &&Past| match &*asked.hist_access_type {
            "range" => (start..stop).contains(&past.count),
            "search" => past.code.contains(pattern),
            _ => true,
        };
        let mut seen = HashSet::new();
        let mut found: Vec<&Past> = self.cells.iter().rev().filter(is_asked_for).collect();
        found.retain(|past| !asked.unique || seen.insert(&past.code));
        found.truncate(asked.n.unwrap_or(usize::MAX));
        let shown = |past: &&Past| match asked.output {
            true => json!([0, past.count, [past.code, past.result]]),
            false => json!([0, past.count, past.code]),
        };
        let history: Vec<Value> = found.iter().rev().map(shown).collect();
        json!({"status": "ok", "history": history})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_their_place_and_their_text() {
        let mut history = History::default();
        for (count, code) in [(1, "val a = 1"), (2, "a + 1"), (3, "val b = 2")] {
            history.push(count, code);
        }
        history.result(2, "res2: Int = 2");
        history.push(4, "a + 1");
        for (asked, found) in [
            (
                json!({"hist_access_type": "tail", "n": 2}),
                json!([[0, 3, "val b = 2"], [0, 4, "a + 1"]]),
            ),
            (
                json!({"hist_access_type": "range", "start": 2, "stop": 3, "output": true}),
                json!([[0, 2, ["a + 1", "res2: Int = 2"]]]),
            ),
            (
                json!({"hist_access_type": "search", "pattern": "a +*", "unique": true}),
                json!([[0, 4, "a + 1"]]),
            ),
        ] {
            let answer = history.answer(asked.to_string().as_bytes());
            assert_eq!(answer["history"], found, "{asked}");
        }
        assert_eq!(history.answer(b"[")["history"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut history = History::default();
        let long = "x".repeat(BYTES_MAX / 2);
        for count in 1..=3 {
            history.push(count, &long);
        }
        let kept: Vec<_> = history.cells.iter().map(|past| past.count).collect();
        assert_eq!(kept, [2, 3]);
    }
}
