//! JSON whose keys keep their order and whose numbers keep their spelling, written as Python's `json` indents it.
//!
//! What nobody changes stays as it was written, down to its last escape. Indenting makes a value longer by a bounded
//! factor only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What would be longer than so many times what it was is not indented.
const GROWTH_MAX: usize = 8;

/// What is small may be indented in any case.
const GROWN_MIN: usize = 64;

/// A value, taken apart no further than somebody looked.
#[derive(Clone, Debug)]
pub enum Json {
    /// As it came.
    Raw(Box<RawValue>),
    Null,
    Number(u64),
    Bool(bool),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// An object in the order of its keys.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Json)>);

impl Json {
    /// The value of this text; `None` when it is no JSON.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::Raw(serde_json::from_str(text).ok()?))
    }

    /// Reads it as a `T`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        match self {
            Self::Raw(raw) => serde_json::from_str(raw.get()).ok(),
            _ => None,
        }
    }

    /// A text as the list of its lines, as notebooks have it.
    pub fn lines(text: &str) -> Self {
        let lines = text.split_inclusive('\n').map(Self::from);
        Self::List(lines.collect())
    }

    /// Writes it at this depth, with so many spaces for each.
    pub fn write(&self, out: &mut String, unit: usize, depth: usize) {
        match self {
            Self::Raw(raw) => write_raw(raw.get(), out, unit, depth),
            Self::Null => out.push_str("null"),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Self::Text(text) => put_text(text, out),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::List(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    put_break(out, n > 0, unit, depth + 1);
                    item.write(out, unit, depth + 1);
                }
                put_break(out, false, unit, depth);
                out.push(']');
            }
            Self::Object(Object(fields)) if fields.is_empty() => out.push_str("{}"),
            Self::Object(Object(fields)) => {
                out.push('{');
                for (n, (key, value)) in fields.iter().enumerate() {
                    put_break(out, n > 0, unit, depth + 1);
                    put_text(key, out);
                    out.push_str(": ");
                    value.write(out, unit, depth + 1);
                }
                put_break(out, false, unit, depth);
                out.push('}');
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Json {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl Object {
    /// The object that this value is; `None` when it is none.
    pub fn of(value: &Json) -> Option<Self> {
        match value {
            Json::Object(object) => Some(object.clone()),
            value => value.read(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let found = self.0.iter().rfind(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// Gives a key a value: in its place, or as the last one.
    pub fn set(&mut self, key: &str, value: impl Into<Json>) {
        let value = value.into();
        match self.0.iter_mut().rfind(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same as if it had come as text: whatever was set can be read.
    pub fn read_again(self) -> Self {
        let mut text = String::new();
        Json::Object(self.clone()).write(&mut text, 0, 0);
        serde_json::from_str(&text).unwrap_or(self)
    }

    /// Its keys and values.
    pub fn fields(&mut self) -> &mut Vec<(String, Json)> {
        &mut self.0
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    fields.push((key, Json::Raw(value)));
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

fn put_text(text: &str, out: &mut String) {
    // A text can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn put_break(out: &mut String, comma: bool, unit: usize, depth: usize) {
    if comma {
        out.push(',');
    }
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', unit * depth));
}

/// Breaks and indents what is valid JSON; every token stays as it is. Brackets within brackets would make much of
/// little: then all stays as it came.
fn write_raw(text: &str, out: &mut String, unit: usize, depth: usize) {
    let text = text.trim_ascii();
    let begin = out.len();
    let end = begin + GROWN_MIN + text.len().saturating_mul(GROWTH_MAX);
    if !indent(text, out, unit, depth, end) {
        out.truncate(begin);
        out.push_str(text);
    }
}

/// Whether it was done before the output had this length.
fn indent(text: &str, out: &mut String, unit: usize, mut depth: usize, end: usize) -> bool {
    let mut rest = text;
    // The last token opened a list or an object.
    let mut opened = false;
    while let Some(first) = rest.as_bytes().first() {
        let length = match first {
            b'"' => string_length(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => {
                let ends = |byte: &u8| b",]}: \t\r\n".contains(byte);
                rest.bytes()
                    .position(|byte| ends(&byte))
                    .unwrap_or(rest.len())
            }
        };
        let (token, tail) = rest.split_at(length);
        rest = tail.trim_ascii_start();
        let closes = matches!(first, b'}' | b']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if opened != closes {
            // Neither within an empty one nor in the middle of a line.
            put_break(out, false, unit, depth);
        }
        out.push_str(token);
        opened = matches!(first, b'{' | b'[');
        match first {
            b'{' | b'[' => depth += 1,
            b',' => put_break(out, false, unit, depth),
            b':' => out.push(' '),
            _ => {}
        }
        if out.len() > end {
            return false;
        }
    }
    true
}

/// How long the string is that the text begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn written(json: &Json) -> String {
        let mut out = String::new();
        json.write(&mut out, 1, 0);
        out
    }

    #[test]
    fn it_is_written_as_python_does_and_tokens_stay_as_they_were() {
        let text = r#" {"b":[1.50e+3,{},[ ], {"x":null}],"a":"\u00e9 \" ]","z":[[true]]} "#;
        // json.dumps(..., indent=1) but for the number and the escape.
        let expected = "{\n \"b\": [\n  1.50e+3,\n  {},\n  [],\n  {\n   \"x\": null\n  }\n ],\n \
                        \"a\": \"\\u00e9 \\\" ]\",\n \"z\": [\n  [\n   true\n  ]\n ]\n}";
        let json = Json::parse(text).unwrap();
        assert_eq!(written(&json), expected);
        let object = Object::of(&json).unwrap();
        assert_eq!(written(&object.into()), expected);
    }

    #[test]
    fn a_key_is_changed_in_its_place_and_a_new_one_comes_last() {
        let mut object = Object::of(&Json::parse(r#"{"b":1,"a":2}"#).unwrap()).unwrap();
        object.set("b", "x");
        object.set("c", Json::lines("1\n2"));
        object.remove("a");
        assert_eq!(
            written(&object.into()),
            "{\n \"b\": \"x\",\n \"c\": [\n  \"1\\n\",\n  \"2\"\n ]\n}"
        );
        for no_object in ["[]", "1", "null", "{"] {
            assert!(Json::parse(no_object).is_none_or(|json| Object::of(&json).is_none()));
        }
    }

    #[test]
    fn brackets_within_brackets_do_not_make_much_of_little() {
        for (open, close) in [("[", "]"), ("{\"\":", "}"), ("[1,[2],", "]")] {
            let text = format!("{}0{}", open.repeat(3000), close.repeat(3000));
            let json = Json::parse(&text).unwrap();
            assert!(written(&json) == text, "{open} stays as it came");
            let mut object = Object::default();
            object.set("deep", json);
            assert_eq!(
                written(&object.into()),
                format!("{{\n \"deep\": {text}\n}}")
            );
        }
        // What people have is indented.
        let deep = Json::parse(&format!("{}7{}", "[".repeat(12), "]".repeat(12))).unwrap();
        assert_eq!(written(&deep).lines().count(), 25);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        /// However it was spaced before.
        #[test]
        fn what_is_written_means_the_same(value in value()) {
            let compact = Json::parse(&value.to_string()).unwrap();
            let pretty = written(&compact);
            prop_assert_eq!(&serde_json::from_str::<Value>(&pretty).unwrap(), &value);
            prop_assert_eq!(&written(&Json::parse(&pretty).unwrap()), &pretty);
        }
    }
}
