//! Who logs in with an address, taken out of what is shown. Pure.

use std::borrow::Cow;

/// A line in which no address says who logs in, nor with what.
pub(super) fn redacted(line: &str) -> Cow<'_, str> {
    if !line.contains("://") {
        return Cow::Borrowed(line);
    }
    let mut shown = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + 3);
        let authority = &after[..after.find(is_end).unwrap_or(after.len())];
        shown.push_str(scheme);
        rest = after;
        if let Some((login, _)) = authority.rsplit_once('@') {
            let is_name = scheme.ends_with("ssh://") && !login.contains(':');
            shown.push_str(if is_name { login } else { "***" });
            rest = &after[login.len()..];
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Whether the part of an address with the host is over here.
pub(super) fn is_end(c: char) -> bool {
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
        ] {
            assert_eq!(redacted(line), shown);
        }
    }

    proptest! {
        #[test]
        fn no_secret_is_left_whatever_is_around(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before} https://ada:SECRET@host/{after}");
            prop_assert!(!redacted(&line).contains("SECRET"));
        }
    }
}
