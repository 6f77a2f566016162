//! Scala: the JVM of its kernel has `nb.Frame` and `nb.Bound` (workers/scala/jvm).

use std::path::Path;

use serde::Deserialize;

use crate::magics::failure::Failure;

/// What Scala needs to know of what was given.
#[derive(Debug, Deserialize)]
struct Given {
    name: String,
    /// `pandas`, `polars` or `arrow`, where it is a file of Arrow.
    kind: String,
    path: String,
}

pub(super) fn take(given: &str) -> Result<String, Failure> {
    let unread = |_| Failure::new("KernelError", "The kernel did not tell what it has given.");
    let given: Vec<Given> = serde_json::from_str(given).map_err(unread)?;
    let mut code = String::new();
    for Given { name, kind, path } in given {
        if !matches!(kind.as_str(), "pandas" | "polars" | "arrow") {
            return Err(Failure::usage(format!(
                "{name} is no frame: to Scala only frames of pandas, polars and arrow go."
            )));
        }
        code += &frame(&name, Path::new(&path));
        code.push('\n');
    }
    Ok(code)
}

pub(super) fn frame(name: &str, path: &Path) -> String {
    let (name, path) = (quoted(name), literal(&path.to_string_lossy()));
    format!("val {name} = _root_.nb.Frame.read({path})")
}

/// As Ammonite names it.
pub(super) fn result(count: i64) -> String {
    format!("res{count}")
}

pub(super) fn values(names: &[impl AsRef<str>]) -> String {
    let pairs = names.iter().map(|name| {
        let name = name.as_ref();
        format!("({}, {})", literal(name), quoted(name))
    });
    let pairs: Vec<String> = pairs.collect();
    format!("_root_.nb.Bound.say({})", pairs.join(", "))
}

pub(super) fn lend(names: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| literal(name.as_ref())).collect();
    format!("_root_.nb.Frame.lend({})", names.join(", "))
}

/// What the compiler or `nb.Bound` says, as Python says it.
pub(super) fn unbound(failure: Failure) -> Failure {
    match failure.ename.as_str() {
        "nb.CannotBeBound" => Failure::new("CannotBeBound", failure.message),
        "CompilationError" => {
            // Before it stands a line of ours.
            let said = failure.message.split_once(": ").map(|(_, said)| said);
            let said = said.unwrap_or(&failure.message);
            match said.strip_prefix("not found: value ") {
                Some(name) => Failure::new(
                    "NameError",
                    format!("name '{name}' is not defined; the query binds it as :{name}"),
                ),
                None => Failure::new(
                    "CannotBeBound",
                    format!("What a query binds is a value: {said}"),
                ),
            }
        }
        _ => failure,
    }
}

/// In these it is a name whatever word it is.
fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// A string literal in plain ASCII.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for unit in text.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok(c @ (' '..='~')) if !matches!(c, '"' | '\\') => literal.push(c),
            _ => literal.push_str(&format!("\\u{unit:04x}")),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_defined_and_nothing_else_is() {
        let given =
            r#"[{"name": "type", "kind": "polars", "path": "/proc/7/fd/3", "series": ["x"]}]"#;
        assert_eq!(
            take(given).unwrap(),
            "val `type` = _root_.nb.Frame.read(\"/proc/7/fd/3\")\n"
        );
        let plain = r#"[{"name": "x", "kind": "json", "path": "/p"}]"#;
        assert!(take(plain).unwrap_err().message.contains("x is no frame"));
        assert!(take("nonsense").is_err());
    }

    #[test]
    fn literals_are_ascii_and_cannot_be_left() {
        assert_eq!(literal("a\"\\\n"), r#""a\u0022\u005c\u000a""#);
        assert_eq!(literal("é\u{1f40d}"), r#""\u00e9\ud83d\udc0d""#);
        assert_eq!(
            values(&["type", "é"]),
            "_root_.nb.Bound.say((\"type\", `type`), (\"\\u00e9\", `é`))"
        );
    }

    #[test]
    fn what_the_compiler_says_is_said_of_the_query() {
        let said = |ename: &str, message: &str| unbound(Failure::new(ename, message)).to_string();
        assert_eq!(
            said("CompilationError", "cmd1_2.sc:1: not found: value x"),
            "NameError: name 'x' is not defined; the query binds it as :x"
        );
        assert_eq!(
            said(
                "CompilationError",
                "cmd1.sc:1: missing argument list for method f"
            ),
            "CannotBeBound: What a query binds is a value: missing argument list for method f"
        );
        assert_eq!(said("java.lang.Error", "boom"), "java.lang.Error: boom");
    }
}
