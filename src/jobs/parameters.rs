//! Parameters of a notebook: what was given for them, and the code that says so in the notebook's language.
//!
//! Pure. What is text and what a number is as papermill has it (`_resolve_type`, its translators), so that a notebook gets
//! the same values from both; a name that is none is refused, as it would be code.

mod language;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

pub use self::language::Language;

/// A value as YAML, JSON or a command line has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// Its digits, of which there may be any number.
    Integer(String),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    /// In its order.
    Map(Vec<(String, Value)>),
}

/// Parameters in the order in which they were first given; the last value of a name counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(Vec<(String, Value)>);

impl Value {
    /// What a command line's word means: `True`, `False`, `None`, a number as Python reads one, else text.
    pub fn of_word(word: &str) -> Self {
        match word {
            "True" => return Self::Bool(true),
            "False" => return Self::Bool(false),
            "None" => return Self::Null,
            _ => {}
        }
        let Some(number) = without_underscores(word.trim()) else {
            return Self::Text(word.to_owned());
        };
        let digits = number.strip_prefix(['+', '-']).unwrap_or(&number);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let sign = if number.starts_with('-') { "-" } else { "" };
            let digits = digits.trim_start_matches('0');
            return Self::Integer(match digits {
                "" => "0".to_owned(),
                digits => format!("{sign}{digits}"),
            });
        }
        match number.parse() {
            Ok(number) => Self::Number(number),
            Err(_) => Self::Text(word.to_owned()),
        }
    }
}

/// Python reads `1_000` and no other place of an underscore.
fn without_underscores(word: &str) -> Option<String> {
    let bytes = word.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let between = |at: usize| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1));
    let mut places = word.match_indices('_');
    places
        .all(|(at, _)| between(at))
        .then(|| word.replace('_', ""))
}

impl Parameters {
    /// Gives a parameter a value. An error is a sentence.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        if !is_name(name) {
            return Err(format!(
                "{name:?} cannot be the name of a parameter: one is of letters, digits and _, and begins with no digit"
            ));
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Takes all of a mapping in YAML, of which JSON is a part. An error is a sentence without what was given.
    pub fn set_yaml(&mut self, text: &str) -> Result<(), String> {
        let value = serde_saphyr::from_str(text).map_err(|error| {
            let why = error.to_string();
            why.lines().next().unwrap_or_default().to_owned()
        })?;
        match value {
            Value::Map(parameters) => {
                let mut all = parameters.into_iter();
                all.try_for_each(|(name, value)| self.set(&name, value))
            }
            Value::Null => Ok(()),
            _ => Err("it is no mapping of names to values".to_owned()),
        }
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cell that sets them.
    pub fn code(&self, language: Language) -> String {
        let mut code = match language {
            Language::Scala => "// Parameters\n".to_owned(),
            _ => "# Parameters\n".to_owned(),
        };
        for (name, value) in &self.0 {
            let mut text = String::new();
            language.write(value, &mut text);
            code += &match language {
                Language::Scala => format!("val {name} = {text}\n"),
                Language::Bash => format!("{name}={text}\n"),
                // No name begins so there.
                Language::R => format!("{} = {text}\n", name.trim_start_matches('_')),
                Language::Python | Language::Julia => format!("{name} = {text}\n"),
            };
        }
        code
    }

    /// As JSON, for the notebook's metadata.
    pub fn json(&self) -> String {
        let mut text = String::new();
        language::write_json(&Value::Map(self.0.clone()), &mut text);
        text
    }
}

/// Whether this is a name in every language that there is.
fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = fields.next_entry()? {
            all.push(field);
        }
        Ok(Value::Map(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn integer(digits: &str) -> Value {
        Value::Integer(digits.to_owned())
    }

    #[test]
    fn a_word_means_what_papermill_takes_it_for() {
        for (word, meant) in [
            ("True", Value::Bool(true)),
            ("False", Value::Bool(false)),
            ("None", Value::Null),
            ("true", text("true")),
            ("12", integer("12")),
            ("-007", integer("-7")),
            ("+1_000", integer("1000")),
            (" 5 ", integer("5")),
            ("99999999999999999999", integer("99999999999999999999")),
            ("1.5", Value::Number(1.5)),
            ("1e3", Value::Number(1000.0)),
            ("inf", Value::Number(f64::INFINITY)),
            ("1__0", text("1__0")),
            ("_1", text("_1")),
            ("0x10", text("0x10")),
            ("", text("")),
            ("-", text("-")),
            ("2026-11-28", text("2026-11-28")),
        ] {
            assert_eq!(Value::of_word(word), meant, "{word}");
        }
    }

    #[test]
    fn the_last_value_counts_and_a_name_that_would_be_code_is_refused() {
        let mut parameters = Parameters::default();
        parameters.set("b", integer("1")).unwrap();
        parameters.set_yaml("{a: [1, x, ~], b: 2.0}").unwrap();
        parameters.set_yaml("").unwrap();
        assert_eq!(
            parameters.code(Language::Python),
            "# Parameters\nb = 2.0\na = [1, \"x\", None]\n"
        );
        assert_eq!(parameters.json(), r#"{"b": 2.0, "a": [1, "x", null]}"#);
        for name in ["", "1a", "a b", "x=1;y", "a-b", "a\n"] {
            assert!(parameters.set(name, Value::Null).is_err(), "{name:?}");
        }
        let deep = format!("{{a: {}}}", "[".repeat(100_000));
        assert!(parameters.set_yaml(&deep).is_err());
        // Ten billion of them, by aliases of aliases.
        let laughs = (1..=10).fold("{a0: &a0 x".to_owned(), |laughs, n| {
            let before = vec![format!("*a{}", n - 1); 10].join(", ");
            format!("{laughs}, a{n}: &a{n} [{before}]")
        });
        assert!(parameters.set_yaml(&format!("{laughs}}}")).is_err());
        for odd in ["[1]", "x", "{a: ", "a b: 1", "1: 2"] {
            let why = parameters.set_yaml(odd).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{odd}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_yaml_is_answered_without_a_panic(text in "\\PC{0,60}") {
            let _ = Parameters::default().set_yaml(&text);
        }
    }
}
