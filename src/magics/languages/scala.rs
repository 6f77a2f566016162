//! Scala: the JVM of its kernel has `nb.Frame`.

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
        // A name of Python's is one of Scala's in these, whatever word it is; a path of ours has no quotes.
        code += &format!("val `{name}` = nb.Frame.read(\"{path}\")\n");
    }
    Ok(code)
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
            "val `type` = nb.Frame.read(\"/proc/7/fd/3\")\n"
        );
        let plain = r#"[{"name": "x", "kind": "json", "path": "/p"}]"#;
        assert!(take(plain).unwrap_err().message.contains("x is no frame"));
        assert!(take("nonsense").is_err());
    }
}
