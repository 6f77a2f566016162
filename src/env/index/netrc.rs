//! Files of logins by host, in the format of ftp's `.netrc`. Pure.

use super::login::Login;

/// The logins of a file, in its order; no host is that of all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Netrc(Vec<(Option<String>, Login)>);

impl Netrc {
    /// What cannot be read is left out, as other programs do.
    pub(super) fn read(text: &str) -> Self {
        let mut found = Vec::new();
        let mut lines = text.lines().peekable();
        let mut entry: Option<(Option<String>, [String; 2])> = None;
        while let Some(line) = lines.next() {
            let words = words(line);
            let mut words = words.iter();
            while let Some(word) = words.next() {
                let (at, next) = match word.as_str() {
                    "machine" => (None, words.next().cloned()),
                    "default" => (None, None),
                    "login" => (Some(0), words.next().cloned()),
                    "password" => (Some(1), words.next().cloned()),
                    "account" => {
                        words.next();
                        continue;
                    }
                    "macdef" => {
                        // Up to an empty line.
                        while lines.next_if(|line| !line.trim().is_empty()).is_some() {}
                        break;
                    }
                    comment if comment.starts_with('#') => break,
                    _ => continue,
                };
                match (at, &mut entry) {
                    (None, _) => {
                        let host = next.map(|host| host.to_ascii_lowercase());
                        found.extend(entry.replace((host, Default::default())));
                    }
                    (Some(at), Some((_, login))) => login[at] = next.unwrap_or_default(),
                    (Some(_), None) => {}
                }
            }
        }
        found.extend(entry);
        let learned = found
            .into_iter()
            .map(|(host, [user, password])| (host, Login::learned(user, password)));
        Self(learned.collect())
    }

    /// Who asks this host.
    pub(super) fn find(&self, host: &str) -> Option<&Login> {
        let of = |wanted: Option<&str>| self.0.iter().find(|(known, _)| known.as_deref() == wanted);
        of(Some(host))
            .or_else(|| of(None))
            .map(|(_, login)| login)
            .filter(|login| !login.user.is_empty() || !login.password.is_empty())
    }

    /// The same with these, which win.
    pub(super) fn below(self, logins: impl IntoIterator<Item = (String, Login)>) -> Self {
        let mut all: Vec<_> = logins
            .into_iter()
            .map(|(host, login)| (Some(host), login))
            .collect();
        for (host, login) in self.0 {
            if !all.iter().any(|(known, _)| *known == host) {
                all.push((host, login));
            }
        }
        // One for all others comes last, or nobody looks behind it.
        all.sort_by_key(|(host, _)| host.is_none());
        Self(all)
    }

    /// As a file.
    pub(super) fn write(&self) -> String {
        let entries = self.0.iter().map(|(host, login)| {
            let host = host
                .as_ref()
                .map_or_else(|| "default".to_owned(), |host| format!("machine {host}"));
            format!(
                "{host} login {} password {}\n",
                quoted(&login.user),
                quoted(&login.password)
            )
        });
        entries.collect()
    }
}

/// A word that may be in quotes, in which a backslash keeps what follows.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while letters.next_if(|c| c.is_whitespace()).is_some() || letters.peek().is_some() {
        let mut word = String::new();
        let is_quoted = letters.next_if_eq(&'"').is_some();
        let mut is_word = is_quoted;
        while let Some(c) = letters.peek().copied() {
            if is_quoted && c == '"' {
                letters.next();
                break;
            }
            if !is_quoted && c.is_whitespace() {
                break;
            }
            letters.next();
            is_word = true;
            match c {
                '\\' => word.extend(letters.next()),
                c => word.push(c),
            }
        }
        if is_word {
            words.push(word);
        }
    }
    words
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+=@%,~!*".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut quoted = String::from('"');
    for c in word.chars() {
        if c == '"' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn a_host_has_its_login_and_another_one_that_of_all() {
        let text = "# mine\nmachine A.example login ada # x\n  password \"s \\\"p\"\nmacdef init\ncd /\nlogin no\n\n\
                    machine b account q password p#1 login bob\ndefault login any password one\n";
        let netrc = Netrc::read(text);
        assert_eq!(netrc.find("a.example"), Some(&login("ada", "s \"p")));
        assert_eq!(netrc.find("b"), Some(&login("bob", "p#1")));
        assert_eq!(netrc.find("c"), Some(&login("any", "one")));
        let ours = netrc.below([("b".to_owned(), login("me", "p"))]);
        assert_eq!(ours.find("b"), Some(&login("me", "p")));
        assert_eq!(Netrc::read(&ours.write()), ours);
        assert_eq!(Netrc::read("machine a").find("a"), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read_and_what_is_written_is_the_same(
            text in "(machine|login|password|default|macdef|[ -~\n]){0,40}",
            user in "[!-~]{1,8}",
            password in "[ -~]{1,12}",
        ) {
            let _any = Netrc::read(&text);
            let netrc = Netrc::default().below([("h".to_owned(), login(&user, &password))]);
            let again = Netrc::read(&netrc.write());
            prop_assert_eq!(again.find("h"), Some(&login(&user, &password)));
        }
    }
}
