//! The address of a repository: what git is given, what is shown, and who logs in, which is neither. Pure but for
//! paths that are here.

use std::path::Path;

use crate::error::Error;
use crate::redact::{begins_with_host, has_port, is_end, redacted, without_logins};

/// Where a repository is.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::env) struct Address {
    /// Without a login: it is in argv, and in what git says.
    pub(in crate::env) bare: String,
    pub(in crate::env) login: Option<Login>,
}

/// With what somebody asks for it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::env) struct Login {
    pub(in crate::env) user: String,
    pub(in crate::env) password: Option<String>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.bare)
    }
}

impl Address {
    /// Reads what somebody gives; a path is one here.
    pub(in crate::env) fn of(text: &str) -> Result<Self, Error> {
        let address = Self::parse(text, |path| {
            let path = path.canonicalize().ok()?;
            path.to_str().map(str::to_owned)
        });
        address.map_err(|why| {
            let shown = redacted(text);
            Error::user(format!("{} is no repository: {why}", shown.escape_debug()))
        })
    }

    /// Reads what git takes: a URL, `host:path`, or a path here, which `resolve` makes a whole one.
    fn parse(
        text: &str,
        resolve: impl FnOnce(&Path) -> Option<String>,
    ) -> Result<Self, &'static str> {
        if text.is_empty() || text.starts_with('-') {
            return Err("it is no address");
        }
        if text.chars().any(char::is_control) {
            return Err("it has control characters");
        }
        let address = Self::taken_apart(text, resolve)?;
        let (_, rest) = address.bare.split_once("://").unwrap_or_default();
        let place = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let is_place = begins_with_host(place) || place.contains(':') && has_port(place);
        // Else the rest of a login would be in what git is given.
        match address.login.is_some() || is_place || without_logins(&address.bare) == address.bare {
            true => Ok(address),
            false => Err("its login has what has to be escaped, a slash as %2F"),
        }
    }

    fn taken_apart(
        text: &str,
        resolve: impl FnOnce(&Path) -> Option<String>,
    ) -> Result<Self, &'static str> {
        if let Some(path) = resolve(Path::new(text)) {
            return Ok(Self::plain(&path));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.contains(':') {
                true => Ok(Self::plain(text)),
                false => Err("there is no such folder"),
            };
        };
        // ssh asks by itself, and its user is no secret.
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return match rest.split('/').next() {
                Some(host) if host.contains('@') && password_of(host).is_some() => {
                    Err("its password cannot be given to git: use a key")
                }
                _ => Ok(Self::plain(text)),
            };
        }
        let authority = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        let Some((login, _)) = authority.rsplit_once('@') else {
            return Ok(Self::plain(text));
        };
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let decoded = |text: &str| percent_decoded(text).ok_or("its login is not readable");
        Ok(Self {
            bare: format!("{scheme}://{}", &rest[login.len() + 1..]),
            login: Some(Login {
                user: decoded(user)?,
                password: password.map(decoded).transpose()?,
            }),
        })
    }

    fn plain(text: &str) -> Self {
        Self {
            bare: text.to_owned(),
            login: None,
        }
    }
}

fn password_of(host: &str) -> Option<&str> {
    let (login, _) = host.rsplit_once('@')?;
    Some(login.split_once(':')?.1)
}

/// Nothing for what no line of git's credential protocol can carry.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Address, &'static str> {
        Address::parse(text, |path| {
            (path == Path::new("here")).then(|| "/whole/here".to_owned())
        })
    }

    #[test]
    fn a_login_is_apart_from_what_git_is_given() {
        let address = parse("https://ada:s%40cret%3A@host:8443/a@b.git").unwrap();
        assert_eq!(address.bare, "https://host:8443/a@b.git");
        let login = address.login.clone().unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_deref()),
            ("ada", Some("s@cret:"))
        );
        assert!(!format!("{address:?}").contains("cret"));
        let token = parse("http://token@host/x").unwrap();
        assert_eq!(
            (token.bare.as_str(), token.login.unwrap().password),
            ("http://host/x", None)
        );
    }

    #[test]
    fn what_has_no_secret_is_gits() {
        for text in [
            "https://host/x",
            "ssh://git@host/x",
            "git@host:x.git",
            "https://host:8443/a@b.git",
            "https://forge/a@main",
            "file:///srv/x",
        ] {
            let address = parse(text).unwrap();
            assert_eq!(address.bare, text);
            assert!(address.login.is_none());
        }
        assert_eq!(parse("here").unwrap().bare, "/whole/here");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "--upload-pack=x",
            "nowhere",
            "https://a:b\n@host/x",
            "https://a:b%0a@host/x",
            "https://a:b%f@host/x",
            "ssh://a:b@host/x",
            "https://a:b/c@host/x",
            "https://a:b?c@host/x",
            "https://to/ken@h.example/x",
            "ssh://a:b/c@host/x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_password_is_in_what_git_is_given(user in "[a-z%@:]{0,6}", rest in "[ -~]{0,12}") {
            if let Ok(address) = parse(&format!("https://{user}:SECRET@host/{rest}")) {
                prop_assert!(!address.bare.contains("SECRET"), "{address:?}");
            }
        }
    }
}
