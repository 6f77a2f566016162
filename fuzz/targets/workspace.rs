#![no_main]
//! What makes a workspace: what its user asks for, and what git prints of repositories that are somebody else's. The first byte says which.

use libfuzzer_sys::fuzz_target;
use nb::env::workspace::{Asked, Planned, look, name, remote};

/// In no folder of this machine, and in nothing that is shown.
const SECRET: &str = "S3CRET-pw";

fuzz_target!(|data: &[u8]| {
    let [kind, data @ ..] = data else { return };
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match kind {
        b'u' => planned(text, None),
        b'l' => planned(&format!("https://ada:{SECRET}@{text}"), None),
        b'n' => planned("https://host/x", Some(text)),
        b'p' => {
            if let Some(folder) = name::folder(text) {
                assert!(!folder.starts_with(['/', '-']) && !folder.contains('\n'));
                assert!(
                    folder
                        .split('/')
                        .all(|part| !["", ".", "..", ".git"].contains(&part))
                );
            }
        }
        b'r' => {
            for wanted in [
                None,
                Some("main"),
                Some(text.lines().next().unwrap_or_default()),
            ] {
                if let Some(found) = remote::Found::read(text, wanted) {
                    for name in [Some(found.reference.name()), found.default.as_deref()] {
                        let name = name.unwrap_or("none");
                        assert!(
                            !name.starts_with('-') && !name.contains([' ', ':', '*']),
                            "{name}"
                        );
                    }
                }
            }
        }
        b's' => {
            let look = look::read_status(text);
            let entries = text.split('\0').count() as u64;
            assert!(look.changed + look.untracked <= entries);
            assert_eq!(look.losses().is_empty(), look.changed + look.untracked == 0);
        }
        _ => {}
    }
});

/// A name is a folder beside the others, and no login is shown.
fn planned(url: &str, name: Option<&str>) {
    let asked = Asked {
        url,
        name,
        reference: None,
        paths: &[],
    };
    match Planned::read(&asked) {
        Ok(planned) => {
            assert!(!planned.name.is_empty() && !planned.name.starts_with(['.', '-']));
            assert!(!planned.name.contains(['/', '\\', '\n', ' ']));
            assert!(!format!("{planned:?}").contains(SECRET), "{planned:?}");
        }
        Err(error) => assert!(!error.message.contains(SECRET), "{error}"),
    }
}
