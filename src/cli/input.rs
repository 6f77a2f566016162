//! Text that somebody gives a command: a file, a pipe or stdin, which may have any length.

use std::io::Read;

/// All of it as text; an error is what is wrong with it.
pub(super) fn text(from: impl Read, bytes_max: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = from.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("is over {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
