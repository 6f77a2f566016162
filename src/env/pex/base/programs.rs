//! The programs of the distributions in a mount, in an environment's folder of programs: what installing them would have put there.
//!
//! Nothing that a pex says is run here, and what makes no sense is passed over.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A longer file of entry points is not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A function that a program calls.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    name: &'a str,
    module: &'a str,
    function: &'a str,
}

/// Writes them. They have their way over programs that are there, but for Python itself.
pub(super) fn put(mount: &Path, programs: &Path) -> io::Result<()> {
    for entry in fs::read_dir(mount)? {
        let info = entry?.path();
        if info.extension().is_none_or(|ending| ending != "dist-info") {
            continue;
        }
        let file = info.join("entry_points.txt");
        let is_read = fs::metadata(&file).is_ok_and(|about| about.len() <= FILE_BYTES_MAX);
        let text = is_read.then(|| fs::read_to_string(&file).ok()).flatten();
        for entry in entries(&text.unwrap_or_default()) {
            let path = programs.join(entry.name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = fs::File::options();
            let file = options.write(true).create_new(true).mode(0o755).open(path);
            file?.write_all(script(&entry).as_bytes())?;
        }
    }
    Ok(())
}

/// Runs with the Python beside it, wherever that is.
fn script(entry: &Entry<'_>) -> String {
    let Entry {
        module, function, ..
    } = entry;
    let first = function.split('.').next().unwrap_or(function);
    format!(
        "#!/bin/sh\n\
         '''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n\
         ' '''\n\
         import sys\n\
         from {module} import {first}\n\
         if __name__ == \"__main__\":\n    \
             sys.exit({function}())\n"
    )
}

/// Those of the two groups that programs are made of. The format is PyPA's "Entry points specification".
fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut is_of_programs = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_of_programs = matches!(line, "[console_scripts]" | "[gui_scripts]");
        } else if is_of_programs && let Some(entry) = entry(line) {
            found.push(entry);
        }
    }
    found
}

fn entry(line: &str) -> Option<Entry<'_>> {
    let (name, object) = line.split_once('=')?;
    let object = object.split('[').next().unwrap_or(object);
    let (module, function) = object.split_once(':')?;
    let (name, module, function) = (name.trim(), module.trim(), function.trim());
    let is_name = !name.starts_with(['.', '-', ' '])
        && !name.starts_with("python")
        && !name.starts_with("activate")
        && name.len() < 200
        && !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let is_path = |dotted: &str| {
        dotted.split('.').all(|part| {
            let is_identifier = |c: char| c == '_' || c.is_alphanumeric();
            !part.is_empty()
                && !part.starts_with(|c: char| c.is_numeric())
                && part.chars().all(is_identifier)
        })
    };
    (is_name && is_path(module) && is_path(function)).then_some(Entry {
        name,
        module,
        function,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_a_program_is_one() {
        let text = "# no\nbefore = a:b\n[console_scripts]\ncorp-run = corp.cli:main\nwith = corp:App.run [extra]\n\
                    ../up = a:b\npython3 = a:b\nodd = a:b()\nnone = a\n-x = a:b\n[corp.plugins]\nother = a:b\n";
        let names: Vec<_> = entries(text).iter().map(|it| it.name).collect();
        assert_eq!(names, ["corp-run", "with"]);
        let with = &entries(text)[1];
        assert!(script(with).contains("from corp import App\n"));
        assert!(script(with).ends_with("    sys.exit(App.run())\n"));
    }
}
