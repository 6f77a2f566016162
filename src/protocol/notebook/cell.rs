//! A cell of a notebook: what kind it is, its source and tags, and how one is made anew.

use serde::Deserialize;
use serde_json::Value;

use super::change;
use crate::protocol::json::{Json, Object};

/// A text as notebooks keep it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Lines(Vec<String>),
}

/// A new cell of this kind (`code`, `markdown`), with its id where the format knows of ids (4.5 and later).
pub fn new(kind: &str, id: Option<&str>, source: &str, tag: &str) -> Object {
    let mut cell = Object::default();
    cell.set("cell_type", kind);
    if kind == "code" {
        cell.set("execution_count", Json::Null);
    }
    if let Some(id) = id {
        cell.set("id", id);
    }
    let mut metadata = Object::default();
    metadata.set("tags", Json::List(vec![tag.into()]));
    cell.set("metadata", metadata);
    if kind == "code" {
        cell.set("outputs", Json::List(Vec::new()));
    }
    cell.set("source", Json::lines(source));
    cell.read_again()
}

/// Whether its source is code.
pub fn is_code(cell: &Object) -> bool {
    let kind = cell.get("cell_type").and_then(Json::read::<String>);
    kind.as_deref() == Some("code")
}

/// Its source; empty when there is none that is text.
pub fn source(cell: &Object) -> String {
    match cell.get("source").and_then(Json::read::<Text>) {
        Some(Text::Whole(text)) => text,
        Some(Text::Lines(lines)) => lines.concat(),
        None => String::new(),
    }
}

/// Whether it has this tag.
pub fn has_tag(cell: &Object, tag: &str) -> bool {
    let metadata = cell.get("metadata").and_then(Object::of);
    let tags = metadata.and_then(|metadata| metadata.get("tags")?.read::<Vec<Value>>());
    let mut tags = tags.unwrap_or_default().into_iter();
    tags.any(|one| one.as_str() == Some(tag))
}

/// Takes away what it said, its count and its times.
pub fn clear(cell: &mut Object) {
    cell.set("execution_count", Json::Null);
    cell.set("outputs", Json::List(Vec::new()));
    change_metadata(cell, |metadata| metadata.remove("execution"));
}

/// Changes its metadata; there are some afterwards.
pub fn change_metadata(cell: &mut Object, with: impl FnOnce(&mut Object)) {
    change(cell, "metadata", with);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> Object {
        Object::of(&Json::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn a_new_cell_is_read_as_one_of_a_file() {
        let code = new("code", Some("i"), "a\nb", "t");
        assert!(is_code(&code) && has_tag(&code, "t") && !has_tag(&code, "u"));
        assert_eq!(source(&code), "a\nb");
        let note = new("markdown", None, "", "t");
        assert!(!is_code(&note) && note.get("outputs").is_none() && note.get("id").is_none());
    }

    #[test]
    fn a_source_is_a_text_or_its_lines() {
        assert_eq!(source(&cell(r#"{"source": "x"}"#)), "x");
        assert_eq!(source(&cell(r#"{"source": ["x\n", "y"]}"#)), "x\ny");
        for odd in ["{}", r#"{"source": 1}"#, r#"{"source": [1]}"#] {
            assert_eq!(source(&cell(odd)), "");
        }
        for odd in [
            "{}",
            r#"{"metadata": 1}"#,
            r#"{"metadata": {"tags": "t"}}"#,
            r#"{"metadata": {"tags": [1]}}"#,
        ] {
            assert!(!has_tag(&cell(odd), "t"));
        }
    }

    #[test]
    fn what_a_cell_said_is_taken_away_and_nothing_else() {
        let said = r#"{"execution_count": 3, "metadata": {"execution": {"a": "b"}, "x": 1}, "outputs": [1], "source": "s"}"#;
        let mut cell = cell(said);
        clear(&mut cell);
        let mut out = String::new();
        Json::Object(cell).write(&mut out, 0, 0);
        let expected =
            r#"{"execution_count": null,"metadata": {"x": 1},"outputs": [],"source": "s"}"#;
        assert_eq!(out.replace('\n', ""), expected);
    }
}
