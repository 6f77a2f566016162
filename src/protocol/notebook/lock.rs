//! What a notebook's file says of the packages it needs: the code of its cells, and the lock in `metadata.nb.lock`.
//!
//! One value is put into the text; every other byte stays. Knows nothing of what a lock means.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{NotebookError, unit};

/// Where the lock is in a file.
const PLACE: [&str; 3] = ["metadata", "nb", "lock"];

/// The code of a notebook's cells, in their order.
pub fn code(text: &str) -> Result<Vec<String>, NotebookError> {
    let file = Fields::of_notebook(text)?;
    let cells: Vec<&RawValue> = file
        .get("cells")
        .map(|cells| serde_json::from_str(cells.get()))
        .transpose()
        .map_err(|error| NotebookError::NotUnderstood(error.to_string()))?
        .unwrap_or_default();
    let code = cells.into_iter().filter_map(|cell| {
        let cell: Fields<'_> = serde_json::from_str(cell.get()).ok()?;
        let kind: String = serde_json::from_str(cell.get("cell_type")?.get()).ok()?;
        (kind == "code")
            .then(|| joined(cell.get("source")?))
            .flatten()
    });
    Ok(code.collect())
}

/// The notebook's lock; nothing when it has none.
pub fn lock(text: &str) -> Result<Option<String>, NotebookError> {
    let mut fields = Fields::of_notebook(text)?;
    let [outer @ .., last] = PLACE;
    for name in outer {
        let inner = fields.get(name);
        let inner = inner.and_then(|inner| serde_json::from_str(inner.get()).ok());
        let Some(inner) = inner else { return Ok(None) };
        fields = inner;
    }
    Ok(fields.get(last).and_then(joined))
}

/// The file with this lock.
pub fn with_lock(text: &str, lock: &str) -> Result<String, NotebookError> {
    Fields::of_notebook(text)?;
    // A text can always be written.
    let value = serde_json::to_string(lock).unwrap_or_default();
    let object = text.trim_ascii();
    let begin = offset(text, object);
    let mut edit = Edit {
        unit: unit(text),
        value: &value,
    };
    let (at, length, new) = edit.set(object, &PLACE, 0);
    let at = begin + at;
    Ok(format!("{}{new}{}", &text[..at], &text[at + length..]))
}

/// A text, or the list of its lines.
fn joined(value: &RawValue) -> Option<String> {
    match serde_json::from_str(value.get()).ok()? {
        Value::String(text) => Some(text),
        Value::Array(lines) => lines
            .into_iter()
            .map(|line| line.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// The keys and values of an object, which are parts of its text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn of_notebook(text: &'a str) -> Result<Self, NotebookError> {
        let fields: Self = serde_json::from_str(text)
            .map_err(|error| NotebookError::NotUnderstood(error.to_string()))?;
        let format = fields.get("nbformat");
        let format = format.and_then(|format| serde_json::from_str(format.get()).ok());
        match format {
            Some(4) => Ok(fields),
            Some(other) => Err(NotebookError::Format(other)),
            None => Err(NotebookError::NotUnderstood(
                "it has no `nbformat`".to_owned(),
            )),
        }
    }

    /// As for Python, the last one of a name counts.
    fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rfind(|(name, _)| name == key);
        found.map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// A value, and how the file around it is indented.
struct Edit<'a> {
    unit: usize,
    value: &'a str,
}

impl Edit<'_> {
    /// What of an object's text becomes what, for the value to be at this place: where, how much of it, the new text.
    fn set(&mut self, object: &str, place: &[&str], depth: usize) -> (usize, usize, String) {
        let [name, inner @ ..] = place else {
            return (0, object.len(), self.value.to_owned());
        };
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(object) else {
            // What is no object becomes one.
            return (0, object.len(), self.object(place, depth));
        };
        if let Some(value) = fields.get(name) {
            let value = value.get();
            let (at, length, new) = self.set(value, inner, depth + 1);
            return (offset(object, value) + at, length, new);
        }
        let Some((_, last)) = fields.0.last() else {
            return (0, object.len(), self.object(place, depth));
        };
        let end = offset(object, last.get()) + last.get().len();
        let is_broken = object[1..]
            .trim_start_matches([' ', '\t', '\r'])
            .starts_with('\n');
        let gap = match is_broken {
            true => self.line(depth + 1),
            false => " ".to_owned(),
        };
        (end, 0, format!(",{gap}{}", self.field(place, depth + 1)))
    }

    fn object(&self, place: &[&str], depth: usize) -> String {
        format!(
            "{{{}{}{}}}",
            self.line(depth + 1),
            self.field(place, depth + 1),
            self.line(depth)
        )
    }

    fn field(&self, place: &[&str], depth: usize) -> String {
        match place {
            [] => String::new(),
            [name] => format!("{name:?}: {}", self.value),
            [name, inner @ ..] => format!("{name:?}: {}", self.object(inner, depth)),
        }
    }

    fn line(&self, depth: usize) -> String {
        format!("\n{}", " ".repeat(self.unit * depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "{\n \"cells\": [\n  {\n   \"cell_type\": \"code\",\n   \"source\": [\n    \"a\\n\",\n    \"b\"\n   ]\n  },\n  \
        {\"cell_type\": \"markdown\", \"source\": \"c\"},\n  {\"cell_type\": \"code\", \"source\": \"d\"}, 7\n ],\n \
        \"metadata\": {\n  \"big\": 1.50e400,\n  \"uv.lock\": \"theirs\"\n },\n \"nbformat\": 4,\n \"nbformat_minor\": 5\n}\n";

    #[test]
    fn code_cells_are_read_and_others_are_not() {
        assert_eq!(code(FILE).unwrap(), ["a\nb", "d"]);
        assert_eq!(lock(FILE).unwrap(), None);
    }

    #[test]
    fn a_lock_is_put_where_it_belongs_and_every_other_byte_stays() {
        let locked = with_lock(FILE, "x==1\n").unwrap();
        let expected = FILE.replace(
            "\"theirs\"\n",
            "\"theirs\",\n  \"nb\": {\n   \"lock\": \"x==1\\n\"\n  }\n",
        );
        assert_eq!(locked, expected);
        assert_eq!(lock(&locked).unwrap().as_deref(), Some("x==1\n"));
        assert_eq!(with_lock(&locked, "x==1\n").unwrap(), locked);
        let again = with_lock(&locked, "y").unwrap();
        assert_eq!(again, expected.replace("x==1\\n", "y"));
    }

    #[test]
    fn a_file_that_is_not_indented_stays_on_its_line() {
        for (file, expected) in [
            (
                r#"{"metadata": {"nb": {"running": 1}}, "nbformat": 4}"#,
                r#"{"metadata": {"nb": {"running": 1, "lock": "x"}}, "nbformat": 4}"#,
            ),
            (
                r#"{"metadata": {"nb": {}}, "nbformat": 4}"#,
                "{\"metadata\": {\"nb\": {\n   \"lock\": \"x\"\n  }}, \"nbformat\": 4}",
            ),
            (
                r#"{"metadata": {"nb": {"lock": ["a\n", "b"]}}, "nbformat": 4}"#,
                r#"{"metadata": {"nb": {"lock": "x"}}, "nbformat": 4}"#,
            ),
        ] {
            assert_eq!(with_lock(file, "x").unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        for junk in ["", "[]", "{}", "{\"nbformat\": 4", "{\"nbformat\": \"4\"}"] {
            let refused = with_lock(junk, "x").unwrap_err();
            assert!(matches!(refused, NotebookError::NotUnderstood(_)), "{junk}");
        }
        let old = "{\"nbformat\": 3, \"worksheets\": []}";
        assert_eq!(with_lock(old, "x").unwrap_err(), NotebookError::Format(3));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let key = prop_oneof![Just("nb".to_owned()), Just("lock".to_owned()), ".{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        /// One piece is put in, or put in the place of what stood there; the file means the same but for that.
        #[test]
        fn nothing_else_changes(
            metadata in value(), cells in value(), lock_text in ".{0,20}", pretty in any::<bool>(), has_metadata in any::<bool>(),
        ) {
            let mut before = serde_json::json!({"cells": cells, "nbformat": 4, "z": 1});
            if has_metadata {
                before["metadata"] = metadata;
            }
            let text = match pretty {
                true => format!("{before:#}\n"),
                false => before.to_string(),
            };
            let after = with_lock(&text, &lock_text).unwrap();
            prop_assert_eq!(lock(&after).unwrap(), Some(lock_text.clone()));
            let mut meant = before.clone();
            let mut place = &mut meant;
            for name in &PLACE[..2] {
                if !place[*name].is_object() {
                    place[*name] = serde_json::json!({});
                }
                place = &mut place[*name];
            }
            place["lock"] = Value::from(lock_text);
            prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), meant);
            // What is around the piece is as it was.
            let is_added = before["metadata"]["nb"].get("lock").is_none() && before["metadata"]["nb"].as_object().is_some_and(|nb| !nb.is_empty());
            if is_added {
                let head = text.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
                let tail = text.bytes().rev().zip(after.bytes().rev()).take_while(|(a, b)| a == b).count();
                prop_assert!(head + tail >= text.len());
            }
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,60}") {
            let _ = with_lock(&text, "x");
            let _ = code(&text);
            let _ = lock(&text);
        }
    }
}
