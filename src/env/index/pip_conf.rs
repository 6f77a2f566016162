//! pip's own files of settings: which there are, and what they say, in pip's order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::plain_file;

/// A larger file is none of pip's.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What files say, by option; of an option that several name, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PipConf {
    /// The section `[global]`.
    global: BTreeMap<String, String>,
    /// `[install]`, which wins over it wherever it is.
    install: BTreeMap<String, String>,
}

/// Those of the machine, and those of whoever has this environment.
pub(super) fn read(env: &BTreeMap<String, String>) -> (PipConf, PipConf) {
    let var = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let named = var("PIP_CONFIG_FILE").map(PathBuf::from);
    if named.as_deref() == Some(Path::new("/dev/null")) {
        return (PipConf::default(), PipConf::default());
    }
    let folders = var("XDG_CONFIG_DIRS").map_or("/etc/xdg", String::as_str);
    let mut of_machine: Vec<PathBuf> = std::env::split_paths(folders)
        .map(|folder| folder.join("pip/pip.conf"))
        .collect();
    of_machine.push("/etc/pip.conf".into());
    let mut own = Vec::new();
    if !named.as_ref().is_some_and(|named| named.exists())
        && let Some(home) = var("HOME").map(PathBuf::from)
    {
        own.push(home.join(".pip/pip.conf"));
        let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
        own.push(
            config
                .unwrap_or_else(|| home.join(".config"))
                .join("pip/pip.conf"),
        );
    }
    own.extend(var("VIRTUAL_ENV").map(|venv| Path::new(venv).join("pip.conf")));
    own.extend(named);
    (PipConf::of_files(&of_machine), PipConf::of_files(&own))
}

impl PipConf {
    fn of_files(files: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for file in files {
            if let Ok(text) = plain_file::text(file, FILE_BYTES_MAX) {
                all.add(&text);
            }
        }
        all
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        conf.add(text);
        conf
    }

    /// What a file says on top, in the format of Python's `configparser`.
    fn add(&mut self, text: &str) {
        let (mut section, mut last) = (None, None::<String>);
        for line in text.lines() {
            let plain = line.trim();
            if plain.is_empty() || plain.starts_with(['#', ';']) {
                continue;
            }
            let goes_on = line.starts_with(char::is_whitespace);
            if let (true, Some(key), Some(section)) =
                (goes_on, &last, self.section(section.as_deref()))
            {
                let value = section.entry(key.clone()).or_default();
                value.push('\n');
                value.push_str(plain);
                continue;
            }
            last = None;
            if let Some(name) = plain
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
            {
                section = Some(name.to_owned());
            } else if let (Some((key, value)), Some(section)) = (
                plain.split_once(['=', ':']),
                self.section(section.as_deref()),
            ) {
                let key = key.trim().to_lowercase().replace('_', "-");
                section.insert(key.clone(), value.trim().to_owned());
                last = Some(key);
            }
        }
    }

    fn section(&mut self, name: Option<&str>) -> Option<&mut BTreeMap<String, String>> {
        match name? {
            "global" => Some(&mut self.global),
            "install" => Some(&mut self.install),
            _ => None,
        }
    }

    /// What an option is set to.
    pub(super) fn get(&self, option: &str) -> Option<&str> {
        let value = self
            .install
            .get(option)
            .or_else(|| self.global.get(option))?;
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[test]
    fn the_last_file_counts_and_a_commands_own_section_before_all() {
        let mut conf = PipConf::default();
        conf.add("# x\n[global]\nindex-url = https://a/simple  \nextra_index_url =\n  https://b\n  https://c\n\
                  [install]\nno-index: yes\ntrusted-host = x\n[list]\ncert = no\n");
        conf.add("[global]\nINDEX-URL=https://d/x=1\ntrusted-host = y\n");
        assert_eq!(conf.get("index-url"), Some("https://d/x=1"));
        assert_eq!(conf.get("extra-index-url"), Some("\nhttps://b\nhttps://c"));
        assert_eq!(conf.get("no-index"), Some("yes"));
        assert_eq!(conf.get("trusted-host"), Some("x"));
        assert_eq!(conf.get("cert"), None);
    }

    #[test]
    fn a_named_file_is_instead_of_the_users_and_none_is_of_the_null_device() {
        let home = tempfile::tempdir().unwrap();
        let put = |path: &str, index: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("[global]\nindex-url = {index}\n")).unwrap();
            path.to_str().unwrap().to_owned()
        };
        put(".pip/pip.conf", "old");
        put(".config/pip/pip.conf", "user");
        let named = put("named", "named");
        let mut env =
            BTreeMap::from([("HOME".to_owned(), home.path().to_str().unwrap().to_owned())]);
        let index = |env: &_| read(env).1.get("index-url").map(str::to_owned);
        assert_eq!(index(&env).as_deref(), Some("user"));
        env.insert("PIP_CONFIG_FILE".to_owned(), named);
        assert_eq!(index(&env).as_deref(), Some("named"));
        env.insert("PIP_CONFIG_FILE".to_owned(), "/dev/null".to_owned());
        assert_eq!(index(&env), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read(text in "(\\[global\\]|\\[|=|:|[ -~\n\t]){0,60}") {
            PipConf::default().add(&text);
        }
    }
}
