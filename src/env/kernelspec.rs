//! The kernelspecs that nb brings, `kernelspecs/<name>/`, carried in this binary and written where the gateway finds
//! those of nb's own: `kernels/<name>/` in its data folder.
//!
//! A file is replaced whole, `kernel.json` last, so whoever looks sees the old spec or the new one. Knows nothing of
//! what is in an environment.

use std::fs;
use std::path::{Path, PathBuf};

use super::whole::replace;
use crate::config::private_folder;
use crate::error::Error;
use crate::protocol::kernelspec::KernelSpec;

/// A kernelspec as it is carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    /// Its name, and that of its folder.
    pub(super) name: &'static str,
    spec: &'static [u8],
    logos: [(&'static str, &'static [u8]); 3],
}

macro_rules! template {
    ($name:literal) => {
        Template {
            name: $name,
            spec: file!($name, "kernel.json"),
            logos: [
                ("logo-svg.svg", file!($name, "logo-svg.svg")),
                ("logo-32x32.png", file!($name, "logo-32x32.png")),
                ("logo-64x64.png", file!($name, "logo-64x64.png")),
            ],
        }
    };
}

macro_rules! file {
    ($name:literal, $file:literal) => {
        include_bytes!(concat!("../../kernelspecs/", $name, "/", $file))
    };
}

pub(super) const PYCX: Template = template!("pycx");
pub(super) const PIP: Template = template!("pip");
const PEX: Template = template!("pex");
const SCALA: Template = template!("scala");

/// Where the gateway finds the kernelspecs of nb's own, under nb's data folder.
pub fn own_kernelspecs(data: &Path) -> PathBuf {
    data.join("kernels")
}

/// Writes those that need nothing to be made before.
pub fn install_kernelspecs(data: &Path) -> Result<(), Error> {
    for template in [PIP, PEX] {
        template.write(&template.spec()?, data)?;
    }
    let mut scala = SCALA.spec()?;
    let data_absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    be_own(&mut scala, &own_program()?, &data_absolute);
    SCALA.write(&scala, data)
}

/// Fills in what is run: this program, and where it finds its things.
fn be_own(spec: &mut KernelSpec, program: &Path, data: &Path) {
    if let Some(first) = spec.argv.first_mut() {
        *first = program.to_string_lossy().into_owned();
    }
    for argument in &mut spec.argv {
        *argument = argument.replace("{data}", &data.to_string_lossy());
    }
}

/// Where this program lies, also when its file was replaced since it was started.
fn own_program() -> Result<PathBuf, Error> {
    let failed =
        |error: std::io::Error| Error::nb(format!("nb does not find its own file: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let path = program.to_string_lossy();
    Ok(path
        .strip_suffix(" (deleted)")
        .map_or_else(|| program.clone(), PathBuf::from))
}

impl Template {
    /// What is said in it before it is filled in.
    pub(super) fn spec(&self) -> Result<KernelSpec, Error> {
        KernelSpec::decode(self.spec)
            .map_err(|error| Error::nb(format!("the kernelspec {}: {error}", self.name)))
    }

    /// Writes it with this content.
    pub(super) fn write(&self, spec: &KernelSpec, data: &Path) -> Result<(), Error> {
        self.write_as(self.name, spec, data)
    }

    /// Writes another one of its kind, with its logos.
    pub(super) fn write_as(&self, name: &str, spec: &KernelSpec, data: &Path) -> Result<(), Error> {
        let kernels = own_kernelspecs(data);
        private_folder(data)?;
        private_folder(&kernels)?;
        let folder = kernels.join(name);
        private_folder(&folder)?;
        let text = serde_json::to_vec_pretty(spec)
            .map_err(|error| Error::nb(format!("the kernelspec {}: {error}", self.name)))?;
        let files = self.logos.into_iter().chain([("kernel.json", &text[..])]);
        for (name, content) in files {
            replace(&folder.join(name), content).map_err(|error| {
                Error::user(format!("{} cannot be written: {error}", folder.display()))
            })?;
        }
        Ok(())
    }

    /// What is written; nothing where that is no kernelspec.
    pub(super) fn written(&self, data: &Path) -> Option<KernelSpec> {
        let file = own_kernelspecs(data).join(self.name).join("kernel.json");
        KernelSpec::decode(&fs::read(file).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scala_kernel_is_this_program_with_this_data() {
        let data = tempfile::tempdir().unwrap();
        install_kernelspecs(data.path()).unwrap();
        let spec = SCALA.written(data.path()).unwrap();
        assert!(Path::new(&spec.argv[0]).is_absolute(), "{:?}", spec.argv);
        let folder = data.path().to_string_lossy();
        assert_eq!(spec.argv[1..4], ["scala-kernel", "--data", &*folder]);
    }

    #[test]
    fn a_spec_is_written_whole_and_read_back() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(PYCX.written(data.path()), None);
        let mut spec = PYCX.spec().unwrap();
        spec.display_name = "Mine".to_owned();
        PYCX.write(&spec, data.path()).unwrap();
        assert_eq!(PYCX.written(data.path()), Some(spec));
        let files = fs::read_dir(data.path().join("kernels/pycx")).unwrap();
        assert_eq!(files.count(), 4);
    }
}
