//! Which wheels an interpreter can use, by the tags in their names.
//!
//! Pure. Knows Linux and macOS as far as they are names of platforms.

use super::About;
use crate::env::installed::normal;

/// What a wheel's file name says: `numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelName {
    /// Normalised: small letters, one hyphen between words.
    pub project: String,
    pub version: String,
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// How well a wheel fits; the greater the better.
pub type Rank = (u32, u32, u32);

impl WheelName {
    /// Of a file name; nothing when it is no wheel's.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".whl")?;
        let parts: Vec<&str> = stem.split('-').collect();
        let (project, version, tags) = match parts[..] {
            [project, version, python, abi, platform]
            | [project, version, _, python, abi, platform] => {
                (project, version, [python, abi, platform])
            }
            _ => return None,
        };
        let [pythons, abis, platforms] = tags.map(|tag| tag.split('.').map(str::to_owned));
        Some(Self {
            project: normal(project),
            version: version.to_owned(),
            pythons: pythons.collect(),
            abis: abis.collect(),
            platforms: platforms.collect(),
        })
    }

    /// Whether an interpreter can use it, and how well.
    pub fn fits(&self, about: &About) -> Option<Rank> {
        let platform = self
            .platforms
            .iter()
            .filter_map(|tag| platform_rank(tag, about))
            .max()?;
        let python = self.pythons.iter().flat_map(|python| {
            let abis = self.abis.iter();
            abis.filter_map(move |abi| python_rank(python, abi, about))
        });
        let (python, abi) = python.max()?;
        Some((python, abi, platform))
    }

    /// Whether some interpreter of this machine's kind could use it.
    pub fn is_for_platform(&self, about: &About) -> bool {
        let mut tags = self.platforms.iter();
        tags.any(|tag| platform_rank(tag, about).is_some())
    }

    /// Its tags as they are written.
    pub fn tags(&self) -> String {
        [&self.pythons, &self.abis, &self.platforms]
            .map(|tags| tags.join("."))
            .join("-")
    }
}

fn python_rank(python: &str, abi: &str, about: &About) -> Option<(u32, u32)> {
    let (major, minor) = (about.version.number(0), about.version.number(1));
    let digits = python.find(|c: char| c.is_ascii_digit())?;
    let (kind, number) = python.split_at(digits);
    let (tag_major, tag_minor) = number.split_at(1);
    if tag_major.parse() != Ok(major) {
        return None;
    }
    let tag_minor = match tag_minor {
        "" => None,
        digits => Some(digits.parse::<u32>().ok()?),
    };
    let is_cpython = about.implementation == "CPython";
    match (kind, tag_minor) {
        ("py", None) if abi == "none" => Some((0, 0)),
        ("py", Some(tag)) if abi == "none" && tag <= minor => Some((1 + tag, 0)),
        ("cp", Some(tag)) if is_cpython && abi == "abi3" => {
            (tag <= minor && !about.free_threaded).then_some((200 + tag, 1))
        }
        ("cp", Some(tag)) if is_cpython && tag == minor => {
            let own = match (about.free_threaded, about.debug) {
                (true, _) => format!("cp{number}t"),
                (false, true) => format!("cp{number}d"),
                // Until 3.8 Python had marked its allocator.
                (false, false) if minor < 8 => format!("cp{number}m"),
                (false, false) => format!("cp{number}"),
            };
            match abi {
                "none" => Some((200 + tag, 0)),
                abi if abi == own => Some((200 + tag, 2)),
                _ => None,
            }
        }
        ("cp", None) if is_cpython && abi == "none" => Some((0, 1)),
        ("pp", Some(tag)) if about.implementation == "PyPy" && tag == minor => {
            // pypy39_pp73, of a SOABI of `pypy39-pp73`.
            let own = about.soabi.replace('-', "_");
            (abi == "none" || own.starts_with(abi)).then_some((200 + tag, 2))
        }
        _ => None,
    }
}

fn platform_rank(tag: &str, about: &About) -> Option<u32> {
    if tag == "any" {
        return Some(0);
    }
    let own = about.platform.replace(['-', '.'], "_");
    if tag == own {
        return Some(1);
    }
    if let Some(machine) = own.strip_prefix("linux_") {
        let at_most = |version: &str, family: &str| -> Option<u32> {
            let text = tag
                .strip_prefix(family)?
                .strip_suffix(machine)?
                .strip_suffix('_')?;
            let (tag_major, tag_minor) = text.split_once('_')?;
            let (major, minor) = version.split_once('.')?;
            let number = |text: &str| text.parse::<u32>().ok();
            let asked = (number(tag_major)?, number(tag_minor)?);
            (asked <= (number(major)?, number(minor)?)).then(|| 100 + asked.1.min(1000))
        };
        let older = [
            ("manylinux1_", "manylinux_2_5_"),
            ("manylinux2010_", "manylinux_2_12_"),
            ("manylinux2014_", "manylinux_2_17_"),
        ];
        if let Some((old, new)) = older.iter().find(|(old, _)| tag.starts_with(old)) {
            return platform_rank(&tag.replacen(old, new, 1), about);
        }
        return match about.glibc.is_empty() {
            false => at_most(&about.glibc, "manylinux_"),
            // musl says nothing of its version; wheels are for 1.1 and 1.2, and 1.2 has been there since 2020.
            true => at_most("1.2", "musllinux_"),
        };
    }
    let (major, minor, machine) = mac(&own)?;
    let (tag_major, tag_minor, tag_machine) = mac(tag)?;
    let is_machine = tag_machine == machine || tag_machine == "universal2";
    (is_machine && (tag_major, tag_minor) <= (major, minor)).then(|| 100 + tag_major)
}

/// `macosx_11_0_arm64`
fn mac(tag: &str) -> Option<(u32, u32, &str)> {
    let mut parts = tag.strip_prefix("macosx_")?.splitn(3, '_');
    let (major, minor) = (parts.next()?, parts.next()?);
    Some((major.parse().ok()?, minor.parse().ok()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn about(version: &str) -> About {
        About {
            implementation: "CPython".to_owned(),
            version: version.parse().unwrap(),
            free_threaded: false,
            debug: false,
            soabi: String::new(),
            platform: "linux-x86_64".to_owned(),
            glibc: "2.36".to_owned(),
        }
    }

    fn fits(name: &str, about: &About) -> bool {
        WheelName::parse(name).unwrap().fits(about).is_some()
    }

    #[test]
    fn wheels_fit_by_python_abi_and_platform() {
        let (eleven, seven) = (about("3.11.7"), about("3.7.16"));
        for name in [
            "six-1.16.0-py2.py3-none-any.whl",
            "a-1-py38-none-any.whl",
            "a-1-cp311-none-any.whl",
            "numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1-1build-cp38-abi3-manylinux1_x86_64.whl",
            "a-1-cp311-cp311-linux_x86_64.whl",
        ] {
            assert!(fits(name, &eleven), "{name}");
        }
        for name in [
            "a-1-py2-none-any.whl",
            "a-1-py312-none-any.whl",
            "a-1-cp310-cp310-manylinux_2_17_x86_64.whl",
            "a-1-cp312-abi3-manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311t-manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_40_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
            "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
            "a-1-cp311-cp311-win_amd64.whl",
            "a-1-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl",
        ] {
            assert!(!fits(name, &eleven), "{name}");
        }
        assert!(fits("a-1-cp37-cp37m-manylinux2010_x86_64.whl", &seven));
        let mut free = about("3.13.0");
        free.free_threaded = true;
        assert!(fits("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", &free));
        assert!(!fits("a-1-cp313-cp313-manylinux_2_17_x86_64.whl", &free));
        assert!(!fits("a-1-cp38-abi3-manylinux_2_17_x86_64.whl", &free));
        let mut musl = about("3.11.7");
        musl.glibc.clear();
        assert!(fits("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", &musl));
        let mut mac = about("3.11.7");
        mac.platform = "macosx-14.0-arm64".to_owned();
        assert!(fits("a-1-cp311-cp311-macosx_11_0_universal2.whl", &mac));
        assert!(!fits("a-1-cp311-cp311-macosx_15_0_arm64.whl", &mac));
        let mut pypy = about("3.9.18");
        pypy.implementation = "PyPy".to_owned();
        pypy.soabi = "pypy39-pp73-x86_64-linux-gnu".to_owned();
        assert!(fits(
            "a-1-pp39-pypy39_pp73-manylinux_2_17_x86_64.whl",
            &pypy
        ));
        assert!(!fits("a-1-cp39-cp39-manylinux_2_17_x86_64.whl", &pypy));
    }

    #[test]
    fn the_closest_wheel_is_the_best() {
        let about = about("3.11.7");
        let rank = |name: &str| WheelName::parse(name).unwrap().fits(&about);
        let worse_to_better = [
            "a-1-py3-none-any.whl",
            "a-1-cp39-abi3-manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_17_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        ];
        let ranks = worse_to_better.map(rank);
        assert!(ranks.is_sorted() && ranks[0].is_some(), "{ranks:?}");
    }

    #[test]
    fn names_are_taken_apart() {
        let name = WheelName::parse("Ruamel.yaml__clib-0.2-py3-none-any.whl").unwrap();
        assert_eq!(
            (&*name.project, &*name.version),
            ("ruamel-yaml-clib", "0.2")
        );
        assert_eq!(name.tags(), "py3-none-any");
        assert_eq!(WheelName::parse("six-1.16.0.tar.gz"), None);
        assert_eq!(WheelName::parse("six-1.whl"), None);
    }

    proptest! {
        #[test]
        fn any_name_is_taken_without_a_panic(name in "[a-z0-9._é-]{0,40}") {
            if let Some(name) = WheelName::parse(&format!("{name}.whl")) {
                name.fits(&about("3.11.7"));
            }
            python_rank(&name, "none", &about("3.11.7"));
            platform_rank(&format!("manylinux_{name}"), &about("3.11.7"));
        }
    }
}
