//! What papermill's command line has besides ours: how parameters are given and which of them win, and flags that change nothing here.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::cli::input;
use crate::error::Error;
use crate::jobs::parameters::{Parameters, Value};

/// A larger file holds no parameters.
const PARAMETERS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Those that say where the notebook is, and where it is written to.
const INPUT_PATH: &str = "PAPERMILL_INPUT_PATH";
const OUTPUT_PATH: &str = "PAPERMILL_OUTPUT_PATH";

/// The parameters of a run.
#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// A parameter: True, False, None, numbers and text are taken for what they are
    #[arg(long, short, num_args = 2, value_names = ["NAME", "VALUE"], allow_hyphen_values = true)]
    parameters: Vec<String>,
    /// A parameter whose value is text
    #[arg(long = "parameters-raw", alias = "parameters_raw", short = 'r', num_args = 2, value_names = ["NAME", "TEXT"],
          allow_hyphen_values = true)]
    raw: Vec<String>,
    /// Parameters in YAML or JSON
    #[arg(
        long = "parameters-yaml",
        alias = "parameters_yaml",
        short = 'y',
        value_name = "YAML"
    )]
    yaml: Vec<String>,
    /// Parameters in a file of YAML or JSON
    #[arg(
        long = "parameters-file",
        alias = "parameters_file",
        short = 'f',
        value_name = "FILE"
    )]
    files: Vec<PathBuf>,
    /// Parameters in YAML or JSON that is encoded in base64
    #[arg(
        long = "parameters-base64",
        alias = "parameters_base64",
        short = 'b',
        value_name = "BASE64"
    )]
    base64: Vec<String>,
    /// Gives the notebook IN and OUT as PAPERMILL_INPUT_PATH and PAPERMILL_OUTPUT_PATH
    #[arg(long)]
    inject_paths: bool,
    /// Gives it IN alone
    #[arg(long)]
    inject_input_path: bool,
    /// Gives it OUT alone
    #[arg(long)]
    inject_output_path: bool,
}

/// What is so here anyway.
#[derive(Debug, clap::Args)]
pub(super) struct Ignored {
    #[arg(long, hide = true)]
    prepare_execute: bool,
    #[arg(long, hide = true)]
    no_log_output: bool,
    #[arg(long, hide = true)]
    no_report_mode: bool,
    #[arg(long, hide = true)]
    request_save_on_cell_execute: bool,
    #[arg(long, hide = true)]
    no_request_save_on_cell_execute: bool,
    #[arg(long, hide = true, value_name = "SECONDS")]
    autosave_cell_every: Option<u64>,
    #[arg(long, hide = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Given {
    /// All of them; of a name that is given twice the one counts that is said later here.
    pub(super) fn read(&self, input: &str, output: &str) -> Result<Parameters, Error> {
        let mut all = Parameters::default();
        for (is_wanted, name, path) in [
            (self.inject_input_path, INPUT_PATH, input),
            (self.inject_output_path, OUTPUT_PATH, output),
        ] {
            if is_wanted || self.inject_paths {
                let path = Value::Text(path.to_owned());
                all.set(name, path).map_err(Error::user)?;
            }
        }
        for encoded in &self.base64 {
            decoded(encoded)
                .and_then(|text| all.set_yaml(&text))
                .map_err(|why| Error::user(format!("--parameters-base64: {why}")))?;
        }
        for file in &self.files {
            let shown = file.display();
            let text = read(file).and_then(|text| all.set_yaml(&text));
            text.map_err(|why| Error::user(format!("{shown}: {why}")))?;
        }
        for text in &self.yaml {
            all.set_yaml(text)
                .map_err(|why| Error::user(format!("--parameters-yaml: {why}")))?;
        }
        let pairs = |words: &[String]| -> Vec<(String, String)> {
            let pairs = words.chunks_exact(2);
            pairs
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect()
        };
        for (name, word) in pairs(&self.parameters) {
            all.set(&name, Value::of_word(&word)).map_err(Error::user)?;
        }
        for (name, text) in pairs(&self.raw) {
            all.set(&name, Value::Text(text)).map_err(Error::user)?;
        }
        Ok(all)
    }
}

fn decoded(encoded: &str) -> Result<String, String> {
    let bytes = BASE64_STANDARD.decode(encoded.trim());
    let bytes = bytes.map_err(|_| "it is no base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    input::text(file, PARAMETERS_BYTES_MAX)
}
