//! What is installed in folders of packages, as the `*.dist-info` folders in them say.
//!
//! The field's formats: PyPA's "Recording installed projects" and "Core metadata". Blocks on the file system; what
//! cannot be read is left out. Knows nothing of who installed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::index;
use super::version::Version;

/// A longer metadata file is not read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One installed distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// As its author writes it.
    pub name: String,
    pub version: String,
    /// The folder of packages that it is in.
    pub packages: PathBuf,
    /// Its `*.dist-info` folder.
    pub info: PathBuf,
    /// Where it came from, if not from an index.
    pub origin: Option<Origin>,
}

/// Where a distribution came from: `direct_url.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// As pip takes it.
    pub url: String,
    pub is_editable: bool,
}

#[derive(Deserialize)]
struct DirectUrl {
    url: String,
    #[serde(default)]
    dir_info: DirInfo,
    vcs_info: Option<VcsInfo>,
    subdirectory: Option<String>,
}

#[derive(Default, Deserialize)]
struct DirInfo {
    #[serde(default)]
    editable: bool,
}

#[derive(Deserialize)]
struct VcsInfo {
    vcs: String,
    commit_id: String,
}

/// A name in its normal form (PEP 503).
pub fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

/// The distribution that a requirement names, in its normal form; nothing for a bare URL or path.
pub(super) fn name_of(requirement: &str) -> Option<String> {
    let requirement = requirement.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = requirement
        .find(|c| !is_name(c))
        .unwrap_or(requirement.len());
    let (name, behind) = requirement.split_at(end);
    let behind = behind.trim_start();
    let is_requirement =
        behind.is_empty() || behind.starts_with(['[', '=', '<', '>', '!', '~', ';', '@', '(']);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_file = [".whl", ".zip", ".tar.gz"]
        .iter()
        .any(|end| name.ends_with(end));
    (starts && is_requirement && !is_file).then(|| normal(name))
}

/// The `site-packages` of a virtual environment; there is one unless it is half made.
pub(super) fn site_packages(environment: &Path) -> Option<PathBuf> {
    let lib = fs::read_dir(environment.join("lib")).ok()?;
    let mut found = lib
        .flatten()
        .map(|entry| entry.path().join("site-packages"));
    found.find(|packages| packages.is_dir())
}

/// The version of the Python in an environment, as `pyvenv.cfg` has it, or conda's record of its package.
pub(super) fn python_version(environment: &Path) -> Option<Version> {
    if let Ok(config) = fs::read_to_string(environment.join("pyvenv.cfg")) {
        let fields = config.lines().filter_map(|line| line.split_once('='));
        let mut fields = fields.map(|(key, value)| (key.trim(), value.trim()));
        // The name of it by uv and virtualenv, and by venv.
        let (_, version) = fields.find(|(key, _)| ["version_info", "version"].contains(key))?;
        let numbers: Vec<&str> = version.split('.').take(3).collect();
        return numbers.join(".").parse().ok();
    }
    let records = fs::read_dir(environment.join("conda-meta")).ok()?;
    let names = records.flatten().map(|record| record.file_name());
    let mut versions = names.filter_map(|name| {
        let version = name.to_str()?.strip_prefix("python-")?.split('-').next()?;
        version.parse().ok()
    });
    versions.next()
}

/// What is in these folders by its normal name; of a name that is in several the first one counts, as for Python.
pub(super) fn installed(folders: &[PathBuf]) -> BTreeMap<String, Distribution> {
    let mut all = BTreeMap::new();
    for packages in folders {
        for entry in fs::read_dir(packages).into_iter().flatten().flatten() {
            if let Some(found) = read(packages, entry.path()) {
                all.entry(normal(&found.name)).or_insert(found);
            }
        }
    }
    all
}

fn read(packages: &Path, info: PathBuf) -> Option<Distribution> {
    let folder = info.file_name()?.to_str()?.strip_suffix(".dist-info")?;
    let (name, version) = folder.rsplit_once('-')?;
    let metadata = read_capped(&info.join("METADATA"))?;
    let origin = read_capped(&info.join("direct_url.json")).and_then(|json| origin(&json));
    Some(Distribution {
        name: field(&metadata, "Name").unwrap_or(name).to_owned(),
        version: field(&metadata, "Version").unwrap_or(version).to_owned(),
        packages: packages.to_owned(),
        info,
        origin,
    })
}

fn origin(json: &str) -> Option<Origin> {
    let direct: DirectUrl = serde_json::from_str(json).ok()?;
    // pip keeps no login there, and none is shown.
    let mut url = index::bare(&direct.url);
    if let Some(vcs) = direct.vcs_info {
        url = format!("{}+{url}@{}", vcs.vcs, vcs.commit_id);
    }
    if let Some(folder) = direct.subdirectory {
        url += &format!("#subdirectory={folder}");
    }
    Some(Origin {
        url,
        is_editable: direct.dir_info.editable,
    })
}

impl Distribution {
    /// The line of a requirements file that stands for it.
    pub fn pin(&self) -> String {
        match &self.origin {
            Some(Origin { url, is_editable }) if *is_editable => format!("-e {url}"),
            Some(Origin { url, .. }) => format!("{} @ {url}", self.name),
            None => format!("{}=={}", self.name, self.version),
        }
    }

    /// Whether it is the folder of somebody who works on it.
    pub fn is_editable(&self) -> bool {
        self.origin
            .as_ref()
            .is_some_and(|origin| origin.is_editable)
    }

    /// What the metadata says, for people.
    pub fn metadata(&self) -> Metadata {
        Metadata(read_capped(&self.info.join("METADATA")).unwrap_or_default())
    }

    /// The files that were installed, as paths from the folder of packages.
    pub fn files(&self) -> Vec<String> {
        let record = read_capped(&self.info.join("RECORD")).unwrap_or_default();
        record.lines().filter_map(recorded).collect()
    }

    /// What an import of it would load: paths of its topmost packages and modules from the folder of packages, as in
    /// `numpy`, `google/cloud/storage`, `six.py`.
    pub fn modules(&self) -> BTreeSet<String> {
        let files = self.files();
        let is_code = |file: &&String| {
            let ends = [".py", ".so", ".pyd"].iter().any(|end| file.ends_with(end));
            ends && !file.starts_with("..") && !file.starts_with('/')
        };
        let packages: BTreeSet<&str> = files
            .iter()
            .filter_map(|file| file.strip_suffix("/__init__.py"))
            .collect();
        let mut modules = BTreeSet::new();
        for file in files.iter().filter(is_code) {
            // The outermost package that the file is in, else itself.
            let mut ends = file.match_indices('/').map(|(end, _)| &file[..end]);
            let package = ends.find(|folder| packages.contains(folder));
            modules.insert(package.unwrap_or(file).to_owned());
        }
        modules
    }
}

/// The first field of a line of RECORD, which is a CSV file.
fn recorded(line: &str) -> Option<String> {
    match line.strip_prefix('"') {
        Some(quoted) => {
            let mut path = String::new();
            let mut parts = quoted.split('"');
            path.push_str(parts.next()?);
            // Two quotes stand for one.
            while parts.next()?.is_empty() {
                let Some(more) = parts.next() else { break };
                path.push('"');
                path.push_str(more);
            }
            Some(path)
        }
        None => line
            .split(',')
            .next()
            .filter(|path| !path.is_empty())
            .map(str::to_owned),
    }
}

/// The core metadata of a distribution.
#[derive(Debug)]
pub struct Metadata(String);

impl Metadata {
    /// The value of a field that is there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.0, name)
    }

    /// The distributions that it always needs, in their normal form.
    pub fn requires(&self) -> BTreeSet<String> {
        let always = |requirement: &&str| !requirement.contains("extra ==");
        let named = fields(&self.0, "Requires-Dist").filter(always);
        named.filter_map(name_of).collect()
    }
}

fn field<'a>(metadata: &'a str, name: &str) -> Option<&'a str> {
    fields(metadata, name).next()
}

fn fields<'a>(metadata: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    // The description stands below a blank line.
    let head = metadata.lines().take_while(|line| !line.trim().is_empty());
    head.filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn read_capped(path: &Path) -> Option<String> {
    let bytes = fs::metadata(path).ok()?.len();
    (bytes <= FILE_BYTES_MAX)
        .then(|| fs::read(path).ok())?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(packages: &Path, folder: &str, files: &[(&str, &str)]) {
        let info = packages.join(folder);
        fs::create_dir_all(&info).unwrap();
        for (name, text) in files {
            fs::write(info.join(name), text).unwrap();
        }
    }

    #[test]
    fn an_environment_says_which_python_it_has() {
        let of = |file: &str, text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            python_version(folder.path()).map(|version| version.to_string())
        };
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(
            of("pyvenv.cfg", "home = /x\nversion = 3.11.7\n"),
            found("3.11.7")
        );
        let virtualenv = "implementation = CPython\nversion_info = 3.12.1.final.0\n";
        assert_eq!(of("pyvenv.cfg", virtualenv), found("3.12.1"));
        assert_eq!(of("pyvenv.cfg", "home = /x\n"), None);
        let conda = "conda-meta/python-3.10.4-h12debd9_0.json";
        assert_eq!(of(conda, "{}"), found("3.10.4"));
        assert_eq!(of("other", ""), None);
    }

    #[test]
    fn distributions_are_read_and_the_first_folder_wins() {
        let root = tempfile::tempdir().unwrap();
        let [over, under] = ["over", "under"].map(|name| root.path().join(name));
        let six = "Metadata-Version: 2.1\nName: Six\nVersion: 1.17.0\nRequires-Dist: numpy>=1; python_version>'3'\n\
                   Requires-Dist: x; extra == 'y'\n\nName: not this\n";
        put(
            &under,
            "six-1.16.0.dist-info",
            &[("METADATA", "Name: Six\nVersion: 1.16.0\n")],
        );
        put(&over, "six-1.17.0.dist-info", &[("METADATA", six)]);
        let direct = r#"{"url":"file:///src/own","dir_info":{"editable":true}}"#;
        put(
            &under,
            "My_Own-1.0.dist-info",
            &[("METADATA", "Name: My.Own\n"), ("direct_url.json", direct)],
        );
        put(&under, "broken.dist-info", &[]);
        let git = r#"{"url":"https://h/r.git","vcs_info":{"vcs":"git","commit_id":"abc"},"subdirectory":"d"}"#;
        put(
            &under,
            "far-2.dist-info",
            &[("METADATA", "Name: far\n"), ("direct_url.json", git)],
        );
        let all = installed(&[over.clone(), under, root.path().join("none")]);
        let pins: Vec<_> = all.values().map(Distribution::pin).collect();
        assert_eq!(
            pins,
            [
                "far @ git+https://h/r.git@abc#subdirectory=d",
                "-e file:///src/own",
                "Six==1.17.0"
            ]
        );
        let six = &all["six"];
        assert_eq!(six.packages, over);
        assert_eq!(
            six.metadata().requires(),
            BTreeSet::from(["numpy".to_owned()])
        );
    }

    #[test]
    fn what_an_import_would_load_is_read_from_the_record() {
        let root = tempfile::tempdir().unwrap();
        let record = "google/cloud/storage/__init__.py,sha256=x,1\ngoogle/cloud/storage/a/b.py,,\nsix.py,,\n\
                      ../../../bin/six,,\nfast.cpython-311-x86_64-linux-gnu.so,,\n\"a,\"\"b/__init__.py\",,\n\
                      x-1.dist-info/RECORD,,\nlib.libs/libz.so,,\n";
        put(
            root.path(),
            "x-1.dist-info",
            &[("METADATA", "Name: x\n"), ("RECORD", record)],
        );
        let all = installed(&[root.path().to_owned()]);
        let modules: Vec<_> = all["x"].modules().into_iter().collect();
        assert_eq!(
            modules,
            [
                "a,\"b",
                "fast.cpython-311-x86_64-linux-gnu.so",
                "google/cloud/storage",
                "lib.libs/libz.so",
                "six.py"
            ]
        );
    }

    #[test]
    fn requirements_have_names_and_urls_and_paths_have_none() {
        for (requirement, name) in [
            ("NumPy>=2", Some("numpy")),
            (" a.b_c [x] ; python_version > '3'", Some("a-b-c")),
            ("six@https://h/six.whl", Some("six")),
            ("six", Some("six")),
            ("./six", None),
            ("a/b", None),
            ("https://h/x", None),
            ("git+https://h/x", None),
            ("six-1.whl", None),
            ("-e .", None),
            ("", None),
        ] {
            assert_eq!(name_of(requirement).as_deref(), name, "{requirement}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in "[\"a,/=\n;:@ é]{0,40}") {
            name_of(&text);
            recorded(&text);
            field(&text, "a");
            origin(&text);
        }
    }
}
