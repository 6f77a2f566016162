//! A lock as files that other tools take. Pure.

use super::lock::Lock;

/// For pip, with the way to use it in its head.
pub fn requirements(lock: &Lock, more: &[String]) -> String {
    let python = lock.requires_python().unwrap_or(">=3.10");
    let mut text = format!("# Python {python}\n# python -m venv x && x/bin/pip install -r FILE\n");
    for line in lock.lines().iter().chain(more) {
        text.push_str(&line.replace(" --hash=", " \\\n    --hash="));
        text.push('\n');
    }
    text
}

/// A project that depends on what the lock pins; it has no hashes.
pub fn pyproject(lock: &Lock, name: &str) -> String {
    let mut text = format!(
        "[project]\nname = {}\nversion = \"0\"\n",
        quoted(&project(name))
    );
    if let Some(python) = lock.requires_python() {
        text.push_str(&format!("requires-python = {}\n", quoted(python)));
    }
    text.push_str("dependencies = [\n");
    for line in lock.lines() {
        let pin = line.split(" --hash=").next().unwrap_or_default();
        text.push_str(&format!("    {},\n", quoted(pin)));
    }
    text.push_str("]\n");
    text
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name that a project may have.
fn project(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    match name.trim_matches('-') {
        "" => "notebook".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_written_for_others() {
        let text = "# requires-python: >=3.11\nsix==1 ; python_version > \"3\" \\\n  --hash=sha256:ab \\\n  --hash=sha256:cd\n";
        let lock = Lock::read(text).unwrap();
        let expected = "# Python >=3.11\n# python -m venv x && x/bin/pip install -r FILE\n\
            six==1 ; python_version > \"3\" \\\n    --hash=sha256:ab \\\n    --hash=sha256:cd\n";
        assert_eq!(requirements(&lock, &[]), expected);
        let project = pyproject(&lock, "Mein Nötbook");
        let read: toml::Value = toml::from_str(&project).unwrap();
        assert_eq!(read["project"]["name"].as_str(), Some("mein-n-tbook"));
        let pin = read["project"]["dependencies"][0].as_str();
        assert_eq!(pin, Some("six==1 ; python_version > \"3\""));
    }
}
