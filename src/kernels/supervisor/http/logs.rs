//! `GET /v1/logs/{stdout|stderr}?after=&bytes=`: what the kernel's process wrote itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use hyper::StatusCode;
use tokio::task::spawn_blocking;

use super::respond::{Response, error, json};
use super::{Api, not_found, parameter};
use crate::kernels::contract::{LogPiece, file};

const BYTES: u64 = 64 * 1024;
/// As JSON at most six times that, which its readers still take.
const BYTES_MAX: u64 = 512 * 1024;

/// The longest character has four bytes.
const CHARACTER_BYTES_MAX: usize = 4;

pub(super) async fn answer(api: &Api, stream: &str, query: &str) -> Response {
    if ![file::STDOUT, file::STDERR].contains(&stream) {
        return not_found("there is stdout and stderr");
    }
    let number = |name| parameter(query, name).map(str::parse::<u64>).transpose();
    let (Ok(after), Ok(bytes)) = (number("after"), number("bytes")) else {
        let message = "after and bytes are whole numbers";
        return error(StatusCode::BAD_REQUEST, "BadQuery", message);
    };
    let path = api.record.folder().join(stream);
    let bytes = bytes.unwrap_or(BYTES).clamp(1, BYTES_MAX);
    match spawn_blocking(move || piece(&path, after, bytes)).await {
        Ok(Ok(piece)) => json(StatusCode::OK, &piece),
        Ok(Err(failed)) => unread(&failed.to_string()),
        Err(failed) => unread(&failed.to_string()),
    }
}

fn unread(why: &str) -> Response {
    let message = format!("what the kernel wrote cannot be read: {why}");
    error(StatusCode::SERVICE_UNAVAILABLE, "NotRead", &message)
}

/// A piece that begins and ends between two characters.
fn piece(path: &Path, after: Option<u64>, bytes: u64) -> io::Result<LogPiece> {
    let mut file = match File::open(path) {
        // It has not been started yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (text, after, lost) = (String::new(), 0, 0);
            return Ok(LogPiece { text, after, lost });
        }
        file => file?,
    };
    let length = file.metadata()?.len();
    // It may have been emptied since.
    let asked = after.map_or(length.saturating_sub(bytes), |after| after.min(length));
    // What was trimmed is a hole.
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(asked));
    let from = data.unwrap_or(asked);
    file.seek(SeekFrom::Start(from))?;
    let mut content = Vec::new();
    file.take(bytes).read_to_end(&mut content)?;
    let begin = match after {
        Some(after) if after == from => 0,
        // In the middle of a text nothing is known of where characters begin.
        _ if from > 0 => (content.iter().take(CHARACTER_BYTES_MAX - 1))
            .take_while(|byte| **byte & 0xC0 == 0x80)
            .count(),
        _ => 0,
    };
    let read = from + content.len() as u64;
    let is_end = read >= length;
    let end = content.len() - if is_end { 0 } else { unfinished(&content) };
    Ok(LogPiece {
        text: String::from_utf8_lossy(content.get(begin..end).unwrap_or_default()).into_owned(),
        after: from + end as u64,
        lost: from - asked,
    })
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(content: &[u8]) -> usize {
    let last = content.len().saturating_sub(CHARACTER_BYTES_MAX - 1);
    let tail = &content[last..];
    match str::from_utf8(tail) {
        Err(error) if error.error_len().is_none() => tail.len() - error.valid_up_to(),
        // It begins within a character: look behind that.
        Err(_) => {
            let inner = tail.iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
            match str::from_utf8(&tail[inner..]) {
                Err(error) if error.error_len().is_none() => {
                    tail.len() - inner - error.valid_up_to()
                }
                _ => 0,
            }
        }
        Ok(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn the_end_is_shown_and_then_what_comes_after_it() {
        let (_folder, path) = file(b"one\ntwo\n");
        let end = piece(&path, None, 4).unwrap();
        assert_eq!((&*end.text, end.after, end.lost), ("two\n", 8, 0));
        let next = piece(&path, Some(end.after), 4).unwrap();
        assert_eq!((&*next.text, next.after), ("", 8));
        let all = piece(&path, Some(0), 100).unwrap();
        assert_eq!(all.text, "one\ntwo\n");
        // It was emptied meanwhile.
        assert_eq!(piece(&path, Some(1000), 4).unwrap().after, 8);
        let none = piece(&path.with_file_name("none"), None, 4).unwrap();
        assert_eq!((&*none.text, none.after), ("", 0));
    }

    #[test]
    fn what_was_trimmed_is_counted_and_not_shown() {
        let (_folder, path) = file(&[b'x'; 65536]);
        let open = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&open, flags, 0, 32768).is_err() {
            return;
        }
        let rest = piece(&path, Some(0), 100_000).unwrap();
        assert_eq!((rest.lost, rest.after), (32768, 65536));
        assert_eq!(rest.text, "x".repeat(32768));
    }

    proptest! {
        /// However it is cut into pieces, whole characters come out.
        #[test]
        fn characters_are_never_cut(text in "[a-zé€😀\n]{0,40}", bytes in 4_u64..9) {
            let (_folder, path) = file(text.as_bytes());
            let (mut shown, mut after) = (String::new(), 0);
            while after < text.len() as u64 {
                let piece = piece(&path, Some(after), bytes).unwrap();
                prop_assert!(piece.after > after);
                shown += &piece.text;
                after = piece.after;
            }
            prop_assert_eq!(&shown, &text);
            let end = piece(&path, None, bytes).unwrap().text;
            prop_assert!(text.ends_with(&end), "{}", end);
        }
    }
}
