//! Secrets taken out of what is shown: who logs in with an address, and what this process knows to be one.
//!
//! A leaf. Knows nothing of where a secret is from, nor of where text is shown.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// What is shorter is in too many words to be looked for.
const SECRET_BYTES_MIN: usize = 6;

/// So many spellings of secrets are known at once; then the oldest are forgotten.
const KNOWN_MAX: usize = 4096;

/// The spellings of what was learned, the longest first.
#[cfg(not(test))]
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[cfg(test)]
thread_local! {
    /// Each test knows what it has learned itself: others learn any text.
    static KNOWN: Mutex<Vec<String>> = const { Mutex::new(Vec::new()) };
}

#[cfg(not(test))]
fn with_known<T>(with: impl FnOnce(&mut Vec<String>) -> T) -> T {
    with(&mut KNOWN.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
fn with_known<T>(with: impl FnOnce(&mut Vec<String>) -> T) -> T {
    KNOWN.with(|known| with(&mut known.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// From now on this password or token is in nothing that is shown, however a tool writes it.
pub fn learn(user: &str, password: &str) {
    with_known(|known| {
        for spelling in spellings(user, password) {
            if spelling.len() >= SECRET_BYTES_MIN && !known.contains(&spelling) {
                known.push(spelling);
            }
        }
        known.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        known.truncate(KNOWN_MAX);
    });
}

/// As it is, as a URL has it, as a header and a string of JSON or Python have it.
fn spellings(user: &str, password: &str) -> Vec<String> {
    let login = format!("{user}:{password}");
    let quoted = password.escape_default().to_string();
    vec![
        password.to_owned(),
        percent_encoded(password),
        percent_encoded_by(password, |byte| format!("%{byte:02x}")),
        STANDARD.encode(&login),
        STANDARD_NO_PAD.encode(&login),
        quoted,
    ]
}

/// As a part of a URL.
pub fn percent_encoded(text: &str) -> String {
    percent_encoded_by(text, |byte| format!("%{byte:02X}"))
}

fn percent_encoded_by(text: &str, encoded: impl Fn(u8) -> String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => encoded(byte),
        })
        .collect()
}

/// A text without secrets.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let shown = without_logins(text);
    with_known(|known| {
        let mut found = known
            .iter()
            .filter(|secret| shown.contains(secret.as_str()));
        let Some(first) = found.next() else {
            return shown.clone();
        };
        let first = shown.replace(first, "***");
        let all = found.fold(first, |shown, secret| shown.replace(secret.as_str(), "***"));
        Cow::Owned(all)
    })
}

/// A line in which no address says who logs in, nor with what.
pub fn without_logins(line: &str) -> Cow<'_, str> {
    if !line.contains("://") {
        return Cow::Borrowed(line);
    }
    let mut shown = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + 3);
        shown.push_str(scheme);
        rest = after;
        if let Some(login) = login(after) {
            let is_name = scheme.ends_with("ssh://") && !login.contains(':');
            shown.push_str(if is_name { login } else { "***" });
            rest = &after[login.len()..];
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Who logs in, of an address behind its scheme, also where the password has what should have been escaped in it.
fn login(address: &str) -> Option<&str> {
    let authority = &address[..address.find(is_end).unwrap_or(address.len())];
    let until = authority.rfind('@');
    let is_name = until.is_none() && !authority.contains(':');
    // Else it may be the beginning of a token.
    if is_name && (authority.is_empty() || begins_with_host(authority)) {
        return None;
    }
    let place = until.map_or(authority, |at| &authority[at + 1..]);
    let word = &address[..address.find(char::is_whitespace).unwrap_or(address.len())];
    // A place with no port where one should be is the beginning of a password.
    let last = match has_port(place) {
        false => word.rfind('@'),
        true => {
            // Else what follows may be a path, as that of a revision is.
            let word = &word[..word.find("://").unwrap_or(word.len())];
            let mut ats = word.rmatch_indices('@');
            let host = ats.find(|(at, _)| begins_with_host(&word[at + 1..]));
            host.map(|(at, _)| at)
        }
    };
    last.max(until).map(|at| &address[..at])
}

/// Whether what may be behind the host of an address is a port, or nothing.
pub fn has_port(place: &str) -> bool {
    let name = place.rfind(']').map_or(place, |at| &place[at..]);
    let port = name.split_once(':').map_or("", |(_, port)| port);
    port.is_empty() || port.parse::<u16>().is_ok()
}

/// Whether this is the name of a machine, and no version or branch.
pub fn begins_with_host(text: &str) -> bool {
    let is_of_host = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let end = text.find(|c| !is_of_host(c)).unwrap_or(text.len());
    let name = text[..end].trim_end_matches('.');
    let is_word = |label: &str| label.len() > 1 && label.chars().all(|c| c.is_ascii_alphabetic());
    let last = name.rsplit_once('.').map(|(_, last)| last);
    text.starts_with('[')
        || name == "localhost"
        || last.is_some_and(|last| is_word(last) || last.starts_with("xn--"))
        || name.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Whether the part of an address with the host is over here.
pub fn is_end(c: char) -> bool {
    c.is_whitespace() || "/?#'\"`<>".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_logs_in_is_not_shown() {
        for (line, shown) in [
            ("no address: a@b", "no address: a@b"),
            ("https://host/a@b", "https://host/a@b"),
            ("get 'https://u:p@host/r'", "get 'https://***@host/r'"),
            ("https://token@host:80", "https://***@host:80"),
            (
                "https://a:b@c@host and http://x:y@z",
                "https://***@host and http://***@z",
            ),
            ("ssh://git@host/r", "ssh://git@host/r"),
            ("ssh://git:p@host/r", "ssh://***@host/r"),
            ("git+https://u:p@host", "git+https://***@host"),
            ("://", "://"),
            // What should have been escaped.
            ("https://u:pa/ss@host/r", "https://***@host/r"),
            ("https://u:pa?s#s'@host/r", "https://***@host/r"),
            (
                "https://u:1/s@s@h.example:80/r",
                "https://***@h.example:80/r",
            ),
            (
                "https://u:p@s/s@h.example/r@v1.0",
                "https://***@h.example/r@v1.0",
            ),
            ("https://u:/s@127.0.0.1/", "https://***@127.0.0.1/"),
            ("https://u:1/s@localhost/", "https://***@localhost/"),
            ("https://u:p%2Fs%40@host/", "https://***@host/"),
            ("https://tok/en@h.example/r", "https://***@h.example/r"),
            (
                "git+https://to?k#en@h.example/r@v1",
                "git+https://***@h.example/r@v1",
            ),
            (
                "git+https://u:p/s@host/r@v1 and https://a:1/b@h.example",
                "git+https://***@v1 and https://***@h.example",
            ),
            (
                "https://a.example:1/x,https://a:b@h",
                "https://a.example:1/x,https://***@h",
            ),
            // Nobody logs in here.
            (
                "https://forge/own/r.git@v1.0",
                "https://forge/own/r.git@v1.0",
            ),
            ("file:///srv/a@h.example", "file:///srv/a@h.example"),
            (
                "git+https://h.example/r@v1.0",
                "git+https://h.example/r@v1.0",
            ),
            ("http://host:3000/r@main", "http://host:3000/r@main"),
            (
                "http://h.example:3000/@x/r@1.0rc1",
                "http://h.example:3000/@x/r@1.0rc1",
            ),
            ("http://[::1]:80/r@v1", "http://[::1]:80/r@v1"),
            ("ssh://git@host/r@v1", "ssh://git@host/r@v1"),
        ] {
            assert_eq!(without_logins(line), shown);
        }
    }

    #[test]
    fn a_secret_is_known_however_its_percents_are_written() {
        learn("u", "Plan/Ted+X");
        assert_eq!(redacted("Plan%2fTed%2bX Plan%2FTed%2BX"), "*** ***");
    }

    #[test]
    fn the_longer_of_two_secrets_goes_first() {
        learn("u", "pl4nted");
        learn("u", "pl4nted-and-more");
        assert_eq!(redacted("x pl4nted-and-more pl4nted"), "x *** ***");
        // Too short to be known from a word.
        learn("u", "it");
        assert_eq!(redacted("it is it"), "it is it");
    }

    proptest! {
        #[test]
        fn what_was_learned_is_in_no_spelling(
            password in "[!-~]{6,20}ß?",
            user in "[a-z]{1,8}",
            before in "[A-Za-z ]{0,10}",
        ) {
            // Words of the text itself are no secrets.
            prop_assume!(!password.chars().all(|c| c.is_ascii_alphanumeric() || c == '*'));
            learn(&user, &password);
            for spelling in spellings(&user, &password) {
                let text = format!("{before} {spelling} after");
                prop_assert!(!redacted(&text).contains(&spelling), "{text}");
            }
        }

        #[test]
        fn no_secret_is_left_whatever_is_around(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before} https://ada:SECRET@host/{after}");
            prop_assert!(!redacted(&line).contains("SECRET"));
        }

        #[test]
        fn no_password_is_shown_whatever_is_in_it(
            begin in "[!-~]{0,12}",
            end in "[!-~]{0,12}",
            after in "[ -~]{0,20}",
        ) {
            prop_assume!(![&begin, &end, &after].iter().any(|part| part.contains("://")));
            let line = format!("git+https://ada:{begin}SECRET{end}@h.example/{after}");
            let shown = without_logins(&line);
            prop_assert!(!shown.contains("SECRET"), "{shown}");
        }

        #[test]
        fn any_line_is_taken_without_a_panic(line in "(://|@|:|/|\\[|\\]|[a-z0-9.]|ß| ){0,30}") {
            let _ = without_logins(&line);
        }
    }
}
