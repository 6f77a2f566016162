//! Inline script metadata (PEP 723) in a cell: the block that says what a notebook's code needs. Pure.
//!
//! The helper in the kernel (`magics/helper/environment.py`) finds the same block in the cell that runs.

use std::ops::Range;

use serde::Deserialize;

use super::version::{Specifiers, Version};

const BEGIN: &str = "# /// script";
const END: &str = "# ///";

/// What is said of a cell with more than one.
pub const SEVERAL: &str =
    "This cell has several `# /// script` blocks; one says all that it needs.";

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
        let lines: Vec<&str> = code.lines().collect();
        let mut blocks = blocks(&lines).filter(|block| lines[block.start] == BEGIN);
        let block = blocks.next()?;
        let is_head = |line: &&str| line.trim().is_empty() || line.starts_with('#');
        if !lines[..block.start].iter().all(is_head) {
            return None;
        }
        if blocks.next().is_some() {
            return Some(Err(SEVERAL.to_owned()));
        }
        let content = lines[block.start + 1..block.end].iter().map(|line| {
            let text = line.strip_prefix("# ").unwrap_or(&line[1..]);
            format!("{text}\n")
        });
        Some(Self::read(&content.collect::<String>()))
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

/// The lines of all blocks, from that which begins one to that which ends it: as the regular expression of the specification finds
/// them, the last line of comments that may end a block does.
fn blocks(lines: &[&str]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < lines.len() {
            let start = at;
            at += 1;
            if !is_begin(lines[start]) {
                continue;
            }
            let is_content = |line: &&&str| **line == "#" || line.starts_with("# ");
            let content = lines[at..].iter().take_while(is_content).count();
            let end = (at + 1..at + content).rev().find(|n| lines[*n] == END);
            if let Some(end) = end {
                at = end + 1;
                return Some(start..end);
            }
        }
        None
    })
}

fn is_begin(line: &str) -> bool {
    let of_type = line
        .strip_prefix(END)
        .and_then(|line| line.strip_prefix(' '));
    of_type.is_some_and(|of_type| {
        !of_type.is_empty()
            && of_type
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
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
            "# /// script\n# ///",
            "# /// script \n# dependencies = []\n# ///",
            "# /// other\n# /// script\n# dependencies = []\n# ///",
            "'''\n# /// script\n# ///\n'''",
        ] {
            assert!(Script::of_cell(none).is_none(), "{none}");
        }
        let broken = Script::of_cell("# /// script\n# dependencies = [\n# ///").unwrap();
        assert!(broken.unwrap_err().contains("not understood"));
    }

    #[test]
    fn the_last_line_that_may_end_a_block_does() {
        let code = "# /// script\n# x = \"\"\"\n# ///\n#\n# \"\"\"\n# dependencies = [\"six\"]\n# ///\n# more\n";
        let script = Script::of_cell(code).unwrap().unwrap();
        assert_eq!(script.dependencies, ["six"]);
        // Another one, without an empty line before it, is in the first.
        let code =
            "# /// script\n# dependencies = []\n# ///\n# /// script\n# dependencies = []\n# ///";
        assert!(Script::of_cell(code).unwrap().is_err());
    }

    #[test]
    fn a_cell_has_one_block_at_most() {
        let block = "# /// script\n# dependencies = []\n# ///\n";
        for code in [
            format!("{block}\n{block}"),
            format!("{block}x = 1\n{block}"),
        ] {
            assert_eq!(Script::of_cell(&code), Some(Err(SEVERAL.to_owned())));
        }
        let other = format!("# /// other\n# x\n# ///\n\n{block}");
        assert!(Script::of_cell(&other).unwrap().is_ok());
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
