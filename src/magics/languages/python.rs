//! Python: `exchange.py` gives, lends and takes, `values.py` tells the values of variables. Texts and bytes as literals.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

const EXCHANGE: &str = include_str!("exchange.py");

const VALUES: &str = include_str!("values.py");

/// Prints the values of these variables, as a database is told them.
pub(in crate::magics) fn values(names: &[impl AsRef<str>]) -> String {
    let call = format!("print('\\n' + g['values'](globals(), [{}]))", listed(names));
    within(VALUES, "sql", &call)
}

/// Prints where another kernel takes these variables.
pub(in crate::magics) fn give(names: &[impl AsRef<str>]) -> String {
    let call = format!("print('\\n' + g['give'](globals(), [{}]))", listed(names));
    within(EXCHANGE, "exchange", &call)
}

/// Prints where those of these that are frames can be read.
pub(in crate::magics) fn lend(names: &[impl AsRef<str>]) -> String {
    let call = format!("print('\\n' + g['lend'](globals(), [{}]))", listed(names));
    within(EXCHANGE, "exchange", &call)
}

/// Nobody needs what was given or lent any more.
pub(in crate::magics) fn let_go() -> String {
    within(EXCHANGE, "exchange", "g['let_go']()")
}

pub(super) fn take(given: &str) -> String {
    let call = format!("g['take'](globals(), {})", literal(given));
    within(EXCHANGE, "exchange", &call)
}

pub(super) fn frame(name: &str, path: &Path) -> String {
    take(&json!([{"name": name, "kind": "pandas", "path": path}]).to_string())
}

/// A call in a module of its own, `g`: nothing of it is left in the user's namespace.
fn within(source: &str, name: &str, call: &str) -> String {
    let source = literal(source);
    format!(
        "(lambda g: (exec(compile({source}, '<nb {name}>', 'exec'), g), {call}))({{'__name__': 'nb_{name}'}})"
    )
}

fn listed(names: &[impl AsRef<str>]) -> String {
    let listed: Vec<String> = names.iter().map(|name| literal(name.as_ref())).collect();
    listed.join(", ")
}

/// A Python string literal in plain ASCII.
pub(in crate::magics) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            ' '..='~' => literal.push(c),
            // Eight digits hold every character, so there are no surrogates to think of.
            c => _ = write!(literal, "\\U{:08x}", u32::from(c)),
        }
    }
    literal.push('"');
    literal
}

/// A Python bytes literal: a path need not be UTF-8.
pub(in crate::magics) fn bytes_literal(bytes: &[u8]) -> String {
    let mut literal = "b\"".to_owned();
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => literal.extend(['\\', char::from(byte)]),
            b' '..=b'~' => literal.push(char::from(byte)),
            byte => _ = write!(literal, "\\x{byte:02x}"),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_ascii_and_cannot_be_left() {
        assert_eq!(literal("a\"\\\n\t"), r#""a\"\\\n\U00000009""#);
        assert_eq!(literal("é\u{1f40d}"), r#""\U000000e9\U0001f40d""#);
        assert_eq!(bytes_literal(b"/a\"\\\xff\n"), r#"b"/a\"\\\xff\x0a""#);
    }
}
