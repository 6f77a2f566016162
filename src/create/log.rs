//! What a process says while it starts, as its log has it, shown line by line as that grows.
//!
//! Knows nothing of the process.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::Shows;

/// What is read at once of a log.
const LOG_BYTES_MAX: u64 = 256 * 1024;

/// A log, and what of it was shown.
pub(super) struct Log<'a> {
    path: &'a Path,
    read: u64,
    rest: String,
    last: String,
}

impl<'a> Log<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self {
            path,
            read: 0,
            rest: String::new(),
            last: String::new(),
        }
    }

    /// The last line that was shown.
    pub(super) fn last(&self) -> &str {
        &self.last
    }

    /// Shows the lines that have come.
    pub(super) fn show(&mut self, shows: &dyn Shows) {
        let more = read_from(self.path, self.read).unwrap_or_default();
        self.read += more.len() as u64;
        self.rest += &String::from_utf8_lossy(&more);
        while let Some((line, rest)) = self.rest.split_once('\n') {
            // The clock of that process is not this one's.
            let text = line
                .strip_prefix('[')
                .and_then(|line| line.split_once("] "));
            let text = text.map_or(line, |(_, text)| text).to_owned();
            self.rest = rest.to_owned();
            if !text.is_empty() {
                shows.line(&text);
                self.last = text;
            }
        }
    }
}

fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::fs;

    struct Lines(RefCell<Vec<String>>);

    impl Shows for Lines {
        fn begin(&self, _: &str) {}
        fn detail(&self, _: &str, _: &str) {}
        fn end(&self, _: &str) {}
        fn line(&self, text: &str) {
            self.0.borrow_mut().push(text.to_owned());
        }
    }

    #[test]
    fn a_log_is_shown_line_by_line_as_it_grows() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("log");
        let (mut told, lines) = (Log::new(&log), Lines(RefCell::default()));
        told.show(&lines);
        fs::write(&log, "[  0.1 s] one\nhal").unwrap();
        told.show(&lines);
        fs::write(&log, "[  0.1 s] one\nhalf\n").unwrap();
        told.show(&lines);
        assert_eq!(*lines.0.borrow(), ["one", "half"]);
        assert_eq!(told.last(), "half");
    }
}
