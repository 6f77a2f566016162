//! Where jars come from: the repositories that coursier or Maven is set to on this machine, else Maven Central.
//!
//! ```text
//! COURSIER_REPOSITORIES, else coursier's mirror.properties, else a mirror in Maven's settings.xml
//! ```
//!
//! Libraries that cells ask for come from the same ones.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;
use crate::plain_file;

/// What is asked when nothing else is said.
const CENTRAL: &str = "https://repo1.maven.org/maven2";

/// The variable by which coursier is told, and the mark between what it names.
const OF_COURSIER: &str = "COURSIER_REPOSITORIES";
const MARK: char = '|';

/// Settings are text that people write.
const SETTINGS_BYTES_MAX: u64 = 1024 * 1024;

/// The repositories of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repositories {
    /// The addresses that jars are asked of, in this order; a login may be in them.
    pub(super) bases: Vec<String>,
    /// What coursier is to be told, if its own default is another.
    pub(super) of_coursier: Option<String>,
}

impl Repositories {
    /// Those of whoever has this environment.
    pub(super) fn of(var: &impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let said = var(OF_COURSIER).and_then(|said| said.into_string().ok());
        if let Some(said) = said.filter(|said| !said.trim().is_empty()) {
            let bases = named(&said);
            if bases.is_empty() {
                return Err(Error::user(format!(
                    "{OF_COURSIER} names no repository that the kernel's jars can come from: an address, or \"central\""
                )));
            }
            return Ok(Self {
                bases,
                of_coursier: Some(said),
            });
        }
        let home = var("HOME").map(PathBuf::from).unwrap_or_default();
        let config = var("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
        let text = |path: PathBuf| plain_file::text(&path, SETTINGS_BYTES_MAX).unwrap_or_default();
        // Coursier reads its own.
        if let Some(mirror) = mirror_of_properties(&text(config.join("coursier/mirror.properties")))
        {
            return Ok(Self {
                bases: vec![mirror],
                of_coursier: None,
            });
        }
        Ok(
            match mirror_of_settings(&text(home.join(".m2/settings.xml"))) {
                Some(mirror) => Self {
                    of_coursier: Some(format!("ivy2Local{MARK}{mirror}")),
                    bases: vec![mirror],
                },
                None => Self {
                    bases: vec![CENTRAL.to_owned()],
                    of_coursier: None,
                },
            },
        )
    }

    /// The environment of what asks coursier.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.of_coursier
            .iter()
            .map(|said| (OF_COURSIER, said.as_str()))
    }
}

/// The addresses among the names.
fn named(said: &str) -> Vec<String> {
    said.split(MARK)
        .map(str::trim)
        .filter_map(|name| match name {
            "central" => Some(CENTRAL.to_owned()),
            name if is_address(name) => Some(name.trim_end_matches('/').to_owned()),
            _ => None,
        })
        .collect()
}

fn is_address(text: &str) -> bool {
    ["https://", "http://", "file://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// `NAME.from=` with Central's address, and `NAME.to=…`.
fn mirror_of_properties(text: &str) -> Option<String> {
    let host = CENTRAL.split('/').nth(2)?;
    let pairs = || text.lines().filter_map(|line| line.split_once('='));
    let (name, _) = pairs()
        .filter_map(|(key, value)| Some((key.trim().strip_suffix(".from")?, value)))
        .find(|(_, from)| from.contains(host))?;
    let to = pairs()
        .find(|(key, _)| key.trim().strip_suffix(".to") == Some(name))?
        .1;
    let to = to
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('/');
    is_address(to).then(|| to.to_owned())
}

/// The first `<mirror>` of Maven's settings that is one of Central. No more of XML is understood than such a file has.
fn mirror_of_settings(xml: &str) -> Option<String> {
    let xml = without_comments(xml);
    let mut rest = &xml[..];
    while let Some(mirror) = element(rest, "mirror") {
        let of = element(mirror, "mirrorOf").unwrap_or_default();
        let mut names = of.split(',').map(str::trim);
        let is_of_central = names.any(|of| matches!(of, "*" | "central" | "external:*"))
            && !of.split(',').any(|of| of.trim() == "!central");
        let url = element(mirror, "url")
            .unwrap_or_default()
            .trim()
            .trim_end_matches('/');
        if is_of_central && is_address(url) {
            return Some(url.replace("&amp;", "&"));
        }
        rest = rest.split_once("</mirror>")?.1;
    }
    None
}

fn without_comments(xml: &str) -> String {
    let mut kept = String::new();
    let mut rest = xml;
    while let Some((before, comment)) = rest.split_once("<!--") {
        kept += before;
        rest = comment.split_once("-->").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// What is in the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_coursier_is_set_to_counts_first() {
        let var = |said: &'static str| {
            move |name: &str| (name == OF_COURSIER).then(|| OsString::from(said))
        };
        let own = Repositories::of(&var("ivy2Local|https://a.example/m/|central")).unwrap();
        assert_eq!(own.bases, ["https://a.example/m", CENTRAL]);
        assert_eq!(own.variables().count(), 1);
        assert!(Repositories::of(&var("ivy2Local")).is_err());
    }

    #[test]
    fn mirrors_of_central_are_found_in_what_people_have() {
        let home = tempfile::tempdir().unwrap();
        let var = |name: &str| (name == "HOME").then(|| home.path().into());
        let found = || Repositories::of(&var).unwrap();
        assert_eq!(
            (found().bases, found().of_coursier),
            (vec![CENTRAL.to_owned()], None)
        );
        let settings = "<settings><mirrors><!-- <mirror><mirrorOf>*</mirrorOf><url>https://no</url></mirror> -->\
            <mirror><id>b</id><mirrorOf>external:http:*</mirrorOf><url>http://0.0.0.0/</url></mirror>\
            <mirror><id>m</id><mirrorOf>*</mirrorOf><url>\nhttps://m.example/all/ </url></mirror></mirrors></settings>";
        std::fs::create_dir(home.path().join(".m2")).unwrap();
        std::fs::write(home.path().join(".m2/settings.xml"), settings).unwrap();
        assert_eq!(found().bases, ["https://m.example/all"]);
        assert_eq!(
            found().of_coursier.unwrap(),
            "ivy2Local|https://m.example/all"
        );
        let coursier = home.path().join(".config/coursier");
        std::fs::create_dir_all(&coursier).unwrap();
        let properties = format!("# x\nc.from = {CENTRAL}\nc.to = https://c.example\n");
        std::fs::write(coursier.join("mirror.properties"), properties).unwrap();
        assert_eq!(found().bases, ["https://c.example"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in "(<mirror>|</mirror>|<mirrorOf>|<!--|-->|\\PC)*") {
            let _ = (mirror_of_settings(&text), mirror_of_properties(&text), named(&text));
        }
    }
}
