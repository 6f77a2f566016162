//! Messages in, outputs out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn message(kind: &str, content: &Value) -> Message {
    let header =
        json!({"msg_id": format!("{kind} id"), "msg_type": kind, "date": format!("{kind} date")});
    Message {
        header: header.to_string().into(),
        content: content.to_string().into(),
        ..Message::empty()
    }
}

fn taken(cell: &mut CellOutputs, said: &[(&str, Value)]) {
    for (kind, content) in said {
        let channel = match *kind {
            "execute_reply" => Channel::Shell,
            _ => Channel::Iopub,
        };
        cell.take(channel, &message(kind, content));
    }
}

fn shown(cell: &CellOutputs) -> Value {
    let mut text = String::new();
    cell.outputs().write(&mut text, 1, 0);
    serde_json::from_str(&text).unwrap()
}

fn outputs(said: &[(&str, Value)]) -> Value {
    let mut cell = CellOutputs::default();
    taken(&mut cell, said);
    shown(&cell)
}

fn out(text: &str) -> (&'static str, Value) {
    ("stream", json!({"name": "stdout", "text": text}))
}

fn text(output: &Value) -> String {
    let lines = output["text"].as_array().unwrap().iter();
    lines.map(|line| line.as_str().unwrap()).collect()
}

#[test]
fn a_cell_leaves_its_outputs_its_count_and_its_times() {
    let mut cell = CellOutputs::default();
    let data = json!({"text/plain": "<b>\n", "image/png": "AAAA\n", "application/json": {"z": 1, "a": 2.50}});
    taken(
        &mut cell,
        &[
            ("status", json!({"execution_state": "busy"})),
            ("execute_input", json!({"code": "", "execution_count": 3})),
            out("a\nb"),
            out("c\n"),
            ("stream", json!({"name": "stderr", "text": "e"})),
            (
                "display_data",
                json!({"data": data, "metadata": {"image/png": {"width": 1}}, "transient": {}}),
            ),
            ("comm_open", json!({"comm_id": "c", "data": {}})),
            (
                "execute_result",
                json!({"data": {"text/plain": "7"}, "metadata": {}, "execution_count": 3}),
            ),
            (
                "error",
                json!({"ename": "E", "evalue": "v", "traceback": ["t"], "more": 1}),
            ),
        ],
    );
    assert!(!cell.is_over());
    let mut reply = message(
        "execute_reply",
        &json!({"status": "error", "execution_count": 3}),
    );
    reply.metadata = json!({"started": "then"}).to_string().into();
    cell.take(Channel::Shell, &reply);
    taken(&mut cell, &[("status", json!({"execution_state": "idle"}))]);
    assert!(cell.is_over());
    assert_eq!((cell.count(), cell.last()), (Some(3), Some("status id")));
    let times: Vec<_> = cell.times().collect();
    assert_eq!(
        times,
        [
            ("iopub.execute_input", "execute_input date"),
            ("iopub.status.busy", "status date"),
            ("iopub.status.idle", "status date"),
            ("shell.execute_reply", "execute_reply date"),
            ("shell.execute_reply.started", "then"),
        ]
    );
    assert_eq!(
        shown(&cell),
        json!([
            {"name": "stdout", "output_type": "stream", "text": ["a\n", "bc\n"]},
            {"name": "stderr", "output_type": "stream", "text": ["e"]},
            {"output_type": "display_data", "metadata": {"image/png": {"width": 1}}, "data": {
                "application/json": {"z": 1, "a": 2.50}, "image/png": "AAAA\n", "text/plain": ["<b>\n"],
            }},
            {"output_type": "execute_result", "execution_count": 3, "metadata": {}, "data": {"text/plain": ["7"]}},
            {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
        ])
    );
}

#[test]
fn a_display_is_replaced_by_its_id_and_the_id_is_kept_nowhere() {
    let display = |kind, text: &str, id: &str| {
        (
            kind,
            json!({"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": id}}),
        )
    };
    let said = [
        display("display_data", "1", "a"),
        display("display_data", "2", "b"),
        display("update_display_data", "3", "a"),
        display("update_display_data", "4", "nowhere"),
        ("update_display_data", json!({"data": {"text/plain": "5"}})),
    ];
    let shown = outputs(&said);
    let texts = [&shown[0], &shown[1]].map(|output| &output["data"]["text/plain"][0]);
    assert_eq!(texts, [&json!("3"), &json!("2")]);
    assert_eq!(shown.as_array().unwrap().len(), 2);
    assert!(!shown.to_string().contains("display_id"));
}

#[test]
fn what_is_cleared_is_gone_at_once_or_with_the_next_output() {
    let clear = |wait: bool| ("clear_output", json!({"wait": wait}));
    let texts = |said: &[(&str, Value)]| -> Vec<String> {
        outputs(said).as_array().unwrap().iter().map(text).collect()
    };
    assert!(texts(&[out("a"), clear(false)]).is_empty());
    assert_eq!(texts(&[out("a"), clear(true)]), ["a"]);
    assert_eq!(texts(&[out("a"), clear(true), out("b"), out("c")]), ["bc"]);
    assert_eq!(texts(&[clear(true), out("a")]), ["a"]);
}

#[test]
fn a_pager_is_shown_and_only_with_a_good_reply() {
    let reply = |status: &str| {
        let payload = json!([{"source": "set_next_input"}, {"source": "page", "data": {"text/plain": "doc"}}]);
        (
            "execute_reply",
            json!({"status": status, "payload": payload, "execution_count": null}),
        )
    };
    assert_eq!(outputs(&[reply("ok")])[0]["data"]["text/plain"][0], "doc");
    assert_eq!(outputs(&[reply("aborted")]), json!([]));
}

#[test]
fn saved_outputs_are_gone_on_from() {
    let saved = json!([
        {"output_type": "display_data", "data": {"image/png": "A"}, "metadata": {}, "odd": 1.50},
        {"output_type": "stream", "name": "stdout", "text": ["1\n", "2"]},
    ]);
    let saved: Vec<Json> = serde_json::from_value::<Vec<Box<serde_json::value::RawValue>>>(saved)
        .unwrap()
        .into_iter()
        .map(Json::Raw)
        .collect();
    let mut cell = CellOutputs::after(&saved);
    taken(&mut cell, &[out("3\n")]);
    cell.stream("stderr".to_owned(), "note");
    let shown = shown(&cell);
    assert_eq!(shown[0]["odd"], 1.50);
    assert_eq!(
        (text(&shown[1]), text(&shown[2])),
        ("1\n23\n".to_owned(), "note".to_owned())
    );
}

/// JupyterLab's `processText`, line for line, over characters.
fn jupyterlab(texts: &[String]) -> String {
    let (mut text, mut at) = (Vec::<char>::new(), 0);
    for c in texts.iter().flat_map(|text| text.chars()) {
        match c {
            '\u{8}' if at > 0 && text[at - 1] != '\n' => {
                let mut rest = text.split_off((at + 1).min(text.len()));
                text.truncate(at - 1);
                text.append(&mut rest);
                at -= 1;
            }
            '\u{8}' => {}
            '\r' => {
                while at > 0 && text[at - 1] != '\n' {
                    at -= 1;
                }
            }
            '\n' => {
                text.push('\n');
                at = text.len();
            }
            c => {
                if at == text.len() {
                    text.push(c);
                } else {
                    text[at] = c;
                }
                at += 1;
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn a_progress_bar_leaves_its_last_state() {
    let shown = outputs(&[out("\r 10%"), out("\r 50%"), out("\r100%\nab\u{8}c")]);
    assert_eq!(text(&shown[0]), "100%\nac");
}

proptest! {
    #[test]
    fn a_stream_reads_as_in_jupyterlab_however_it_is_cut(
        texts in prop::collection::vec("[ab\u{e9}\n\r\u{8}]{0,6}", 1..8),
    ) {
        let said: Vec<_> = texts.iter().map(|text| out(text)).collect();
        prop_assert_eq!(text(&outputs(&said)[0]), jupyterlab(&texts));
        let whole = [out(&texts.concat())];
        prop_assert_eq!(text(&outputs(&whole)[0]), jupyterlab(&texts));
    }

    #[test]
    fn any_content_is_answered_without_a_panic(
        kind in prop_oneof![
            Just("stream"), Just("display_data"), Just("update_display_data"), Just("error"),
            Just("clear_output"), Just("status"), Just("execute_input"), Just("execute_reply"),
        ],
        content in prop_oneof![
            Just(json!([])), Just(json!(1)), Just(json!({"data": []})), Just(json!({"name": 1, "text": "x"})),
            Just(json!({"transient": {"display_id": 1}, "data": {"text/plain": ["x"]}})),
            Just(json!({"execution_count": -1, "payload": {}})), Just(json!({"traceback": "x"})),
        ],
    ) {
        let mut cell = CellOutputs::default();
        taken(&mut cell, &[(kind, content)]);
        shown(&cell);
    }
}
