//! Which variables a kernel gets: of the gateway's own environment, of a client's request, of the process
//! that starts it for itself. Pure.
//!
//! Names of one kind are never passed on, whatever is allowed: secrets of ours, and what would describe
//! another kernel.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// What no kernel gets of ours and no client may set.
const WITHHELD: [&str; 3] = ["NB_TOKEN", "JPY_PARENT_PID", "PYTHONEXECUTABLE"];
const WITHHELD_PREFIXES: [&str; 4] = ["NB_AUTH_", "NB_SERVER_", "NB_KERNELS_", "NB_PACKAGES_"];

/// What every kernel gets of the gateway's environment: where programs, people and files are and how they
/// are written. None of these is where people keep secrets.
const BASE: [&str; 25] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "VIRTUAL_ENV",
    "CONDA_*",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "JAVA_HOME",
    "NB_JAVA_HOME",
    "JAVA_OPTS",
    "COURSIER_CACHE",
    "R_HOME",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
    "JUPYTER_PATH",
    "JUPYTER_DATA_DIR",
    "JUPYTER_CONFIG_DIR",
];

/// What clients may always set.
const OF_CLIENTS: &str = "KERNEL_";

/// The path of the notebook, as jupyter_server calls it. Clients may set it too: it is a label.
pub const SESSION_NAME: &str = "JPY_SESSION_NAME";

/// The workspace that a client's kernel is to begin in, and the folder.
pub const WORKSPACE: &str = "KERNEL_WORKSPACE";
pub const WORKING_DIR: &str = "KERNEL_WORKING_DIR";

/// An environment.
pub type Variables = BTreeMap<String, String>;

/// What kernels get of the gateway's own environment, `more` being names and patterns beside the usual ones.
pub fn inherited(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    more: &[String],
) -> Variables {
    let mut variables = of_caller(environment);
    variables.retain(|name, _| {
        // A gateway that is itself run by one has what describes a kernel that is none of its own.
        is_passed_on(name, more) && !is_withheld(name) && !name.starts_with(OF_CLIENTS)
    });
    variables
}

/// Whether this one is among the usual ones, or of these names and patterns.
pub fn is_passed_on(name: &str, more: &[String]) -> bool {
    let usual = || BASE.iter().any(|pattern| matches(pattern, name));
    usual() || more.iter().any(|pattern| matches(pattern, name))
}

/// What the kernel of somebody's own process gets of that one's environment: all but a few secrets.
pub fn of_caller(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
    environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !WITHHELD.contains(&name.as_str()))
        .collect()
}

/// Whether a client may set this one, `allowed` being names and patterns beside `KERNEL_*`.
pub fn may_be_set(name: &str, allowed: &[String]) -> bool {
    let is_allowed = || allowed.iter().any(|pattern| matches(pattern, name));
    name.starts_with(OF_CLIENTS) || name == SESSION_NAME || is_allowed() && !is_withheld(name)
}

/// Whether this one is never passed on.
pub fn is_withheld(name: &str) -> bool {
    WITHHELD.contains(&name)
        || WITHHELD_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Whether a name is of this pattern, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The first place is as good as any: what follows has the more room.
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variables: &Variables) -> Vec<&str> {
        variables.keys().map(String::as_str).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn environment() -> Vec<(OsString, OsString)> {
        let names = [
            "NB_TOKEN",
            "NB_AUTH_TOKEN_FILE",
            "NB_SERVER_PORT",
            "NB_KERNELS_ENV_INHERITED",
            "JPY_PARENT_PID",
            "KERNEL_ID",
            "AWS_SECRET_ACCESS_KEY",
            "SPARK_HOME",
            "LC_ALL",
            "PATH",
        ];
        names.map(|name| (name.into(), "x".into())).to_vec()
    }

    #[test]
    fn the_usual_is_inherited_and_what_is_named_and_never_a_secret_of_ours() {
        let kept = |more: &[&str]| inherited(environment(), &texts(more));
        assert_eq!(names(&kept(&[])), ["LC_ALL", "PATH"]);
        assert_eq!(names(&kept(&["SPARK_*"])), ["LC_ALL", "PATH", "SPARK_HOME"]);
        let all = ["AWS_SECRET_ACCESS_KEY", "LC_ALL", "PATH", "SPARK_HOME"];
        assert_eq!(names(&kept(&["*"])), all);
        assert_eq!(names(&kept(&["NB_TOKEN", "KERNEL_*"])), ["LC_ALL", "PATH"]);
        // Whoever starts a kernel of their own passes on what they have.
        let own = of_caller(environment());
        assert!(own.contains_key("KERNEL_ID") && own.contains_key("AWS_SECRET_ACCESS_KEY"));
        assert!(!own.contains_key("NB_TOKEN") && !own.contains_key("JPY_PARENT_PID"));
    }

    #[test]
    fn clients_set_what_is_theirs_and_what_is_allowed() {
        for (name, allowed, may) in [
            ("KERNEL_X", [].as_slice(), true),
            ("PATH", &[], false),
            ("PATH", &["PATH"], true),
            ("PATH", &["*"], true),
            ("MY_PATH", &["PATH"], false),
            ("NB_TOKEN", &["*"], false),
            ("NB_SERVER_PORT", &["NB_*"], false),
            ("JPY_PARENT_PID", &["JPY_PARENT_PID"], false),
        ] {
            assert_eq!(may_be_set(name, &texts(allowed)), may, "{name} {allowed:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("A*", "A", true),
            ("A*", "BA", false),
            ("*A", "BA", true),
            ("*_proxy", "http_proxy", true),
            ("A*B*C", "AxBxC", true),
            ("A*B*C", "AxCxB", false),
            ("A*A", "A", false),
            ("A*B*B", "AB", false),
            ("", "A", false),
            ("A**B", "AB", true),
            ("a", "A", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }
}
