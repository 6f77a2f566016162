//! Copies of what cells write to stdout and stderr, in files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::output;
use crate::error::Error;
use crate::protocol::message::{HeaderPeek, Message};

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Writes what cells say on stdout into a file as well
    #[arg(long, value_name = "FILE")]
    stdout_file: Option<PathBuf>,
    /// Writes what cells say on stderr into a file as well
    #[arg(long, value_name = "FILE")]
    stderr_file: Option<PathBuf>,
}

impl Files {
    /// Makes them anew.
    pub(super) fn open(&self) -> Result<Streams, Error> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Copy::open).transpose();
        Ok(Streams {
            stdout: open(&self.stdout_file)?,
            stderr: open(&self.stderr_file)?,
        })
    }
}

/// The files of a run.
#[derive(Debug)]
pub(super) struct Streams {
    stdout: Option<Copy>,
    stderr: Option<Copy>,
}

#[derive(Debug)]
struct Copy {
    path: PathBuf,
    file: File,
}

impl Copy {
    fn open(path: &Path) -> Result<Self, Error> {
        let file = File::create(path)
            .map_err(|error| Error::user(format!("{}: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

#[derive(Deserialize)]
struct Stream<'a> {
    name: &'a str,
    text: String,
}

impl Streams {
    /// Writes what a message of iopub says; a file that cannot be written any more is left, and that is said.
    pub(super) fn write(&mut self, message: &Message) {
        if self.stdout.is_none() && self.stderr.is_none() {
            return;
        }
        let header = HeaderPeek::read(&message.header);
        if header.is_none_or(|header| header.msg_type != "stream") {
            return;
        }
        let Ok(stream) = serde_json::from_slice::<Stream<'_>>(&message.content) else {
            return;
        };
        let copy = match stream.name {
            "stdout" => &mut self.stdout,
            _ => &mut self.stderr,
        };
        if let Some(to) = copy
            && let Err(error) = to.file.write_all(stream.text.as_bytes())
        {
            output::warn(&format!("{}: {error}", to.path.display()));
            *copy = None;
        }
    }
}
