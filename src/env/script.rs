//! Inline script metadata (PEP 723) in a cell: the block that says what a notebook's code needs. Pure.
//!
//! The helper in the kernel (`magics/helper/environment.py`) finds the same block in the cell that runs.

use serde::Deserialize;

use super::version::{Specifiers, Version};

const BEGIN: &str = "# /// script";
const END: &str = "# ///";

/// What a block says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Script {
    #[serde(default)]
    pub dependencies: Vec<String>,
    #[serde(default, rename = "requires-python")]
    pub requires_python: Option<String>,
}

impl Script {
    /// Reads the TOML of a block; an error is a sentence.
    pub fn read(toml: &str) -> Result<Self, String> {
        let script: Self = toml::from_str(toml).map_err(|error| {
            let why = error.message();
            format!("The `{BEGIN}` block is not understood: {why}.")
        })?;
        match script.dependencies.iter().find(|one| !is_requirement(one)) {
            None => Ok(script),
            Some(one) => Err(format!(
                "The `{BEGIN}` block has {one:?} among its dependencies, which is no requirement."
            )),
        }
    }

    /// The block in the head of a cell, before which there are only comments and empty lines; nothing without one.
    pub fn of_cell(code: &str) -> Option<Result<Self, String>> {
        let mut block: Option<String> = None;
        for line in code.lines() {
            match &mut block {
                None if line.trim_end() == BEGIN => block = Some(String::new()),
                Some(block) if line.trim_end() == END => return Some(Self::read(block)),
                _ if !line.trim().is_empty() && !line.starts_with('#') => return None,
                None => {}
                Some(block) => {
                    let text = line.strip_prefix("# ").or_else(|| line.strip_prefix('#'));
                    block.push_str(text.unwrap_or(line));
                    block.push('\n');
                }
            }
        }
        None
    }

    /// Whether its code runs on a Python of this version; an error is a sentence.
    pub fn goes_with(&self, python: &Version) -> Result<(), String> {
        let Some(asked) = &self.requires_python else {
            return Ok(());
        };
        let specifiers: Specifiers = asked.parse().map_err(|_| {
            format!("`requires-python = \"{asked}\"` is not understood; it is written as in `>=3.11,<3.14`.")
        })?;
        match specifiers.allow(python) {
            true => Ok(()),
            false => Err(format!(
                "This kernel has Python {python}, and the `{BEGIN}` block asks for {asked}."
            )),
        }
    }
}

/// Whether it is one line and no option: a notebook that somebody sent must not say where packages come from.
fn is_requirement(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.starts_with(['-', '#']) && !text.contains(['\n', '\r', '\\'])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_dependency_is_no_option() {
        for (dependency, is_fine) in [
            ("six>=1", true),
            ("a @ https://h/a.whl", true),
            ("--index-url=https://h", false),
            (" -e .", false),
            ("-r other.txt", false),
            ("six\\n-i https://h", false),
            ("", false),
        ] {
            let read = Script::read(&format!("dependencies = [\"{dependency}\"]"));
            assert_eq!(read.is_ok(), is_fine, "{dependency}");
        }
    }

    use super::*;
    use proptest::prelude::*;

    const CELL: &str = "# of mine\n\n# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\n#   \"six\",\n#\n# ]\n# ///\nimport six\n";

    #[test]
    fn a_block_is_found_in_the_head_of_a_cell() {
        let script = Script::of_cell(CELL).unwrap().unwrap();
        assert_eq!(script.dependencies, ["six"]);
        assert_eq!(script.requires_python.as_deref(), Some(">=3.11"));
        for none in [
            "",
            "import six",
            "x = 1\n# /// script\n# ///",
            "# /// script\n# dependencies = []\nimport six\n# ///",
            "# /// script\n# dependencies = []",
            "'''\n# /// script\n# ///\n'''",
        ] {
            assert!(Script::of_cell(none).is_none(), "{none}");
        }
        let broken = Script::of_cell("# /// script\n# dependencies = [\n# ///").unwrap();
        assert!(broken.unwrap_err().contains("not understood"));
    }

    #[test]
    fn a_python_that_is_not_as_asked_is_named() {
        let python = "3.11.7".parse().unwrap();
        for (asked, is_fine) in [
            (None, true),
            (Some(">=3.11"), true),
            (Some("~=3.11.2"), true),
            (Some(">=3.12"), false),
            (Some("<3.11,>=3.9"), false),
            (Some("3.11"), false),
        ] {
            let script = Script {
                requires_python: asked.map(str::to_owned),
                ..Script::default()
            };
            let said = script.goes_with(&python);
            assert_eq!(said.is_ok(), is_fine, "{asked:?}");
            if let (Err(said), Some(asked)) = (said, asked) {
                assert!(said.contains(asked), "{said}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in "(# /// script\n|# ///\n|# ?|[a-z=\"\\[\\]>.0-9\n ]){0,12}") {
            if let Some(Ok(script)) = Script::of_cell(&text) {
                let _ = script.goes_with(&"3.11".parse().unwrap());
            }
        }
    }
}
