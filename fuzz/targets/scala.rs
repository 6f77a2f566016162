#![no_main]
//! The Scala kernel between its clients and its JVM: what that says, and what those ask. The first byte says which.

use libfuzzer_sys::fuzz_target;
use nb::workers::scala::content::{self, About, Execute};
use nb::workers::scala::history::History;
use nb::workers::scala::said::{Done, Said, Told, encode};
use serde_json::{Value, from_slice};

/// The cursor of whoever asked.
const CURSOR: usize = 3;

fuzz_target!(|data: &[u8]| {
    let [kind, data @ ..] = data else { return };
    match kind {
        b's' => match from_slice::<Said>(data) {
            Ok(Said::Hint(hint)) => {
                let completed = content::completed(CURSOR, &hint);
                let at = |key: &str| completed[key].as_u64().expect("a place");
                assert!(at("cursor_start") <= at("cursor_end"));
                assert_eq!(
                    content::inspected(&hint)["found"],
                    hint.text.is_some(),
                    "{hint:?}"
                );
                assert!(content::is_complete(&hint)["status"].is_string());
            }
            Ok(Said::Done(Done::Error(fault))) => {
                let (reply, error) = (content::executed(1, Some(&fault)), content::error(&fault));
                assert_eq!(reply["status"], "error");
                assert!(
                    ["ename", "evalue", "traceback"]
                        .iter()
                        .all(|key| reply[key] == error[key])
                );
            }
            _ => {}
        },
        b'x' => {
            if let Ok(asked) = from_slice::<Execute>(data) {
                let told = Told::Execute {
                    code: &asked.code,
                    count: 1,
                    silent: asked.silent,
                };
                let frame = encode(&told);
                let (length, json) = frame.split_at(4);
                let length = u32::from_be_bytes(length.try_into().expect("four"));
                assert_eq!(length as usize, json.len());
                let again: Value = from_slice(json).expect("our own");
                assert_eq!(again["code"], asked.code);
            }
        }
        b'a' => {
            if let Ok(about) = from_slice::<About>(data) {
                let _any = about.cursor();
            }
        }
        // Cells of a letter each, then what is asked of them.
        b'h' => {
            let mut parts = data.splitn(2, |byte| *byte == b'\n');
            let (cells, asked) = (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
            let mut history = History::default();
            for (count, cell) in (1..).zip(cells) {
                history.push(count, &char::from(*cell).to_string());
                if cell.is_ascii_digit() {
                    history.result(count, "1");
                }
            }
            let answer = history.answer(asked);
            assert!(answer["history"].as_array().expect("a list").len() <= cells.len());
        }
        _ => {}
    }
});
