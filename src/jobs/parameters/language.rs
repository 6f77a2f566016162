//! How each language writes a value. Pure.

use std::fmt::Write;

use super::Value;

/// A language in which parameters can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    R,
    Scala,
    Julia,
    Bash,
}

impl Language {
    /// The one that a notebook's metadata call so.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "python" | "ipython" => Some(Self::Python),
            "r" => Some(Self::R),
            "scala" => Some(Self::Scala),
            "julia" => Some(Self::Julia),
            "bash" => Some(Self::Bash),
            _ => None,
        }
    }

    pub(super) fn write(self, value: &Value, out: &mut String) {
        match value {
            Value::Null => out.push_str(match self {
                Self::Python | Self::Scala => "None",
                Self::R => "NULL",
                Self::Julia => "nothing",
                Self::Bash => "",
            }),
            Value::Bool(yes) => out.push_str(match (self, yes) {
                (Self::Python, true) => "True",
                (Self::Python, false) => "False",
                (Self::R, true) => "TRUE",
                (Self::R, false) => "FALSE",
                (_, true) => "true",
                (_, false) => "false",
            }),
            Value::Integer(digits) => {
                out.push_str(digits);
                if self == Self::Scala && digits.parse::<i32>().is_err() {
                    out.push('L');
                }
            }
            Value::Number(number) => self.write_number(*number, out),
            Value::Text(text) => self.write_text(text, out),
            Value::List(items) => {
                let (open, between, close) = match self {
                    Self::R => ("list(", ", ", ")"),
                    Self::Scala => ("Seq(", ", ", ")"),
                    Self::Bash => ("(", " ", ")"),
                    Self::Python | Self::Julia => ("[", ", ", "]"),
                };
                let items = items
                    .iter()
                    .map(|item| |out: &mut String| self.write(item, out));
                write_all(items, out, [open, between, close]);
            }
            Value::Map(fields) => {
                let (open, is, close) = match self {
                    Self::Python => ("{", ": ", "}"),
                    Self::R => ("list(", " = ", ")"),
                    Self::Scala => ("Map(", " -> ", ")"),
                    Self::Julia => ("Dict(", " => ", ")"),
                    // It has no nested values: as text.
                    Self::Bash => {
                        let mut text = String::new();
                        write_json(value, &mut text);
                        return self.write_text(&text, out);
                    }
                };
                let fields = fields.iter().map(|(key, value)| {
                    move |out: &mut String| {
                        self.write_text(key, out);
                        out.push_str(is);
                        self.write(value, out);
                    }
                });
                write_all(fields, out, [open, ", ", close]);
            }
        }
    }

    fn write_number(self, number: f64, out: &mut String) {
        let name = match number {
            number if number.is_nan() => "nan",
            f64::INFINITY => "inf",
            f64::NEG_INFINITY => "-inf",
            // Always with a point or an exponent.
            number => return out.push_str(&format!("{number:?}")),
        };
        let minus = if number < 0.0 { "-" } else { "" };
        out.push_str(&match self {
            Self::Python => format!("float('{name}')"),
            Self::R if number.is_nan() => "NaN".to_owned(),
            Self::R | Self::Julia if !number.is_nan() => format!("{minus}Inf"),
            Self::R | Self::Julia => "NaN".to_owned(),
            Self::Scala if number.is_nan() => "Double.NaN".to_owned(),
            Self::Scala if number < 0.0 => "Double.NegativeInfinity".to_owned(),
            Self::Scala => "Double.PositiveInfinity".to_owned(),
            Self::Bash => name.to_owned(),
        });
    }

    fn write_text(self, text: &str, out: &mut String) {
        if self == Self::Bash {
            out.push('\'');
            out.push_str(&text.replace('\'', "'\"'\"'"));
            return out.push('\'');
        }
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '$' if self == Self::Julia => out.push_str("\\$"),
                // No text of R has it.
                '\0' if self == Self::R => {}
                // What an editor does not show, and what ends a line somewhere.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    // A text can always be written to.
                    let _written = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn write_all(
    items: impl Iterator<Item = impl Fn(&mut String)>,
    out: &mut String,
    [open, between, close]: [&str; 3],
) {
    out.push_str(open);
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push_str(between);
        }
        item(out);
    }
    out.push_str(close);
}

pub(super) fn write_json(value: &Value, out: &mut String) {
    // A text can always be written.
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Integer(digits) => out.push_str(digits),
        Value::Number(number) if number.is_finite() => out.push_str(&format!("{number:?}")),
        Value::Number(number) => out.push_str(&text(&number.to_string())),
        Value::Text(string) => out.push_str(&text(string)),
        Value::List(items) => {
            let items = items
                .iter()
                .map(|item| |out: &mut String| write_json(item, out));
            write_all(items, out, ["[", ", ", "]"]);
        }
        Value::Map(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let key = text(key);
                move |out: &mut String| {
                    out.push_str(&key);
                    out.push_str(": ");
                    write_json(value, out);
                }
            });
            write_all(fields, out, ["{", ", ", "}"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_language_has_its_own_spelling() {
        let mut parameters = Parameters::default();
        let yaml =
            "{t: 'a\"b$c\\', y: true, n: ~, i: 5000000000, l: [1.5, nope], m: {k: \"it's\"}}";
        parameters.set_yaml(yaml).unwrap();
        for (language, code) in [
            (
                Language::Python,
                "# Parameters\nt = \"a\\\"b$c\\\\\"\ny = True\nn = None\ni = 5000000000\nl = [1.5, \"nope\"]\nm = {\"k\": \"it's\"}\n",
            ),
            (
                Language::R,
                "# Parameters\nt = \"a\\\"b$c\\\\\"\ny = TRUE\nn = NULL\ni = 5000000000\nl = list(1.5, \"nope\")\nm = list(\"k\" = \"it's\")\n",
            ),
            (
                Language::Scala,
                "// Parameters\nval t = \"a\\\"b$c\\\\\"\nval y = true\nval n = None\nval i = 5000000000L\nval l = Seq(1.5, \"nope\")\nval m = Map(\"k\" -> \"it's\")\n",
            ),
            (
                Language::Julia,
                "# Parameters\nt = \"a\\\"b\\$c\\\\\"\ny = true\nn = nothing\ni = 5000000000\nl = [1.5, \"nope\"]\nm = Dict(\"k\" => \"it's\")\n",
            ),
            (
                Language::Bash,
                "# Parameters\nt='a\"b$c\\'\ny=true\nn=\ni=5000000000\nl=(1.5 'nope')\nm='{\"k\": \"it'\"'\"'s\"}'\n",
            ),
        ] {
            assert_eq!(parameters.code(language), code);
        }
        assert_eq!(Language::named("Python"), Some(Language::Python));
        assert_eq!(Language::named("cobol"), None);
    }

    #[test]
    fn numbers_that_are_none_have_a_name() {
        for (language, names) in [
            (
                Language::Python,
                ["float('nan')", "float('inf')", "float('-inf')"],
            ),
            (Language::R, ["NaN", "Inf", "-Inf"]),
            (Language::Julia, ["NaN", "Inf", "-Inf"]),
            (
                Language::Scala,
                [
                    "Double.NaN",
                    "Double.PositiveInfinity",
                    "Double.NegativeInfinity",
                ],
            ),
        ] {
            for (number, name) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
                .iter()
                .zip(names)
            {
                let mut out = String::new();
                language.write_number(*number, &mut out);
                assert_eq!(out, name);
            }
        }
    }

    proptest! {
        /// Of Python's texts JSON's are a part but for what is escaped with 16 bits twice, which we never write.
        #[test]
        fn a_text_ends_where_it_should(text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let mut out = String::new();
            Language::Python.write_text(&text, &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
