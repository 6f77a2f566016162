#![no_main]
//! What is read from files and from other processes of the user as JSON: the first byte says as what.

use libfuzzer_sys::fuzz_target;
use nb::create::Record;
use nb::jobs::document::Document;
use nb::jobs::parameters::{Language, Parameters, Value};
use nb::kernels::contract::{Attach, Kernel, Start};
use nb::kernels::supervisor::ledger::Left;
use nb::magics::wire::{CellRequest, Last, Line};
use nb::protocol::connection_file::ConnectionFile;
use nb::protocol::json::Json;
use nb::protocol::kernelspec::KernelSpec;
use nb::protocol::message::{Channel, HeaderPeek, Message};
use nb::protocol::notebook::{Notebook, set_mark};
use nb::protocol::outputs::CellOutputs;
use serde_json::from_slice;

/// By how much indenting may make a text longer.
const GROWTH_MAX: usize = 32;

fuzz_target!(|data: &[u8]| {
    let [kind, data @ ..] = data else { return };
    match kind {
        b'c' => {
            if let Ok(file) = ConnectionFile::decode(data) {
                let again = ConnectionFile::decode(file.encode().as_bytes()).expect("our own");
                assert_eq!(again.encode(), file.encode());
            }
        }
        b'k' => drop(KernelSpec::decode(data)),
        b'h' => drop(HeaderPeek::read(data)),
        b'a' => drop(from_slice::<Attach>(data)),
        b's' => drop(from_slice::<Start>(data)),
        b'm' => drop(from_slice::<Kernel>(data)),
        b'r' => drop(from_slice::<CellRequest>(data)),
        b'e' => drop(from_slice::<Last>(data)),
        b'q' => {
            let left = Left::of(data);
            let lines = left.clone().notes().flat_map(|note| {
                let mut line = serde_json::to_vec(&note).expect("our own");
                line.push(b'\n');
                line
            });
            assert_eq!(Left::of(&lines.collect::<Vec<_>>()), left);
        }
        b'n' => {
            let text = String::from_utf8_lossy(data);
            if let Ok(mut notebook) = Notebook::parse(&text) {
                assert_eq!(notebook.text(), text);
                for (at, _) in notebook.marked() {
                    let mut cell = notebook.cell(at).expect("it was marked");
                    set_mark(&mut cell, None);
                    notebook.put(at, cell);
                }
                let changed = notebook.text();
                assert!(changed.len() <= GROWTH_MAX * text.len(), "it grew");
                let again = Notebook::parse(&changed).expect("our own");
                assert!(again.marked().is_empty());
            }
        }
        // A notebook that is run.
        b'd' => {
            let text = String::from_utf8_lossy(data);
            if let Ok(mut document) = Document::parse(&text) {
                document.clean();
                document.inject("x = 1\n", "id");
                document.describe("in", "out", "{\"x\": 1}");
                let steps = document.steps();
                for step in &steps {
                    let time = "2026-11-28T00:00:00Z".parse().expect("a time");
                    document.begins(step.at, time);
                    document.shows(step.at, &CellOutputs::default());
                }
                let written = document.text();
                let again = Document::parse(&written).expect("our own");
                assert_eq!(again.steps(), steps);
            }
        }
        b'y' => {
            let mut parameters = Parameters::default();
            if parameters.set_yaml(&String::from_utf8_lossy(data)).is_ok() {
                assert!(Json::parse(&parameters.json()).is_some());
                for language in ["python", "r", "scala", "julia", "bash"] {
                    parameters.code(Language::named(language).expect("it is known"));
                }
            }
        }
        // A notebook server.
        b'S' => {
            if let Ok(record) = from_slice::<Record>(data) {
                let again = serde_json::to_vec(&record).expect("our own");
                assert_eq!(from_slice::<Record>(&again).expect("our own"), record);
            }
        }
        // A parameter's name and word on a command line: text stays text, whatever is in it.
        b'p' => {
            let text = String::from_utf8_lossy(data);
            let (name, word) = text.split_once('\0').unwrap_or((&text, ""));
            for value in [Value::of_word(word), Value::Text(word.to_owned())] {
                let mut parameters = Parameters::default();
                if parameters.set(name, value).is_ok() {
                    let code = parameters.code(Language::Python);
                    assert_eq!(code.lines().count(), 2, "{code}");
                    for language in [Language::R, Language::Scala, Language::Julia] {
                        assert_eq!(parameters.code(language).lines().count(), 2);
                    }
                    assert!(Json::parse(&parameters.json()).is_some());
                }
            }
        }
        // One line for each message: its type, and its content.
        b'o' => {
            let mut outputs = CellOutputs::default();
            for line in data.split(|byte| *byte == b'\n') {
                let at = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
                let (kind, content) = line.split_at(at);
                let header = serde_json::json!({"msg_type": String::from_utf8_lossy(kind)});
                let message = Message {
                    header: header.to_string().into(),
                    content: content.to_vec().into(),
                    ..Message::empty()
                };
                let channel = match kind {
                    b"execute_reply" => Channel::Shell,
                    _ => Channel::Iopub,
                };
                outputs.take(channel, &message);
            }
            let (mut text, mut flat) = (String::new(), String::new());
            outputs.outputs().write(&mut text, 1, 0);
            outputs.outputs().write(&mut flat, 0, 0);
            assert!(Json::parse(&text).is_some());
            assert!(
                text.len() <= GROWTH_MAX * (flat.len() + data.len()),
                "it grew"
            );
        }
        b'l' => {
            if let Ok(line) = from_slice::<Line>(data) {
                assert_eq!(
                    line.encode().iter().filter(|byte| **byte == b'\n').count(),
                    1
                );
            }
        }
        _ => {}
    }
});
