//! Logins in addresses: taken out, looked at, put in. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::redact::{self, is_end, percent_encoded};

/// A name that is at least as long is a token.
const TOKEN_BYTES_MIN: usize = 16;

/// Who asks, with what.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    /// Without it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// One that is in nothing from now on that is shown.
    pub(super) fn learned(user: String, password: String) -> Self {
        redact::learn(&user, &password);
        if password.is_empty() && user.len() >= TOKEN_BYTES_MIN {
            redact::learn("", &user);
        }
        Self { user, password }
    }
}

/// A server of the web, as far as a login is for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    /// `https`, or `http`.
    scheme: &'static str,
    /// In small letters, without a port.
    pub(super) host: String,
    /// With a colon, if there is one.
    port: String,
}

impl Server {
    /// Host and port.
    pub(super) fn authority(&self) -> String {
        format!("{}{}", self.host, self.port)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.host, self.port)
    }
}

/// An address in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) server: Server,
    pub(super) login: Option<Login>,
    /// A repository of git.
    pub(super) is_git: bool,
}

/// The addresses in a line, and the line without their logins.
pub(super) fn apart(line: &str, env: &BTreeMap<String, String>) -> (String, Vec<Address>) {
    let (mut bare, mut found, mut rest) = (String::new(), Vec::new(), line);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        rest = after;
        bare.push_str(before);
        let mut words =
            before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c));
        let scheme = words.next().unwrap_or_default().to_ascii_lowercase();
        let (scheme, is_git) = match scheme.strip_prefix("git+") {
            Some(scheme) => (scheme, true),
            None => (&*scheme, false),
        };
        let scheme = match scheme {
            "https" => "https",
            "http" => "http",
            _ => continue,
        };
        let authority = &after[..after.find(is_end).unwrap_or(after.len())];
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        // Of `[::1]:80` the last colon is that of the port.
        let port = host
            .rfind(':')
            .filter(|colon| host[*colon..].find(']').is_none());
        let (host, port) = host.split_at(port.unwrap_or(host.len()));
        let port = match (scheme, port) {
            ("https", ":443") | ("http", ":80") => "",
            (_, port) => port,
        };
        if let Some(login) = login {
            rest = &after[login.len() + 1..];
        }
        found.push(Address {
            server: Server {
                scheme,
                host: host.to_ascii_lowercase(),
                port: port.to_owned(),
            },
            login: login
                .filter(|login| !login.is_empty())
                .map(|login| read(&expanded(login, env))),
            is_git,
        });
    }
    bare.push_str(rest);
    (bare, found)
}

fn read(login: &str) -> Login {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Login::learned(decoded(user), decoded(password))
}

/// The same address with this login instead of its own.
pub(super) fn with_login(url: &str, login: &Login) -> String {
    let Some(at) = url.find("://") else {
        return url.to_owned();
    };
    let (scheme, after) = url.split_at(at + 3);
    let end = after.find(is_end).unwrap_or(after.len());
    let host = match after[..end].rfind('@') {
        Some(at) => &after[at + 1..],
        None => after,
    };
    let user = percent_encoded(&login.user);
    let password = match login.password.as_str() {
        "" => String::new(),
        password => format!(":{}", percent_encoded(password)),
    };
    format!("{scheme}{user}{password}@{host}")
}

/// The same address with its login as it has to be written: people forget that an `@` in it is a `%40`.
pub(super) fn sound(url: &str, env: &BTreeMap<String, String>) -> String {
    let (bare, addresses) = apart(url, env);
    match &*addresses {
        [
            Address {
                login: Some(login), ..
            },
        ] => with_login(&bare, login),
        _ => url.to_owned(),
    }
}

/// `${NAME}` as pip has it in requirement files; one that is not set stays.
pub(super) fn expanded(text: &str, env: &BTreeMap<String, String>) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        whole.push_str(before);
        let end = after.find('}');
        let value = end.and_then(|end| env.get(&after[2..end]));
        match (end, value) {
            (Some(end), Some(value)) => {
                whole.push_str(&percent_encoded(value));
                rest = &after[end + 1..];
            }
            _ => {
                whole.push_str("${");
                rest = &after[2..];
            }
        }
    }
    whole + rest
}

/// What is no sound percent encoding stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_login_is_apart_from_its_line() {
        let env = BTreeMap::from([("TOKEN".to_owned(), "s/cret".to_owned())]);
        let login = |user: &str, password: &str| {
            Some(Login {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        for (line, bare, server, is_git, expected) in [
            (
                "x @ https://ada:s%40cret@Host:8443/x.whl ; a=='b'",
                "x @ https://Host:8443/x.whl ; a=='b'",
                "https://host:8443",
                false,
                login("ada", "s@cret"),
            ),
            (
                "git+https://a-long-token-of-a-forge@host/r.git@main",
                "git+https://host/r.git@main",
                "https://host",
                true,
                login("a-long-token-of-a-forge", ""),
            ),
            (
                "http://u:${TOKEN}@[::1]:80/",
                "http://[::1]:80/",
                "http://[::1]",
                false,
                login("u", "s/cret"),
            ),
            ("https://host", "https://host", "https://host", false, None),
            ("https://@host", "https://host", "https://host", false, None),
            (
                "# siehe „https://host“",
                "# siehe „https://host“",
                "https://host“",
                false,
                None,
            ),
        ] {
            let (found, addresses) = apart(line, &env);
            assert_eq!(found, bare);
            let [address] = &*addresses else {
                panic!("{addresses:?}")
            };
            assert_eq!(address.server.to_string(), server);
            assert_eq!((&address.login, address.is_git), (&expected, is_git));
        }
        let (line, none) = apart("git+ssh://git@host/r six==1", &env);
        assert_eq!((&*line, none.len()), ("git+ssh://git@host/r six==1", 0));
    }

    #[test]
    fn a_login_is_put_into_an_address() {
        let login = Login {
            user: "a".to_owned(),
            password: "p@/:".to_owned(),
        };
        for (url, whole) in [
            ("https://host/simple/", "https://a:p%40%2F%3A@host/simple/"),
            ("own=https://b@host", "own=https://a:p%40%2F%3A@host"),
            ("https://host/a@b", "https://a:p%40%2F%3A@host/a@b"),
        ] {
            assert_eq!(with_login(url, &login), whole);
        }
    }

    #[test]
    fn a_login_is_written_as_it_has_to_be() {
        let env = BTreeMap::from([("PW".to_owned(), "p@".to_owned())]);
        for (url, written) in [
            ("https://a:s@cret@h/x", "https://a:s%40cret@h/x"),
            ("https://a:s%40@h/x", "https://a:s%40@h/x"),
            ("https://a:${PW}@h/x", "https://a:p%40@h/x"),
            ("own=https://token@h/x", "own=https://token@h/x"),
            ("/wheels", "/wheels"),
        ] {
            assert_eq!(sound(url, &env), written);
        }
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out_and_nothing_is_left(
            user in "[!-~]{1,10}", password in "[ -~]{0,20}", line in "(https?|://|@|:|[ -~éß„]){0,30}",
        ) {
            let login = Login { user, password };
            let url = with_login("https://host/simple/", &login);
            let (bare, found) = apart(&url, &BTreeMap::new());
            prop_assert_eq!(bare, "https://host/simple/");
            // What looks like a variable is one.
            prop_assert_eq!(found[0].login.as_ref(), Some(&login));
            let _any = apart(&line, &BTreeMap::new());
        }
    }
}
