//! Which of the lines that were asked for brought a distribution: by its name, or by where it came from.
//!
//! Pure.

use crate::env::index;
use crate::env::installed::{Origin, name_of};

/// Whether this line, which names no distribution, leads to what came from there.
pub(super) fn is_from(line: &str, origin: &Origin) -> bool {
    if name_of(line).is_some() {
        return false;
    }
    let is_editable = line.starts_with("-e ");
    is_editable == origin.is_editable && place(line) == place(&origin.url)
}

/// Where it leads: a path or an address, and the folder in a repository.
fn place(line: &str) -> (String, Option<String>) {
    let line = line.strip_prefix("-e ").unwrap_or(line).trim();
    let (line, fragment) = line.split_once('#').unwrap_or((line, ""));
    let mut parts = fragment.split('&');
    let subdirectory = parts.find_map(|part| part.strip_prefix("subdirectory="));
    let mut place = index::bare(line);
    // `./own[extra]`
    if let (true, Some((bare, _))) = (place.ends_with(']'), place.rsplit_once('[')) {
        place = bare.to_owned();
    }
    if place.starts_with("git+") {
        // The commit is what a branch was then.
        let name = place.rfind('/').unwrap_or(0);
        if let Some(at) = place[name..].find('@') {
            place.truncate(name + at);
        }
    }
    let place = place.strip_prefix("file://").unwrap_or(&place);
    (
        decoded(place).trim_end_matches('/').to_owned(),
        subdirectory.map(str::to_owned),
    )
}

/// Without the `%20` of addresses.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        let (byte, after) = match (first, code) {
            (b'%', Some(code)) => (code, &more[2..]),
            _ => (*first, more),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_addresses_and_repositories_are_what_they_brought() {
        for (line, url, is_editable, is_it) in [
            ("/src/own", "file:///src/own", false, true),
            ("/src/my own/[x]", "file:///src/my%20own", false, true),
            ("/src/own", "file:///src/other", false, false),
            ("-e /src/own", "file:///src/own", true, true),
            ("-e /src/own", "file:///src/own", false, false),
            (
                "https://h/own-1.whl#sha256=0",
                "https://h/own-1.whl",
                false,
                true,
            ),
            (
                "git+https://h/r.git@main",
                "git+https://h/r.git@0123",
                false,
                true,
            ),
            ("git+https://h/r", "git+https://h/r@0123", false, true),
            (
                "git+https://h/r#subdirectory=a",
                "git+https://h/r@0123#subdirectory=b",
                false,
                false,
            ),
            ("own==1", "file:///src/own", false, false),
        ] {
            let origin = Origin {
                url: url.to_owned(),
                is_editable,
            };
            assert_eq!(is_from(line, &origin), is_it, "{line} {url}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_taken_without_a_panic(line in "[a%20@/#é\\[\\]:+git]{0,30}") {
            place(&line);
        }
    }
}
