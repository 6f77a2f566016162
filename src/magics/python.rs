//! Texts and bytes as Python's literals.

use std::fmt::Write;

/// A Python string literal in plain ASCII.
pub(super) fn literal(text: &str) -> String {
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
pub(super) fn bytes_literal(bytes: &[u8]) -> String {
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
