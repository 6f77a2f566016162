//! The JDK of this machine: said by a variable, on the path, or in a usual folder. Nothing of it is run to find it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::env::tool;
use crate::error::Error;
use crate::plain_file;

/// The variable that says which one, before all others.
const OWN: &str = "NB_JAVA_HOME";

/// The oldest release with all that is used here: an HTTP client, and sources that are run as they are.
const OLDEST: u32 = 11;

/// What is needed beside Java itself.
const MODULES: [&str; 2] = ["java.net.http", "jdk.compiler"];

/// Where systems put theirs, each in a folder of its own.
const FOLDERS: [&str; 3] = ["/usr/lib/jvm", "/usr/java", "/opt/java"];

/// The same below a home.
const HOME_FOLDERS: [&str; 2] = [".sdkman/candidates/java", ".jdks"];

/// The file `release` has a few lines.
const RELEASE_BYTES_MAX: u64 = 64 * 1024;

/// Runs what follows so that a Ctrl-C, or an interrupt of the kernel, which come to all of a process group, do not end it: what is
/// ignored stays so, and a JVM leaves it.
pub const UNINTERRUPTED: [&str; 4] = ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "nb"];

/// One that has what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jdk {
    home: PathBuf,
    /// As in 17.
    feature: u32,
    /// What it says of itself: another build says something else.
    release: String,
}

impl Jdk {
    /// The first one that will do.
    pub fn find(var: &impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        if let Some(home) = var(OWN) {
            let home = PathBuf::from(home);
            return Self::at(&home)
                .map_err(|why| Error::user(format!("{OWN} is {}, but {why}", home.display())));
        }
        let mut refused = Vec::new();
        for home in places(var) {
            match Self::at(&home) {
                Ok(jdk) => return Ok(jdk),
                Err(why) => refused.push(format!("{}: {why}", home.display())),
            }
        }
        Err(Error::user(none(&refused)))
    }

    /// The one that lies here, or why it will not do.
    fn at(home: &Path) -> Result<Self, String> {
        if !home.join("bin/java").is_file() {
            return Err("there is no bin/java".to_owned());
        }
        let release = plain_file::text(&home.join("release"), RELEASE_BYTES_MAX).map_err(|_| {
            format!("it does not say which release it is; Java {OLDEST} or later is needed")
        })?;
        let feature = feature(&release).ok_or("it does not say which release it is")?;
        if feature < OLDEST {
            return Err(format!("it is Java {feature}, {OLDEST} or later is needed"));
        }
        let modules = value(&release, "MODULES").unwrap_or_default();
        let has = |module: &&str| modules.split_whitespace().any(|word| word == *module);
        match MODULES.iter().find(|module| !has(module)) {
            Some(module) => Err(format!("it has no {module}, as a JDK has")),
            None => Ok(Self {
                home: home.to_owned(),
                feature,
                release,
            }),
        }
    }

    /// Its program.
    pub fn java(&self) -> PathBuf {
        self.home.join("bin/java")
    }

    /// It as a tool that is run to its end.
    pub(super) fn tool(&self) -> Command {
        let [shell, rest @ ..] = UNINTERRUPTED;
        let mut command = tool::command(shell);
        command.args(rest).arg(self.java());
        command
    }

    /// As in 17.
    pub fn feature(&self) -> u32 {
        self.feature
    }

    /// What tells it from all others.
    pub(super) fn identity(&self) -> String {
        format!("{}\n{}", self.home.display(), self.release)
    }
}

/// Where one may be, the likeliest first.
fn places(var: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = var("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    let path = var("PATH").unwrap_or_default();
    let of_path = std::env::split_paths(&path).find_map(|folder| {
        // What is on the path is a link into its home, as a rule by another one.
        let java = fs::canonicalize(folder.join("java")).ok()?;
        java.ends_with("bin/java")
            .then(|| java.ancestors().nth(2).map(Path::to_owned))?
    });
    places.extend(of_path);
    let home = var("HOME").map(PathBuf::from);
    let below_home = home
        .iter()
        .flat_map(|home| HOME_FOLDERS.map(|folder| home.join(folder)));
    for folder in FOLDERS.map(PathBuf::from).into_iter().chain(below_home) {
        let mut homes: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|home| home.join("bin/java").is_file())
            .collect();
        // Newest first, as far as names tell.
        homes.sort_by(|a, b| b.cmp(a));
        places.extend(homes);
    }
    places
}

fn none(refused: &[String]) -> String {
    let mut text = format!(
        "Scala needs a JDK, Java {OLDEST} or later, and there is none on this machine: install one (on Debian \
         \"apt install openjdk-17-jdk-headless\"), or set {OWN} to the folder of one, and run the cell again"
    );
    if !refused.is_empty() {
        text += &format!(". Looked at: {}", refused.join("; "));
    }
    text
}

/// `JAVA_VERSION="17.0.15"`; before Java 9 it is `1.8.0_402`.
fn feature(release: &str) -> Option<u32> {
    let version = value(release, "JAVA_VERSION")?;
    let mut numbers = version.split(['.', '_', '-', '+']);
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        feature => Some(feature),
    }
}

fn value<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = release.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(home: &Path, version: &str, modules: &str) {
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::write(home.join("bin/java"), "").unwrap();
        let release = format!("A=1\nJAVA_VERSION=\"{version}\"\nMODULES=\"{modules}\"\n");
        fs::write(home.join("release"), release).unwrap();
    }

    const ALL: &str = "java.base java.net.http jdk.compiler";

    #[test]
    fn the_first_that_will_do_is_found_and_the_others_say_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        put(&old, "1.8.0_402", ALL);
        put(&new, "21.0.4", ALL);
        let path = folder.path().join("path");
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink(new.join("bin/java"), path.join("java")).unwrap();
        let var = |name: &str| match name {
            "JAVA_HOME" => Some(old.clone().into()),
            "PATH" => Some(path.clone().into()),
            _ => None,
        };
        let found = Jdk::find(&var).unwrap();
        assert_eq!(
            (found.feature(), found.java()),
            (21, fs::canonicalize(new.join("bin/java")).unwrap())
        );
        let said = |name: &str| (name == OWN).then(|| old.clone().into());
        let refused = Jdk::find(&said).unwrap_err().message;
        assert!(refused.contains("it is Java 8, 11 or later"), "{refused}");
    }

    #[test]
    fn what_is_no_jdk_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Jdk::at(folder.path()).unwrap_err().contains("no bin/java"));
        put(folder.path(), "17", "java.base");
        assert!(
            Jdk::at(folder.path())
                .unwrap_err()
                .contains("java.net.http")
        );
        put(folder.path(), "seventeen", ALL);
        assert!(Jdk::at(folder.path()).is_err());
    }

    #[test]
    fn where_there_is_none_it_says_how_to_get_one() {
        let text = none(&["/x: it is Java 8, 11 or later is needed".to_owned()]);
        assert!(text.contains("apt install") && text.contains("/x: it is Java 8"));
    }
}
