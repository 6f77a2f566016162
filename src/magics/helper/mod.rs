//! The code that makes an IPython kernel know our magics: `nb_helper.py`, wrapped to be run there.
//!
//! Run it by an execute_request with `silent`, no history and [`EXPRESSION`] under `user_expressions`,
//! right after kernel_info of a kernel whose language is Python and after each of its restarts;
//! [`registered`] tells from the reply by which door its cells come.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::languages::python::{bytes_literal, literal};
use super::registry::{NB, Registry};

const SOURCE: &str = concat!(
    include_str!("nb_helper.py"),
    "\n\n",
    include_str!("environment.py")
);

/// True in the kernel once the helper has registered our magics there.
pub const EXPRESSION: &str = "hasattr(get_ipython(), '_nb_helper')";

/// Code that prints whether a name of a magic is still ours in the kernel.
pub fn is_ours(name: &str) -> String {
    let name = literal(name);
    format!("print({name} in getattr(get_ipython(), '_nb_helper').ours)")
}

/// The code for the execute_request: one expression that gives `None` and leaves no name behind.
/// Outside IPython it does nothing. `socket` is the supervisor's, `changes` are the files that tell of changes in the
/// kernel's environment.
pub fn injection(socket: &Path, registry: &Registry, changes: &[PathBuf]) -> String {
    let mut magics = vec![format!(
        "({}, {}, False)",
        literal(NB),
        literal(&registry.overview())
    )];
    for magic in registry.magics() {
        let expands = if magic.expands() { "True" } else { "False" };
        magics.extend(magic.spellings().iter().map(|name| {
            let (name, help) = (literal(name), literal(magic.help()));
            format!("({name}, {help}, {expands})")
        }));
    }
    let files = changes
        .iter()
        .map(|file| bytes_literal(file.as_os_str().as_bytes()));
    let files: Vec<String> = files.collect();
    format!(
        "(lambda g: (exec(compile({source}, '<nb helper>', 'exec'), g), \
         g['install']({socket}, [{magics}], [{changes}]))[1])({{'__name__': 'nb_helper'}})",
        source = literal(SOURCE),
        socket = bytes_literal(socket.as_os_str().as_bytes()),
        magics = magics.join(", "),
        changes = files.join(", "),
    )
}

/// Whether the content of the execute_reply says that the helper is in place.
pub fn registered(reply: &Value) -> bool {
    let expression = &reply["user_expressions"]["nb"];
    expression["status"] == "ok" && expression["data"]["text/plain"] == "True"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::magics::Setting;
    use serde_json::json;

    #[test]
    fn the_injection_is_one_line_of_ascii() {
        let code = injection(
            Path::new("/run/nb/sock"),
            &Registry::standard(&Setting::default()),
            &[],
        );
        assert!(code.is_ascii() && !code.contains('\n'));
        assert!(code.contains(r#"g['install'](b"/run/nb/sock", [("nb", "%nb help"#));
        assert!(code.ends_with("})"));
    }

    #[test]
    fn the_reply_tells_the_door() {
        let said = |text: &str| {
            json!({"status": "ok", "user_expressions": {
                "nb": {"status": "ok", "data": {"text/plain": text}, "metadata": {}},
            }})
        };
        assert!(registered(&said("True")));
        assert!(!registered(&said("False")));
        assert!(!registered(&json!({"status": "error"})));
        assert!(!registered(&json!({
            "status": "ok", "user_expressions": {"nb": {"status": "error"}},
        })));
    }
}
