//! Whether a pex fits an interpreter, and which of its distributions are for that one.
//!
//! Pure: what it says of itself, the names of its wheels, what the interpreter is.

use super::info::PexInfo;
use crate::env::interpreters::{About, Rank, Wanted, WheelName};

/// Why a pex is not for an interpreter; each reads on after the pex's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Its own constraints, which may be several.
    Constraint(String),
    /// It has no wheel of this project that can be used, but these.
    Wheels { project: String, tags: String },
    /// It asks for something that cannot be understood.
    Malformed(String),
}

/// The wheels for one interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// File names.
    pub(super) wheels: Vec<(String, WheelName)>,
    /// Projects that are only there for other platforms.
    pub(super) left_out: Vec<String>,
}

pub(super) fn choose(info: &PexInfo, about: &About) -> Result<Chosen, Misfit> {
    constraints(info, about)?;
    let mut chosen = Chosen::default();
    let mut wheels = Vec::new();
    for name in info.distributions.keys() {
        let wheel = WheelName::parse(name)
            .ok_or_else(|| Misfit::Malformed(format!("{name} in it has no name of a wheel")))?;
        wheels.push((name, wheel));
    }
    wheels.sort_by(|(_, one), (_, other)| one.project.cmp(&other.project));
    let by_project = || wheels.chunk_by(|(_, one), (_, other)| one.project == other.project);
    let is_for_many = by_project().any(|wheels| wheels.len() > 1);
    for wheels in by_project() {
        let ranked = wheels.iter().filter_map(|it| Some((it.1.fits(about)?, it)));
        let best = ranked.max_by_key(|(rank, _): &(Rank, _)| *rank);
        if let Some((_, (name, wheel))) = best {
            chosen.wheels.push(((*name).clone(), wheel.clone()));
            continue;
        }
        let Some((_, first)) = wheels.first() else {
            continue;
        };
        // What a pex for several platforms has for another one only, nothing here asks for.
        if is_for_many && !wheels.iter().any(|(_, wheel)| wheel.is_for_platform(about)) {
            chosen.left_out.push(first.project.clone());
            continue;
        }
        let tags: Vec<_> = wheels.iter().map(|(_, wheel)| wheel.tags()).collect();
        return Err(Misfit::Wheels {
            project: format!("{} {}", first.project, first.version),
            tags: tags.join(" and "),
        });
    }
    Ok(chosen)
}

fn constraints(info: &PexInfo, about: &About) -> Result<(), Misfit> {
    let asked = &info.interpreter_constraints;
    let mut fits = asked.is_empty();
    for one in asked {
        let wanted: Wanted = one.parse().map_err(|_| {
            Misfit::Malformed(format!(
                "its interpreter constraint {one:?} cannot be understood"
            ))
        })?;
        fits |= wanted.is(about);
    }
    match fits {
        true => Ok(()),
        false => Err(Misfit::Constraint(asked.join(" or "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::interpreters::tests::about;

    fn info(constraints: &[&str], wheels: &[&str]) -> PexInfo {
        PexInfo {
            interpreter_constraints: constraints.iter().map(|&one| one.to_owned()).collect(),
            distributions: wheels
                .iter()
                .map(|&name| (name.to_owned(), String::new()))
                .collect(),
            ..PexInfo::default()
        }
    }

    const ELEVEN: &str = "numpy-2-cp311-cp311-manylinux_2_17_x86_64.whl";
    const TWELVE: &str = "numpy-2-cp312-cp312-manylinux_2_17_x86_64.whl";

    #[test]
    fn one_constraint_has_to_hold() {
        let eleven = about("CPython", "3.11.7");
        for (constraints, fits) in [
            (&[][..], true),
            (&["CPython>=3.9,<3.12"], true),
            (&["CPython<3.12,>=3.9"], true),
            (&["==3.9.*", "==3.11.*"], true),
            (&["CPython==3.9.*"], false),
            (&["PyPy>=3.9"], false),
        ] {
            let fit = choose(&info(constraints, &[]), &eleven);
            assert_eq!(fit.is_ok(), fits, "{constraints:?} {fit:?}");
        }
        let two = choose(&info(&["==3.8.*", "==3.9.*"], &[]), &eleven);
        assert_eq!(
            two,
            Err(Misfit::Constraint("==3.8.* or ==3.9.*".to_owned()))
        );
        let odd = choose(&info(&["Jython?"], &[]), &eleven);
        assert!(matches!(odd, Err(Misfit::Malformed(_))));
    }

    #[test]
    fn the_wheel_for_the_interpreter_is_chosen() {
        let eleven = about("CPython", "3.11.7");
        let names = |info: &PexInfo| {
            let chosen = choose(info, &eleven).unwrap();
            let names = chosen.wheels.into_iter().map(|(name, _)| name);
            (names.collect::<Vec<_>>(), chosen.left_out)
        };
        let six = "six-1.16.0-py2.py3-none-any.whl";
        let windows = "pywin32-1-cp311-cp311-win_amd64.whl";
        let both = info(&[], &[TWELVE, six, ELEVEN, windows]);
        let expected = [ELEVEN, six].map(str::to_owned).to_vec();
        assert_eq!(names(&both), (expected, vec!["pywin32".to_owned()]));
        let none = choose(&info(&[], &[TWELVE]), &eleven);
        let tags = "cp312-cp312-manylinux_2_17_x86_64".to_owned();
        let project = "numpy 2".to_owned();
        assert_eq!(none, Err(Misfit::Wheels { project, tags }));
        let only = choose(&info(&[], &[windows]), &eleven);
        assert!(matches!(only, Err(Misfit::Wheels { .. })));
        assert!(matches!(
            choose(&info(&[], &["six.zip"]), &eleven),
            Err(Misfit::Malformed(_))
        ));
    }
}
